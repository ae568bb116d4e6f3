#include "rootfs/names.h"

#include <algorithm>
#include <cctype>

namespace rootfs {
namespace {

bool is_lower_alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool all_of(std::string_view text, std::string_view extra) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return is_lower_alnum(c) || extra.find(c) != std::string_view::npos;
  });
}

bool is_identifier(std::string_view text) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  return !text.empty() && letter(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

// Every piece between two separators satisfies `rule`; an empty text has one empty piece.
template <typename Rule>
bool every_part(std::string_view text, char separator, Rule rule) {
  for (;;) {
    const std::size_t end = text.find(separator);
    if (!rule(text.substr(0, end))) {
      return false;
    }
    if (end == std::string_view::npos) {
      return true;
    }
    text.remove_prefix(end + 1);
  }
}

}  // namespace

bool is_image_name(std::string_view name) {
  return !name.empty() && name.size() <= 63 && is_lower_alnum(name.front()) && all_of(name, "._-");
}

bool is_package_name(std::string_view name) {
  return name.size() >= 2 && name.size() <= 128 && is_lower_alnum(name.front()) &&
         all_of(name, "+.-:");
}

bool is_module_name(std::string_view name) {
  return name.size() <= 256 && every_part(name, '.', is_identifier);
}

bool is_clean_absolute_path(std::string_view path) {
  return path.size() > 1 && path.size() < 4096 && path.front() == '/' &&
         every_part(path.substr(1), '/', [](std::string_view part) {
           return !part.empty() && part != "." && part != ".." &&
                  std::all_of(part.begin(), part.end(), [](unsigned char c) {
                    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-' || c == '+';
                  });
         });
}

}  // namespace rootfs
