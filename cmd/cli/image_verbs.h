// What the verbs have in common that work on the folder of images themselves.
#pragma once

#include <string>

#include "cmd/cli/outcome.h"
#include "rootfs/image.h"

namespace CLI {
class App;
}

namespace cli {

// A failure that names the verb ("image import") where this process is not root.
Outcome<int> need_root(const std::string& verb);

// What an image that was made is told by: one line, ended.
std::string summary_of(const rootfs::Manifest& manifest);

// A verb with --images, which is put into `images`.
CLI::App* add_on_images(CLI::App& group, const char* name, const char* help, std::string& images);

}  // namespace cli
