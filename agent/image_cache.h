// What images say of themselves, read once: each `brood run` asks for it.
#pragma once

#include <ctime>
#include <map>
#include <memory>
#include <string>

#include "base/error.h"
#include "rootfs/image.h"

namespace agent {

class ImageCache {
 public:
  explicit ImageCache(std::string images_dir) : images_dir_(std::move(images_dir)) {}

  // The manifest of an image by its name, as it is on the disk now: it is read again when its file
  // is another, or was written. Errors as rootfs::open_image (ENOENT: there is no such image).
  base::Result<std::shared_ptr<const rootfs::Manifest>> manifest(const std::string& name);

 private:
  struct Stamp {
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = 0;
    std::timespec written{};
    std::timespec changed{};
  };
  struct Entry {
    Stamp stamp;
    std::shared_ptr<const rootfs::Manifest> manifest;
  };
  static bool same(const Stamp& one, const Stamp& other);

  std::string images_dir_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace agent
