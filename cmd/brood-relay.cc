// brood-relay: carries bytes between sockets that the agent has made. Started by the agent
// (agent/relay.h), not by people: as root, with the agent's orders on descriptor 3 and an empty
// folder on 4. It leaves when the agent closes its end.
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>

#include "agent/relay_order.h"
#include "base/fd.h"
#include "cmd/relay_carry.h"
#include "cmd/relay_confine.h"

namespace {

namespace asio = boost::asio;
using agent::RelayKind;
using agent::RelayOrder;

cmd::RelayAddress address_of(const RelayOrder& order) {
  cmd::RelayAddress target;
  target.port = static_cast<std::uint16_t>(order.port);
  if (order.family == AF_INET) {
    asio::ip::address_v4::bytes_type bytes;
    std::memcpy(bytes.data(), order.address, bytes.size());
    target.address = asio::ip::address_v4(bytes);
  } else {
    asio::ip::address_v6::bytes_type bytes;
    std::memcpy(bytes.data(), order.address, bytes.size());
    target.address = asio::ip::address_v6(bytes);
  }
  return target;
}

bool is_ipv6(int socket) {
  int domain = AF_INET;
  socklen_t size = sizeof domain;
  (void)::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &size);
  return domain == AF_INET6;
}

class Groups {
 public:
  explicit Groups(asio::io_context& loop) : loop_(loop) {}

  void obey(const RelayOrder& order, base::UniqueFd socket) {
    switch (order.kind) {
      case RelayKind::tcp:
      case RelayKind::udp:
        return serve(order, std::move(socket));
      case RelayKind::target:
        groups_[order.group].target = address_of(order);
        return;
      case RelayKind::forget:
        forget(order.group);
        return;
    }
  }

 private:
  struct Group {
    cmd::RelayAddress target;  // of the whole group, once it was said
    std::vector<std::shared_ptr<cmd::Carrier>> carriers;
  };

  void serve(const RelayOrder& order, base::UniqueFd socket) {
    if (!socket) {
      return;
    }
    const bool ipv6 = is_ipv6(socket.get());
    const auto target = [this, group = order.group, own = address_of(order)] {
      const cmd::RelayAddress& later = groups_[group].target;
      return later.port != 0 ? later : own;
    };
    const cmd::CarryRequest request{loop_, socket.release(), ipv6, target};
    groups_[order.group].carriers.push_back(order.kind == RelayKind::tcp ? cmd::carry_tcp(request)
                                                                         : cmd::carry_udp(request));
  }

  void forget(std::uint64_t number) {
    if (auto group = groups_.extract(number)) {
      for (const auto& carrier : group.mapped().carriers) {
        carrier->close();
      }
    }
  }

  asio::io_context& loop_;
  std::map<std::uint64_t, Group> groups_;
};

// The order, and what came with it; nothing where the agent has gone.
std::optional<std::pair<RelayOrder, base::UniqueFd>> next_order() {
  RelayOrder order{};
  iovec piece{&order, sizeof order};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = room;
  header.msg_controllen = sizeof room;
  if (::recvmsg(agent::kRelayControlFd, &header, MSG_CMSG_CLOEXEC) != sizeof order) {
    return std::nullopt;
  }
  base::UniqueFd socket;
  if (const cmsghdr* rights = CMSG_FIRSTHDR(&header);
      rights != nullptr && rights->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    socket.reset(fd);
  }
  return std::pair(order, std::move(socket));
}

void listen(asio::posix::stream_descriptor& control, asio::io_context& loop, Groups& groups) {
  control.async_wait(asio::posix::stream_descriptor::wait_read,
                     [&](const boost::system::error_code& error) {
                       auto order = error ? std::nullopt : next_order();
                       if (!order) {
                         return loop.stop();
                       }
                       groups.obey(order->first, std::move(order->second));
                       listen(control, loop, groups);
                     });
}

int run(uid_t uid) {
  asio::io_context loop(1);
  asio::posix::stream_descriptor control(loop, agent::kRelayControlFd);
  Groups groups(loop);
  // Its timers' descriptor is made with the first of them, and could not be made any more.
  asio::steady_timer first(loop);
  first.expires_after(std::chrono::seconds(0));
  first.async_wait([](const boost::system::error_code&) {});
  loop.poll();
  loop.restart();
  if (const auto confined = cmd::confine_relay(uid, agent::kRelayRootFd); !confined) {
    std::fprintf(stderr, "brood-relay: %s\n", confined.error().message().c_str());
    return 1;
  }
  ::close(agent::kRelayRootFd);
  listen(control, loop, groups);
  loop.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view argument = argc == 2 ? argv[1] : "";
  constexpr std::string_view kUid = "--uid=";
  uid_t uid = 0;
  if (argument.starts_with(kUid)) {
    std::from_chars(argument.data() + kUid.size(), argument.data() + argument.size(), uid);
  }
  if (uid == 0) {
    std::fputs("brood-relay is started by broodd\n", stderr);
    return 2;
  }
  ::_exit(run(uid));
}
