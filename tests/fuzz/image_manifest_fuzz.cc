// image.json. Aborts when a promise of rootfs/image.h does not hold: what was taken keeps the rules
// of rootfs/definition.h, and is read again as it was written.
#include "rootfs/definition.h"
#include "rootfs/image.h"
#include "tests/fuzz/promise.h"

using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto manifest = rootfs::parse_manifest(fuzz::text_of(data, size));
  if (!manifest) {
    require(!manifest.error().message().empty());
    return 0;
  }
  require(rootfs::is_image_name(manifest->name));
  require(manifest->digest.size() == 71);
  require(manifest->interpreter.empty() || rootfs::is_clean_absolute_path(manifest->interpreter));
  for (const std::string& package : manifest->packages) {
    require(rootfs::is_package_name(package));
  }
  for (const std::string& module : manifest->preload) {
    require(rootfs::is_module_name(module));
  }
  const std::string written = rootfs::format_manifest(*manifest);
  const auto again = rootfs::parse_manifest(written);
  require(again && rootfs::format_manifest(*again) == written);
  return 0;
}
