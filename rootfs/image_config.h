// What an image says of how it wants to be run: the "config" of an OCI image
// (https://github.com/opencontainers/image-spec/blob/main/config.md), as far as a sandbox can
// follow it. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace rootfs {

struct ImageConfig {
  std::vector<std::string> entrypoint{};   // goes before the command
  std::vector<std::string> command{};      // where whoever runs it gives none
  std::vector<std::string> environment{};  // KEY=VALUE
  std::string directory{};                 // absolute; empty: none was said
  std::string user{};                      // as it was written: NAME, UID, UID:GID, …
  std::string stop_signal{};               // "SIGQUIT", "3"; empty: SIGTERM
  bool operator==(const ImageConfig&) const = default;
};

// Of the JSON that an image's config descriptor names (what `skopeo inspect --config` prints). Keys
// that mean nothing here are passed over; a value of the wrong type, with a NUL in it, or over the
// limits is refused by its name, as is an image for another system than Linux or for another
// processor than this one's.
base::Result<ImageConfig> parse_oci_config(std::string_view text);

// The same values in image.json: an object with the keys entrypoint, command, environment,
// directory, user and stop_signal, each there where it says something. Strict.
base::Result<ImageConfig> parse_image_config(std::string_view json_object);
std::string format_image_config(const ImageConfig& config);

}  // namespace rootfs
