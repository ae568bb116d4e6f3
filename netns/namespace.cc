#include "netns/namespace.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <thread>

#include "base/file.h"
#include "base/process.h"

namespace netns {

base::Result<base::UniqueFd> open_of_pid(pid_t pid) {
  return base::open_at(AT_FDCWD, "/proc/" + std::to_string(pid) + "/ns/net", O_RDONLY);
}

base::Result<base::UniqueFd> open_of_pidfd(int pidfd) {
  const pid_t pid = base::pid_of(pidfd);
  if (pid <= 0) {
    return base::fail(base::Error("open the network namespace of a process", ESRCH));
  }
  auto opened = open_of_pid(pid);
  // The number may have been given away between the two steps; a pidfd that still has it had it
  // all along.
  if (base::pid_of(pidfd) != pid) {
    return base::fail(
        base::Error("open the network namespace of a process", ESRCH, std::to_string(pid)));
  }
  return opened;
}

base::Result<base::UniqueFd> open_own() {
  return base::open_at(AT_FDCWD, "/proc/thread-self/ns/net", O_RDONLY);
}

base::Result<std::uint64_t> identity(int netns_fd) {
  struct stat info {};
  if (::fstat(netns_fd, &info) != 0) {
    return base::fail_errno("fstat", "network namespace");
  }
  return static_cast<std::uint64_t>(info.st_ino);
}

namespace {

// A thread that has changed its namespace is no use to anybody else.
base::Status on_a_thread(const std::function<base::Status()>& work) {
  base::Status result;
  try {
    std::thread([&] { result = work(); }).join();
  } catch (const std::system_error& error) {
    return base::fail(base::Error("start a thread", error.code().value()));
  }
  return result;
}

}  // namespace

base::Result<base::UniqueFd> make() {
  base::UniqueFd made;
  BROOD_CHECK(on_a_thread([&]() -> base::Status {
    if (::unshare(CLONE_NEWNET) != 0) {
      return base::fail_errno("unshare", "network namespace");
    }
    BROOD_TRY(made, open_own());
    return {};
  }));
  return made;
}

base::Status run_inside(int netns_fd, const std::function<base::Status()>& work) {
  return on_a_thread([&]() -> base::Status {
    if (::setns(netns_fd, CLONE_NEWNET) != 0) {
      return base::fail_errno("setns", "network namespace");
    }
    return work();
  });
}

}  // namespace netns
