#include "agent/confined_program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>

#include <csignal>
#include <cstring>

#include "agent/relay_order.h"
#include "base/file.h"
#include "base/syscalls.h"
#include "netns/namespace.h"

namespace agent {

using base::Result;
using base::Status;

namespace {

Result<base::OwnedPid> spawn(const ConfinedOptions& options, int control, int root) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
  // Out of the way first: either may have the other's number.
  constexpr int kParked = 900;
  ::posix_spawn_file_actions_adddup2(&actions, control, kParked);
  ::posix_spawn_file_actions_adddup2(&actions, root, kParked + 1);
  ::posix_spawn_file_actions_adddup2(&actions, kParked, kRelayControlFd);
  ::posix_spawn_file_actions_adddup2(&actions, kParked + 1, kRelayRootFd);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, kRelayRootFd + 1);
  std::string program = options.program;
  std::string uid = "--uid=" + std::to_string(options.uid);
  char* arguments[] = {program.data(), uid.data(), nullptr};
  char* environment[] = {nullptr};
  pid_t pid = -1;
  const int error =
      ::posix_spawn(&pid, program.c_str(), &actions, &attributes, arguments, environment);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    return base::fail(base::Error("start", error, options.program));
  }
  return base::OwnedPid(pid, base::UniqueFd(base::pidfd_open(pid)));
}

}  // namespace

Result<ConfinedProgram> start_confined(const ConfinedOptions& options) {
  BROOD_CHECK(base::make_directories(options.empty_dir, 0555));
  BROOD_TRY(const base::UniqueFd root,
            base::open_at(AT_FDCWD, options.empty_dir, O_RDONLY | O_DIRECTORY));
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::fail_errno("socketpair");
  }
  ConfinedProgram program;
  program.control.reset(ends[0]);
  const base::UniqueFd theirs(ends[1]);
  const auto spawn_there = [&]() -> Status {
    BROOD_TRY(program.process, spawn(options, theirs.get(), root.get()));
    return {};
  };
  BROOD_CHECK(options.netns_fd < 0 ? spawn_there()
                                   : netns::run_inside(options.netns_fd, spawn_there));
  return program;
}

Status send_message(int control, const void* message, std::size_t size, int fd,
                    WhenFull when_full) {
  iovec piece{const_cast<void*>(message), size};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    header.msg_control = room;
    header.msg_controllen = sizeof room;
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  const int flags = when_full == WhenFull::wait ? 0 : MSG_DONTWAIT;
  if (::sendmsg(control, &header, MSG_NOSIGNAL | flags) < 0) {
    return base::fail_errno("sendmsg", "to a confined program");
  }
  return {};
}

}  // namespace agent
