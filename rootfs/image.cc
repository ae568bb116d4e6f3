#include "rootfs/image.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "base/file.h"
#include "rootfs/definition.h"

namespace rootfs {
namespace {

using base::fail;
using base::fail_because;
using base::Result;
using base::UniqueFd;

Result<UniqueFd> open_image_directory(const std::string& images_dir, const std::string& name) {
  if (!is_image_name(name)) {
    return fail_because("'" + name + "' is not a name for an image");
  }
  const std::string path = images_dir + "/" + name;
  auto directory = base::open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!directory && directory.error().code() == ENOENT) {
    return fail(std::move(directory.error())
                    .advise("build it: make -f Makefile.rootfs IMAGES=" + images_dir + " " + name));
  }
  return directory;
}

Result<Manifest> read_manifest(int image_fd, const std::string& name) {
  BROOD_TRY(const std::string text, base::read_file_at(image_fd, kManifestFile, kManifestLimit));
  BROOD_TRY(Manifest manifest, parse_manifest(text));
  if (manifest.name != name) {
    return fail_because("image manifest: it is of '" + manifest.name + "', not of '" + name + "'");
  }
  return manifest;
}

using Directory = std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })>;

}  // namespace

Result<Image> open_image(const std::string& images_dir, const std::string& name) {
  Image image;
  BROOD_TRY(image.directory, open_image_directory(images_dir, name));
  auto manifest = read_manifest(image.directory.get(), name);
  if (!manifest) {
    return fail(std::move(manifest.error()).within("image '" + name + "'"));
  }
  image.manifest = std::move(*manifest);
  BROOD_TRY(image.root, base::open_at(image.directory.get(), kTreeDirectory,
                                      O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  return image;
}

Result<std::vector<ListedImage>> list_images(const std::string& images_dir) {
  std::vector<ListedImage> images;
  auto opened = base::open_at(AT_FDCWD, images_dir, O_RDONLY | O_DIRECTORY);
  if (!opened) {
    if (opened.error().code() == ENOENT) {
      return images;
    }
    return fail(std::move(opened.error()));
  }
  const int fd = opened->get();
  Directory stream(::fdopendir(fd));
  if (!stream) {
    return base::fail_errno("fdopendir", images_dir);
  }
  (void)opened->release();
  while (const dirent* entry = ::readdir(stream.get())) {  // NOLINT(concurrency-mt-unsafe)
    const std::string name = entry->d_name;
    if (!is_image_name(name)) {
      continue;
    }
    auto directory = base::open_at(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (directory) {
      images.push_back({name, read_manifest(directory->get(), name)});
    }
  }
  std::sort(images.begin(), images.end(),
            [](const ListedImage& a, const ListedImage& b) { return a.name < b.name; });
  return images;
}

}  // namespace rootfs
