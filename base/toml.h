// TOML as all of brood reads it. Who includes this links tomlplusplus::tomlplusplus.
#pragma once

// toml++ 3.3 asserts in debug builds what it then goes on to check: "[%x]" is refused in others, as
// it must be.
#define TOML_ASSERT(condition) static_assert(true)
#include <toml++/toml.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/toml_text.h"

namespace base {

// Parses `text`; throws toml::parse_error, whose source names the line and `file`. A letter that is
// not ASCII outside of quotes and comments is refused before toml++ sees it: version 3.3 takes some
// of them (U+00A1 to U+0499) to a __builtin_unreachable.
inline toml::table parse_toml(std::string_view text, const std::string& file = {}) {
  if (const auto stray = first_stray_letter(text)) {
    throw toml::parse_error(
        "a letter that is not ASCII outside of quotes (a key that has one is "
        "written in quotes)",
        toml::source_position{stray->line, stray->column},
        std::make_shared<const std::string>(file));
  }
  // And what is no TOML is refused while it has none: 3.3 reads on behind an error, for its
  // message, through what was meant to be in quotes.
  if (std::string ascii = in_ascii(text); ascii != text) {
    const bool marked = text.substr(0, 3) == "\xef\xbb\xbf";
    (void)toml::parse(marked ? ascii.substr(9) : ascii, file);
  }
  return toml::parse(text, file);
}

}  // namespace base
