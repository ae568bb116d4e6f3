// What things are called: the rules of names that images, definitions and manifests hold. Pure.
#pragma once

#include <string_view>

namespace rootfs {

// A name of an image or a definition: [a-z0-9] then up to 62 of [a-z0-9._-].
bool is_image_name(std::string_view name);
// A Debian package's name, or what apt takes for one ("python3-pil", "libc6:amd64").
bool is_package_name(std::string_view name);
// "urllib.parse": identifiers joined by dots.
bool is_module_name(std::string_view name);
// An absolute path without ".", ".." or empty parts.
bool is_clean_absolute_path(std::string_view path);

}  // namespace rootfs
