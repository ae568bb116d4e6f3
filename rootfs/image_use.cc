// What a use of an image begins with. Apart from what reads it whole, which a command that is
// waited for does without.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "rootfs/image.h"

namespace rootfs {

using base::fail_because;
using base::Result;

Result<Image> use_image(const std::string& images_dir, const std::string& name) {
  constexpr int kTries = 8;
  const std::string path = images_dir + "/" + name;
  for (int i = 0; i < kTries; ++i) {
    BROOD_TRY(Image image, open_image(images_dir, name));
    struct stat opened {};
    struct stat named {};
    // It may have been removed or replaced before the lock was there.
    if (::flock(image.directory.get(), LOCK_SH | LOCK_NB) == 0 &&
        ::fstat(image.directory.get(), &opened) == 0 && ::lstat(path.c_str(), &named) == 0 &&
        opened.st_ino == named.st_ino && opened.st_dev == named.st_dev) {
      return image;
    }
  }
  return fail_because("image '" + name + "' is being removed or replaced");
}

bool verified_since_boot(const Image& image) {
  struct stat note {};
  timespec now{};
  timespec up{};
  if (::fstatat(image.directory.get(), kVerifiedFile, &note, AT_SYMLINK_NOFOLLOW) != 0 ||
      ::clock_gettime(CLOCK_REALTIME, &now) != 0 || ::clock_gettime(CLOCK_BOOTTIME, &up) != 0) {
    return false;
  }
  return note.st_ctim.tv_sec > now.tv_sec - up.tv_sec;
}

}  // namespace rootfs
