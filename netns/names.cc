#include "netns/names.h"

#include <algorithm>

namespace netns {
namespace {

constexpr std::size_t kLongestLabel = 63;
constexpr std::string_view kStar = "*.";

bool is_label(std::string_view label) {
  return !label.empty() && label.size() <= kLongestLabel && label.front() != '-' &&
         label.back() != '-' && std::all_of(label.begin(), label.end(), [](char one) {
           return (one >= 'a' && one <= 'z') || (one >= '0' && one <= '9') || one == '-' ||
                  one == '_';
         });
}

base::Error no_pattern(std::string_view text, const std::string& why) {
  return base::Error::because("'" + std::string(text) + "' " + why);
}

}  // namespace

bool is_name(std::string_view text) {
  if (text.size() > kLongestName) {
    return false;
  }
  for (;;) {
    const auto dot = text.find('.');
    const std::string_view label = text.substr(0, dot);
    if (!is_label(label)) {
      return false;
    }
    if (dot == std::string_view::npos) {
      return label.find_first_not_of("0123456789") != std::string_view::npos;
    }
    text.remove_prefix(dot + 1);
  }
}

base::Result<NamePattern> parse_name_pattern(std::string_view text) {
  const bool below = text.starts_with(kStar);
  const std::string_view name = below ? text.substr(kStar.size()) : text;
  if (name.find('*') != std::string_view::npos) {
    return base::fail(
        no_pattern(text, "has a star elsewhere than alone at its beginning (*.example.com)"));
  }
  if (!is_name(name)) {
    return base::fail(
        no_pattern(text,
                   "is no name: letters of a-z in lower case, digits, '-' and dots between them, "
                   "no dot at the end; a name with others is written as DNS has it (xn--…)"));
  }
  if (name.find('.') == std::string_view::npos) {
    return base::fail(no_pattern(text, below ? "would allow a whole top-level domain: at least two "
                                               "labels after the star (*.example.com)"
                                             : "has one label; a name has at least two"));
  }
  return NamePattern{std::string(name), below};
}

std::string text_of(const NamePattern& pattern) {
  return (pattern.below ? std::string(kStar) : std::string()) + pattern.name;
}

bool matches(const NamePattern& pattern, std::string_view name) {
  if (!pattern.below) {
    return name == pattern.name;
  }
  return name.size() > pattern.name.size() + 1 && name.ends_with(pattern.name) &&
         name[name.size() - pattern.name.size() - 1] == '.';
}

}  // namespace netns
