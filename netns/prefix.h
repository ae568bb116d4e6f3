// Addresses and ranges of them, of both families, as values. Pure.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace netns {

struct Prefix {
  int family = 0;                      // AF_INET or AF_INET6
  std::array<std::uint8_t, 16> bytes;  // network order; the first 4 of AF_INET; the rest is 0
  unsigned length = 0;                 // bits; 32 or 128 for one address

  bool operator==(const Prefix&) const = default;
};

// "10.0.0.0/8", "192.0.2.7", "2001:db8::/32". Fails where bits behind the length are set, because
// whoever writes that means something else.
base::Result<Prefix> parse_prefix(std::string_view text);
// For constants of the program: ends it when `text` is none.
Prefix prefix(std::string_view text);

// An address as inet_ntop writes it, with "/LENGTH" unless it is a single one.
std::string text_of(const Prefix& prefix);
std::string address_text(const Prefix& prefix);  // always without the length

bool contains(const Prefix& outer, const Prefix& inner);
bool overlaps(const Prefix& a, const Prefix& b);

// The `offset`th address of a range, as a single one. `offset` is within the range.
Prefix address_in(const Prefix& range, std::uint32_t offset);

}  // namespace netns
