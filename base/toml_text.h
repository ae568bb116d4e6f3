// What a TOML document may hold where, looked at before it is parsed. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace base {

// Counted from 1; a column is a byte, as a continuation of a letter is not told apart.
struct TextPlace {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
};

// The first byte that is not ASCII outside of quotes and comments, where TOML 1.0 has none
// (https://toml.io/en/v1.0.0, "Keys" and "Comment"); nothing where there is none. A byte order mark
// at the start is let through. Of a text that is no TOML, it sees as much as a parser does before
// it gives up.
std::optional<TextPlace> first_stray_letter(std::string_view text);

// `text` with each byte that is not ASCII as "~" and its two hexadecimal digits: what is TOML stays
// so, line by line, where such bytes are in quotes and comments alone.
std::string in_ascii(std::string_view text);

}  // namespace base
