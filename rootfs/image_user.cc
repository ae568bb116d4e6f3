#include "rootfs/image_user.h"

#include <charconv>
#include <optional>
#include <vector>

namespace rootfs {
namespace {

using base::fail_because;
using base::Result;

constexpr std::uint32_t kMostId = 65'535;

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty()
             ? std::optional(value)
             : std::nullopt;
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(end + 1);
  }
}

// The first line whose field number `key` is `wanted`.
std::vector<std::string_view> line_with(std::string_view file, std::size_t key,
                                        std::string_view wanted) {
  for (const std::string_view line : split(file, '\n')) {
    auto fields = split(line, ':');
    if (fields.size() > 3 && fields[key] == wanted) {
      return fields;
    }
  }
  return {};
}

Result<std::uint32_t> bounded(std::string_view what, std::optional<std::uint32_t> id) {
  if (!id) {
    return fail_because("the image has no " + std::string(what));
  }
  if (*id > kMostId) {
    return fail_because(std::string(what) + " is over 65535, which no sandbox has");
  }
  return *id;
}

}  // namespace

Result<ImageUser> resolve_user(std::string_view user, std::string_view passwd,
                               std::string_view group) {
  const auto colon = user.find(':');
  const std::string_view name = user.substr(0, colon);
  ImageUser found;
  std::optional<std::uint32_t> uid = number(name);
  const auto line = line_with(passwd, uid ? 2 : 0, name);
  if (!uid && !line.empty()) {
    uid = number(line[2]);
  }
  BROOD_TRY(found.uid, bounded("user '" + std::string(name) + "'", uid));
  if (colon == std::string_view::npos) {
    const auto own = line.empty() ? std::optional<std::uint32_t>(0) : number(line[3]);
    BROOD_TRY(found.gid, bounded("group of user '" + std::string(name) + "'", own));
    return found;
  }
  const std::string_view group_name = user.substr(colon + 1);
  std::optional<std::uint32_t> gid = number(group_name);
  if (!gid) {
    const auto named = line_with(group, 0, group_name);
    gid = named.empty() ? std::nullopt : number(named[2]);
  }
  BROOD_TRY(found.gid, bounded("group '" + std::string(group_name) + "'", gid));
  return found;
}

}  // namespace rootfs
