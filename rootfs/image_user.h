// Who an image wants its command to be. Pure.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace rootfs {

struct ImageUser {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  // What it expands to is not ours. NOLINTNEXTLINE(modernize-use-nullptr)
  auto operator<=>(const ImageUser&) const = default;
};

// `user` as docker takes it: USER, UID, USER:GROUP, UID:GID, in any mixture. Names are looked for
// in `passwd` and `group`, the image's own files of these names, which may be hostile and are read
// line by line, whatever is in them. Without a group it is the user's own, and 0 for a uid that
// `passwd` does not have. Refuses a name that is not there, and an id over 65535, which no sandbox
// has.
base::Result<ImageUser> resolve_user(std::string_view user, std::string_view passwd,
                                     std::string_view group);

}  // namespace rootfs
