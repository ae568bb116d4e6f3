#include "agent/image_cache.h"

#include <sys/stat.h>

#include "rootfs/definition.h"

namespace agent {
namespace {

// Nobody has so many; a host that makes and removes them all day keeps no more than these.
constexpr std::size_t kMostEntries = 256;

bool equal(const std::timespec& one, const std::timespec& other) {
  return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

}  // namespace

bool ImageCache::same(const Stamp& one, const Stamp& other) {
  return one.device == other.device && one.inode == other.inode && one.size == other.size &&
         equal(one.written, other.written) && equal(one.changed, other.changed);
}

base::Result<std::shared_ptr<const rootfs::Manifest>> ImageCache::manifest(
    const std::string& name) {
  Stamp now;
  struct stat about {};
  const std::string file = images_dir_ + "/" + name + "/" + rootfs::kManifestFile;
  if (rootfs::is_image_name(name) && ::stat(file.c_str(), &about) == 0) {
    now = {about.st_dev, about.st_ino, about.st_size, about.st_mtim, about.st_ctim};
    if (const auto found = entries_.find(name);
        found != entries_.end() && same(found->second.stamp, now)) {
      return found->second.manifest;
    }
  }
  entries_.erase(name);
  // What it was before it is read: if it is replaced meanwhile, the next one reads it again.
  BROOD_TRY(rootfs::Image image, rootfs::open_image(images_dir_, name));
  auto manifest = std::make_shared<const rootfs::Manifest>(std::move(image.manifest));
  if (entries_.size() >= kMostEntries) {
    entries_.clear();
  }
  entries_[name] = {now, manifest};
  return manifest;
}

}  // namespace agent
