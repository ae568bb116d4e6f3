// What the agent tells brood-relay, one struct and at most one descriptor a message, on a
// SOCK_SEQPACKET socket; the other way nothing is said. Both are of one build.
#pragma once

#include <cstdint>

namespace agent {

enum class RelayKind : std::uint32_t {
  tcp = 1,     // + a listening socket: each connection is carried on to the target
  udp = 2,     // + a bound socket: each sender's datagrams go to the target, and the answers back
  target = 3,  // another target for all of the group
  forget = 4,  // the group ends, and what is under way for it
};

struct RelayOrder {
  RelayKind kind;
  std::uint32_t port;  // of the target
  std::uint64_t group;
  std::uint32_t family;      // AF_INET or AF_INET6
  std::uint8_t address[16];  // network order
};

// What it finds when it is started (posix_spawn, as root, with --uid=N).
constexpr int kRelayControlFd = 3;
constexpr int kRelayRootFd = 4;  // an empty folder

}  // namespace agent
