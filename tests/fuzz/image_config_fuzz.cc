// An OCI image's config, as a registry or an archive gives it. Aborts when a promise of
// rootfs/image_config.h does not hold: no text has a NUL, a variable has a name, a directory is
// absolute, and what was taken is read again as it was written.
#include "rootfs/image_config.h"

#include "tests/fuzz/promise.h"

using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto config = rootfs::parse_oci_config(fuzz::text_of(data, size));
  if (!config) {
    require(!config.error().message().empty());
    return 0;
  }
  for (const auto* list : {&config->entrypoint, &config->command, &config->environment}) {
    for (const std::string& one : *list) {
      require(one.find('\0') == std::string::npos);
    }
  }
  for (const std::string& pair : config->environment) {
    require(pair.find('=') != std::string::npos && pair.front() != '=');
  }
  require(config->directory.empty() || config->directory.front() == '/');
  const auto again = rootfs::parse_image_config(rootfs::format_image_config(*config));
  require(again && *again == *config);
  return 0;
}
