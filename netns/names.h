// Names of an allow-list, as values. Pure; linked into a confined program, too, so that nothing
// here needs netlink or nftables.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"

namespace netns {

constexpr std::size_t kLongestName = 253;

// Labels of [a-z0-9_-], 63 characters at most, joined by dots, and no dot at the end; the last is
// no number. What it is asked for by DNS, once it is in lower case.
bool is_name(std::string_view text);

// A name, or all that lie below one by one label or more.
struct NamePattern {
  std::string name{};
  bool below = false;

  bool operator==(const NamePattern&) const = default;
};

// "example.com", "*.example.com". At least two labels, those of a star not counted, so that nothing
// opens a whole top-level domain.
base::Result<NamePattern> parse_name_pattern(std::string_view text);
std::string text_of(const NamePattern& pattern);

bool matches(const NamePattern& pattern, std::string_view name);

}  // namespace netns
