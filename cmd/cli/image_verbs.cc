#include "cmd/cli/image_verbs.h"

#include <unistd.h>

#include <CLI/CLI.hpp>

#include "cmd/cli/text.h"

namespace cli {

Outcome<int> need_root(const std::string& verb) {
  if (::geteuid() != 0) {
    return fail(Exit::failed, "brood " + verb + " needs root: the files of an image have owners");
  }
  return 0;
}

std::string summary_of(const rootfs::Manifest& manifest) {
  return manifest.name + "  " + manifest.digest + "  " + std::to_string(manifest.files) +
         " files, " + rough_bytes(manifest.size_bytes) + "\n";
}

CLI::App* add_on_images(CLI::App& group, const char* name, const char* help, std::string& images) {
  CLI::App* added = group.add_subcommand(name, help);
  added->add_option("--images", images, "the folder of images")
      ->type_name("DIR")
      ->capture_default_str();
  return added;
}

}  // namespace cli
