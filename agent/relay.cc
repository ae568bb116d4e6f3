#include "agent/relay.h"

#include <fcntl.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/file.h"
#include "base/syscalls.h"
#include "netns/namespace.h"

namespace agent {

using base::Status;

namespace {

RelayOrder order_of(RelayKind kind, std::uint64_t group, const RelayTarget& target) {
  RelayOrder order{};
  order.kind = kind;
  order.group = group;
  order.port = target.port;
  order.family = static_cast<std::uint32_t>(target.address.family);
  std::memcpy(order.address, target.address.bytes.data(), sizeof order.address);
  return order;
}

}  // namespace

Status Relay::serve(RelayKind kind, std::uint64_t group, const RelayTarget& target,
                    base::UniqueFd socket) {
  services_.push_back({order_of(kind, group, target), std::move(socket)});
  return send_or_restart(services_.back().order, services_.back().socket.get());
}

Status Relay::set_target(std::uint64_t group, const RelayTarget& target) {
  for (Service& service : services_) {
    if (service.order.group == group) {
      service.order = order_of(service.order.kind, group, target);
    }
  }
  return send_or_restart(order_of(RelayKind::target, group, target), -1);
}

void Relay::forget(std::uint64_t group) {
  const auto erased =
      std::erase_if(services_, [&](const Service& one) { return one.order.group == group; });
  if (erased > 0) {
    (void)send(order_of(RelayKind::forget, group, {}), -1);
  }
}

Status Relay::look_after() {
  if (services_.empty() || (process_ && !process_.ref().ended())) {
    return {};
  }
  spdlog::warn("brood-relay has ended; it is started again");
  return start();
}

// Everything is told again: a new one knows nothing.
Status Relay::start() {
  BROOD_CHECK(base::make_directories(options_.empty_dir, 0555));
  BROOD_TRY(const base::UniqueFd root,
            base::open_at(AT_FDCWD, options_.empty_dir, O_RDONLY | O_DIRECTORY));
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::fail_errno("socketpair");
  }
  control_.reset(ends[0]);
  const base::UniqueFd theirs(ends[1]);
  const auto spawn_there = [&] { return spawn(theirs.get(), root.get()); };
  BROOD_CHECK(options_.netns_fd < 0 ? spawn_there()
                                    : netns::run_inside(options_.netns_fd, spawn_there));
  for (const Service& service : services_) {
    BROOD_CHECK(send(service.order, service.socket.get()));
  }
  return {};
}

Status Relay::spawn(int control, int root) {
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
  std::string program = options_.program;
  std::string uid = "--uid=" + std::to_string(options_.uid);
  char* arguments[] = {program.data(), uid.data(), nullptr};
  char* environment[] = {nullptr};
  pid_t pid = -1;
  const int error =
      ::posix_spawn(&pid, program.c_str(), &actions, &attributes, arguments, environment);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    return base::fail(base::Error("start the relay", error, options_.program));
  }
  process_ = base::OwnedPid(pid, base::UniqueFd(base::pidfd_open(pid)));
  return {};
}

Status Relay::send_or_restart(const RelayOrder& order, int fd) {
  return control_ && send(order, fd) ? Status{} : start();
}

Status Relay::send(const RelayOrder& order, int fd) {
  iovec piece{const_cast<RelayOrder*>(&order), sizeof order};
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
  if (::sendmsg(control_.get(), &header, MSG_NOSIGNAL) < 0) {
    return base::fail_errno("tell the relay");
  }
  return {};
}

}  // namespace agent
