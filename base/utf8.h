// Is it UTF-8? Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace base {

// The code point at the start of `text` and how many bytes it takes; a length of 0 says that no
// well-formed one (no overlong form, no surrogate, at most U+10FFFF) starts there.
struct CodePoint {
  char32_t value = 0;
  std::size_t length = 0;
};

inline CodePoint first_code_point(std::string_view text) {
  if (text.empty()) {
    return {};
  }
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) {
    return {.value = lead, .length = 1};
  }
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
  if (length == 0 || lead > 0xf4 || text.size() < length) {
    return {};
  }
  char32_t value = lead & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xc0U) != 0x80) {
      return {};
    }
    value = value << 6 | (byte & 0x3fU);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kSmallest[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) {
    return {};
  }
  return {.value = value, .length = length};
}

inline bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const CodePoint point = first_code_point(text);
    if (point.length == 0) {
      return false;
    }
    text.remove_prefix(point.length);
  }
  return true;
}

}  // namespace base
