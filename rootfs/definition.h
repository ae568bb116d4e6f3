// What an image is made from: rootfs/images/NAME.toml, one small file an image. Pure.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "rootfs/names.h"

namespace rootfs {

// One file as it is written, or, after `resolve_definition`, with everything of those that it is
// derived from.
struct Definition {
  std::string name;
  std::string from;                   // the definition that this one adds to; empty: none
  std::string suite;                  // of Debian; empty: that of `from`
  std::vector<std::string> packages;  // beside the essential ones
  std::vector<std::string> preload;   // modules that the zygote imports before it forks
  std::string interpreter;            // path inside the image; empty: that of `from`, or none
};

// Refuses an unknown key, a wrong type, and a value that could mean something to a shell or to apt.
base::Result<Definition> parse_definition(std::string_view name, std::string_view text);

// Follows `from` through `text_of` (the text of a definition by its name) and flattens the chain:
// packages and modules of the ancestors first, each once. Refuses a loop and a chain over 8.
using TextOf = std::function<base::Result<std::string>(const std::string& name)>;
base::Result<Definition> resolve_definition(const std::string& name, const TextOf& text_of);

}  // namespace rootfs
