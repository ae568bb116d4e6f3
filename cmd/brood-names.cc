// brood-names: answers the sandboxes of one policy the names that its allow-list has. Started by
// the agent (agent/names.h), not by people: as root, with the agent's orders on descriptor 3 and an
// empty folder on 4. It leaves when the agent closes its end.
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>

#include "agent/names_order.h"
#include "agent/relay_order.h"
#include "base/fd.h"
#include "cmd/names_server.h"
#include "cmd/relay_confine.h"

namespace {

namespace asio = boost::asio;
using agent::NamesKind;
using agent::NamesOrder;
using agent::NamesReport;
using asio::ip::udp;

udp::endpoint resolver_of(const NamesOrder& order) {
  const auto port = static_cast<std::uint16_t>(order.port);
  if (order.family == AF_INET) {
    asio::ip::address_v4::bytes_type bytes;
    std::memcpy(bytes.data(), order.address, bytes.size());
    return {asio::ip::address_v4(bytes), port};
  }
  asio::ip::address_v6::bytes_type bytes;
  std::memcpy(bytes.data(), order.address, bytes.size());
  return {asio::ip::address_v6(bytes), port};
}

bool report(std::uint64_t question, const std::string& name, const cmd::DnsAnswer& answer) {
  static_assert(cmd::kMostDnsAddresses <= agent::kMostAnswered);
  NamesReport said{};
  said.question = question;
  said.seconds = answer.seconds;
  said.count = static_cast<std::uint32_t>(answer.addresses.size());
  for (std::size_t i = 0; i < answer.addresses.size(); ++i) {
    said.addresses[i].family = answer.addresses[i].six ? AF_INET6 : AF_INET;
    std::memcpy(said.addresses[i].bytes, answer.addresses[i].bytes.data(),
                sizeof said.addresses[i].bytes);
  }
  name.copy(said.name, sizeof said.name - 1);
  return ::send(agent::kRelayControlFd, &said, sizeof said, MSG_DONTWAIT | MSG_NOSIGNAL) ==
         sizeof said;
}

void obey(const NamesOrder& order, base::UniqueFd socket, cmd::NamesServer& server) {
  switch (order.kind) {
    case NamesKind::name:
      return server.allow({order.name, order.below != 0});
    case NamesKind::resolver:
      return server.ask_of(resolver_of(order));
    case NamesKind::serve:
      return socket ? server.serve(socket.release()) : void();
    case NamesKind::verdict:
      return server.decide(order.question, order.good != 0);
  }
}

// The order, and what came with it; nothing where the agent has gone.
std::optional<std::pair<NamesOrder, base::UniqueFd>> next_order() {
  NamesOrder order{};
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

void listen(asio::posix::stream_descriptor& control, asio::io_context& loop,
            cmd::NamesServer& server) {
  control.async_wait(asio::posix::stream_descriptor::wait_read,
                     [&](const boost::system::error_code& error) {
                       auto order = error ? std::nullopt : next_order();
                       if (!order) {
                         return loop.stop();
                       }
                       obey(order->first, std::move(order->second), server);
                       listen(control, loop, server);
                     });
}

int run(uid_t uid) {
  asio::io_context loop(1);
  asio::posix::stream_descriptor control(loop, agent::kRelayControlFd);
  cmd::NamesServer server(loop, report);
  // Its timers' descriptor is made with the first of them, and could not be made any more.
  asio::steady_timer first(loop);
  first.expires_after(std::chrono::seconds(0));
  first.async_wait([](const boost::system::error_code&) {});
  loop.poll();
  loop.restart();
  if (const auto confined = cmd::confine_relay(uid, agent::kRelayRootFd); !confined) {
    std::fprintf(stderr, "brood-names: %s\n", confined.error().message().c_str());
    return 1;
  }
  ::close(agent::kRelayRootFd);
  listen(control, loop, server);
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
    std::fputs("brood-names is started by broodd\n", stderr);
    return 2;
  }
  ::_exit(run(uid));
}
