// How a fuzz target says that a promise of a header did not hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace fuzz {

inline void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Takes the first byte off the front; 0 where there is none.
inline unsigned take_byte(std::string_view& bytes) {
  if (bytes.empty()) {
    return 0;
  }
  const auto first = static_cast<unsigned char>(bytes.front());
  bytes.remove_prefix(1);
  return first;
}

}  // namespace fuzz
