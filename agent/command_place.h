// What a command's sandbox has to be, before anybody knows which command it will be: whose, and
// what it may write. Pools differ by it.
#pragma once

#include <string>

#include "agent/command.h"
#include "base/error.h"
#include "rootfs/image.h"
#include "rootfs/image_user.h"

namespace agent {

bool is_imported(const rootfs::Manifest& image);

// Who runs what, inside, where neither the image nor whoever asks says.
rootfs::ImageUser default_user(const rootfs::Manifest& image);

// `wanted` as docker has it, looked up in the image's own files; empty: the default.
base::Result<rootfs::ImageUser> user_of(const std::string& images_dir,
                                        const rootfs::Manifest& image, const std::string& wanted);

// What its sandboxes may do that the image's usual ones may not: Landlock's rules and the seccomp
// filter are there before anybody says what is mounted.
enum class Room {
  usual,
  writable,  // write where a tmpfs is mounted
  shared,    // write to the host's folders, and make nothing there that runs as its owner
};
Room room_for(const CommandRequest& request, const rootfs::Manifest& image);
// Whether Landlock lets it write below the root.
bool writes_below_root(Room room, const rootfs::Manifest& image);

}  // namespace agent
