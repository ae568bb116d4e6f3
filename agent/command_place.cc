#include "agent/command_place.h"

#include <fcntl.h>

#include <algorithm>

#include "base/file.h"
#include "rootfs/walk.h"

namespace agent {

bool is_imported(const rootfs::Manifest& image) {
  return !image.source.empty();
}

// Root, as other runtimes have it, of an image that was made for them.
rootfs::ImageUser default_user(const rootfs::Manifest& image) {
  return is_imported(image) ? rootfs::ImageUser{} : rootfs::ImageUser{kInsideUid, kInsideUid};
}

base::Result<rootfs::ImageUser> user_of(const std::string& images_dir,
                                        const rootfs::Manifest& image, const std::string& wanted) {
  if (wanted.empty()) {
    return default_user(image);
  }
  BROOD_TRY(const rootfs::Image opened, rootfs::open_image(images_dir, image.name));
  const auto text_of = [&](const char* path) {
    constexpr std::size_t kMost = 256 << 10;
    const auto file =
        rootfs::open_beneath(opened.root.get(), path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
    return file
               ? base::read_file_at(AT_FDCWD, "/proc/self/fd/" + std::to_string(file->get()), kMost)
                     .value_or("")
               : std::string();
  };
  return rootfs::resolve_user(wanted, text_of("etc/passwd"), text_of("etc/group"));
}

Room room_for(const CommandRequest& request, const rootfs::Manifest& image) {
  if (std::any_of(request.binds.begin(), request.binds.end(),
                  [](const Bind& bind) { return !bind.read_only; })) {
    return Room::shared;
  }
  return !request.tmpfs.empty() && !is_imported(image) ? Room::writable : Room::usual;
}

bool writes_below_root(Room room, const rootfs::Manifest& image) {
  return is_imported(image) || room != Room::usual;
}

}  // namespace agent
