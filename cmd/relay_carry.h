// Carries bytes between sockets: connections of TCP with their half-closes, and datagrams of UDP
// with the way back to who sent them. What it carries it does not look at. Everything is bounded: a
// group has kMostSessions connections, a sender of datagrams kMostFlows ports, and all together
// what the limit of descriptors allows; what is over that is refused, and those that are carried go
// on.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace cmd {

constexpr std::size_t kMostSessions = 256;
constexpr std::size_t kMostFlows = 64;         // of one sender's address
constexpr std::size_t kMostFlowsInAll = 2048;  // of one socket
constexpr int kFlowIdleSeconds = 30;

struct RelayAddress {
  boost::asio::ip::address address;
  std::uint16_t port = 0;
};

// One socket that is served; ends what it carries when it is closed.
class Carrier {
 public:
  virtual ~Carrier() = default;
  virtual void close() = 0;
};

struct CarryRequest {
  boost::asio::io_context& loop;
  int socket = -1;  // taken over
  bool ipv6 = false;
  std::function<RelayAddress()> target;  // asked for each connection
};
std::shared_ptr<Carrier> carry_tcp(const CarryRequest& request);
std::shared_ptr<Carrier> carry_udp(const CarryRequest& request);

}  // namespace cmd
