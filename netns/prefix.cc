#include "netns/prefix.h"

#include <arpa/inet.h>

#include <charconv>
#include <cstdlib>

namespace netns {
namespace {

unsigned most_bits(int family) {
  return family == AF_INET ? 32 : 128;
}

bool bit(const Prefix& prefix, unsigned index) {
  return (prefix.bytes[index / 8] >> (7 - index % 8) & 1) != 0;
}

bool equal_up_to(const Prefix& a, const Prefix& b, unsigned bits) {
  for (unsigned i = 0; i < bits; ++i) {
    if (bit(a, i) != bit(b, i)) {
      return false;
    }
  }
  return true;
}

base::Error no_prefix(std::string_view text, const char* why) {
  return base::Error::because("'" + std::string(text) + "' " + why);
}

}  // namespace

base::Result<Prefix> parse_prefix(std::string_view text) {
  const auto slash = text.find('/');
  const std::string address(text.substr(0, slash));
  Prefix result{};
  result.family = address.find(':') == std::string::npos ? AF_INET : AF_INET6;
  if (::inet_pton(result.family, address.c_str(), result.bytes.data()) != 1) {
    return base::fail(no_prefix(text, "is neither an address nor a range (192.0.2.0/24)"));
  }
  const unsigned most = most_bits(result.family);
  result.length = most;
  if (slash != std::string_view::npos) {
    const std::string_view bits = text.substr(slash + 1);
    const auto [end, error] =
        std::from_chars(bits.data(), bits.data() + bits.size(), result.length);
    if (error != std::errc{} || end != bits.data() + bits.size() || result.length > most) {
      return base::fail(no_prefix(text, "has no such length of a range"));
    }
  }
  for (unsigned i = result.length; i < most; ++i) {
    if (bit(result, i)) {
      return base::fail(no_prefix(text, "has bits set behind its length: it is no range"));
    }
  }
  return result;
}

Prefix prefix(std::string_view text) {
  const auto parsed = parse_prefix(text);
  if (!parsed) {
    std::abort();
  }
  return *parsed;
}

std::string address_text(const Prefix& prefix) {
  char buffer[INET6_ADDRSTRLEN] = {};
  ::inet_ntop(prefix.family, prefix.bytes.data(), buffer, sizeof buffer);
  return buffer;
}

std::string text_of(const Prefix& prefix) {
  const std::string address = address_text(prefix);
  return prefix.length == most_bits(prefix.family) ? address
                                                   : address + "/" + std::to_string(prefix.length);
}

bool contains(const Prefix& outer, const Prefix& inner) {
  return outer.family == inner.family && outer.length <= inner.length &&
         equal_up_to(outer, inner, outer.length);
}

bool overlaps(const Prefix& a, const Prefix& b) {
  return contains(a, b) || contains(b, a);
}

Prefix address_in(const Prefix& range, std::uint32_t offset) {
  Prefix address = range;
  address.length = most_bits(range.family);
  const std::size_t last = address.length / 8 - 1;
  for (std::size_t i = 0; i < 4; ++i) {
    address.bytes[last - i] =
        static_cast<std::uint8_t>(address.bytes[last - i] + (offset >> (8 * i) & 0xff));
  }
  return address;
}

}  // namespace netns
