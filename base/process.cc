#include "base/process.h"

#include <poll.h>
#include <signal.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include "base/file.h"
#include "base/syscalls.h"

namespace base {

Status PidRef::signal(int number) const {
  if (pidfd_send_signal(pidfd_.get(), number) != 0 && errno != ESRCH) {
    return fail_errno("pidfd_send_signal", std::to_string(pid_));
  }
  return {};
}

bool PidRef::ended() const {
  pollfd poll{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&poll, 1, 0) == 1;
}

pid_t pid_of(int pidfd) {
  const auto info = read_file("/proc/self/fdinfo/" + std::to_string(pidfd));
  if (!info) {
    return -1;
  }
  const auto at = info->find("\nPid:");
  return at == std::string::npos ? -1 : static_cast<pid_t>(std::atol(info->c_str() + at + 5));
}

OwnedPid& OwnedPid::operator=(OwnedPid&& other) noexcept {
  if (this != &other) {
    OwnedPid old(std::move(*this));
    ref_ = std::exchange(other.ref_, PidRef());
  }
  return *this;
}

OwnedPid::~OwnedPid() {
  if (ref_) {
    (void)kill();
  }
}

// A child that nobody has reaped keeps its number, so that this is it.
Result<ProcessEnd> OwnedPid::kill() {
  const Status told = ref_.signal(SIGKILL);
  if (!told) {
    (void)::kill(ref_.pid(), SIGKILL);
  }
  auto end = wait();
  return told ? std::move(end) : Result<ProcessEnd>(fail(told.error()));
}

Result<ProcessEnd> OwnedPid::wait() {
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(ref_.fd()), &info, WEXITED) != 0) {
    if (errno != EINTR) {
      auto error = Error::from_errno("waitid", std::to_string(ref_.pid()));
      ref_ = PidRef();
      return fail(std::move(error));
    }
  }
  ref_ = PidRef();
  return ProcessEnd{.code = info.si_code, .status = info.si_status};
}

}  // namespace base
