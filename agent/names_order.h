// What the agent and brood-names tell each other, a struct a message, on a SOCK_SEQPACKET socket.
// Both are of one build; what comes from brood-names is hostile all the same.
#pragma once

#include <cstddef>
#include <cstdint>

namespace agent {

enum class NamesKind : std::uint32_t {
  name = 1,      // `name` may be asked for, or with `below` all that lie below it
  resolver = 2,  // who is asked, from now on
  serve = 3,     // + a bound socket of UDP and IPv4 on which questions come
  verdict = 4,   // on the report `question`: the answer may be given
};

constexpr std::size_t kNameRoom = 256;  // ends with a 0

struct NamesOrder {
  NamesKind kind;
  std::uint32_t below;
  std::uint64_t question;
  std::uint32_t good;
  std::uint32_t port;
  std::uint32_t family;      // AF_INET or AF_INET6
  std::uint8_t address[16];  // network order
  char name[kNameRoom];
};

constexpr std::size_t kMostAnswered = 16;

// What a name stands for, before the sandbox is told.
struct NamesReport {
  std::uint64_t question;
  std::uint32_t seconds;  // to live
  std::uint32_t count;
  struct {
    std::uint32_t family;
    std::uint8_t bytes[16];
  } addresses[kMostAnswered];
  char name[kNameRoom];
};

}  // namespace agent
