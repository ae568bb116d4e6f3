// Processes by pidfd: a pid can be reused, a pidfd cannot.
#pragma once

#include <sys/types.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fd.h"

namespace base {

// How a process ended, as waitid(2) tells it.
struct ProcessEnd {
  int code = 0;    // CLD_EXITED, CLD_KILLED or CLD_DUMPED
  int status = 0;  // exit status, or the signal
  bool exited_with(int expected) const { return code == CLD_EXITED && status == expected; }
};

// A process that somebody else waits for (or that has none to wait for it): can be signalled and
// polled.
class PidRef {
 public:
  PidRef() = default;
  // Takes the pidfd. `pid` is the number in the caller's pid namespace, for logs only.
  PidRef(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}

  explicit operator bool() const { return static_cast<bool>(pidfd_); }
  pid_t pid() const { return pid_; }
  int fd() const { return pidfd_.get(); }  // readable once the process has ended
  // ESRCH, the process is gone already, is success.
  Status signal(int number) const;
  bool ended() const;

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

// The number, in the caller's pid namespace, of the process behind a pidfd (from
// /proc/self/fdinfo); -1 when it has ended.
pid_t pid_of(int pidfd);

// A child of this process. Killed and reaped on destruction.
class OwnedPid {
 public:
  OwnedPid() = default;
  OwnedPid(pid_t pid, UniqueFd pidfd) : ref_(pid, std::move(pidfd)) {}
  OwnedPid(OwnedPid&& other) noexcept : ref_(std::exchange(other.ref_, PidRef())) {}
  OwnedPid& operator=(OwnedPid&& other) noexcept;
  OwnedPid(const OwnedPid&) = delete;
  OwnedPid& operator=(const OwnedPid&) = delete;
  ~OwnedPid();

  explicit operator bool() const { return static_cast<bool>(ref_); }
  const PidRef& ref() const { return ref_; }
  pid_t pid() const { return ref_.pid(); }
  // Waits until the child has ended, and reaps it.
  Result<ProcessEnd> wait();
  // Kills it and waits; also where its descriptor cannot be used for that, which then is the error.
  Result<ProcessEnd> kill();

 private:
  PidRef ref_;
};

}  // namespace base
