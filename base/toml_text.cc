#include "base/toml_text.h"

#include <algorithm>
#include <cstddef>

namespace base {
namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

std::size_t run_of(std::string_view text, char quote) {
  return std::min(text.find_first_not_of(quote), text.size());
}

// The length of what is quoted at the start of `text`, both ends with it.
std::size_t quoted_length(std::string_view text) {
  const char quote = text.front();
  const std::size_t opening = run_of(text, quote);
  if (opening == 2) {
    return 2;
  }
  const bool many_lines = opening >= 3;
  for (std::size_t at = many_lines ? 3 : 1; at < text.size();) {
    if (text[at] == '\\' && quote == '"') {
      at += 2;
    } else if (text[at] == '\n' && !many_lines) {
      return at;
    } else if (text[at] != quote) {
      ++at;
    } else if (!many_lines) {
      return at + 1;
    } else if (const std::size_t run = run_of(text.substr(at), quote); run >= 3) {
      // Up to two more belong to the text.
      return at + std::min<std::size_t>(run, 5);
    } else {
      at += run;
    }
  }
  return text.size();
}

TextPlace place_of(std::string_view before) {
  const auto line = before.rfind('\n');
  return {.line = 1 + static_cast<std::uint32_t>(std::count(before.begin(), before.end(), '\n')),
          .column = 1 + static_cast<std::uint32_t>(line == std::string_view::npos
                                                       ? before.size()
                                                       : before.size() - line - 1)};
}

}  // namespace

std::optional<TextPlace> first_stray_letter(std::string_view text) {
  std::size_t at =
      text.substr(0, kByteOrderMark.size()) == kByteOrderMark ? kByteOrderMark.size() : 0;
  while (at < text.size()) {
    const char byte = text[at];
    if (static_cast<unsigned char>(byte) >= 0x80) {
      return place_of(text.substr(0, at));
    }
    if (byte == '#') {
      at = std::min(text.find('\n', at), text.size());
    } else if (byte == '"' || byte == '\'') {
      at += quoted_length(text.substr(at));
    } else {
      ++at;
    }
  }
  return std::nullopt;
}

std::string in_ascii(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string spelled;
  spelled.reserve(text.size());
  for (const char one : text) {
    const auto byte = static_cast<unsigned char>(one);
    if (byte < 0x80) {
      spelled += one;
    } else {
      spelled += {'~', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return spelled;
}

}  // namespace base
