// Images: read-only root file systems, and the digest that a use of one is held against.
//
//   IMAGES/NAME/rootfs/      the tree, owned by root
//   IMAGES/NAME/image.json   the manifest
//   IMAGES/NAME/verified     what `verify_once` has noted
//
// What a tree must be, so that a sandbox's root can be an overlay on it:
//   - /proc /dev /sys /run are empty directories, /tmp an empty one of mode 1777;
//   - no device, fifo or socket; no set-id bit and no file capability (`strip_privileges`);
//   - nothing in it wants to be written: byte code is compiled, caches are there or switched off.
//
// Functions that take a descriptor work beneath it and never follow a link out of it, so a tree may
// be hostile. They run in the agent, or in whoever builds images; none needs privileges but those
// to read the tree.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "rootfs/image_config.h"

namespace rootfs {

constexpr int kManifestSchema = 1;
constexpr std::size_t kManifestLimit = 256 << 10;  // bytes
constexpr char kManifestFile[] = "image.json";
constexpr char kTreeDirectory[] = "rootfs";
constexpr char kVerifiedFile[] = "verified";

// image.json. Every text has been held against the rules of rootfs/definition.h.
struct Manifest {
  std::string name;
  std::string from;                   // empty: derived from nothing
  std::string suite;                  // of Debian; empty: it was imported
  std::vector<std::string> packages;  // of the whole chain
  std::vector<std::string> preload;   // of the whole chain, in the order of import
  std::string interpreter;            // path inside; empty: none
  std::string interpreter_version;    // "3.11.2"; empty where there is no interpreter
  std::string source;                 // what it was imported from; empty: it was built here
  ImageConfig config;                 // of an imported one
  std::string digest;                 // "sha256:" and 64 hexadecimal digits
  std::uint64_t size_bytes = 0;       // contents of regular files
  std::uint64_t files = 0;            // entries of every type below the root
};

// Pure. Strict: a key that schema 1 does not have, one given twice, or a value out of bounds is
// refused by name.
base::Result<Manifest> parse_manifest(std::string_view text);
std::string format_manifest(const Manifest& manifest);

struct TreeDigest {
  std::string digest;  // as in Manifest
  std::uint64_t size_bytes = 0;
  std::uint64_t files = 0;
};

// SHA-256 over a description of the tree: "brood-tree-1\n", then a record for each entry, the root
// itself included, sorted by path as bytes. A record is these fields, each ended by a NUL:
//
//   type       d, f or l
//   mode       the permission bits in octal, four digits (0777 for a link)
//   uid, gid   decimal
//   size       decimal; 0 for what is not a regular file
//   content    f: SHA-256 in hexadecimal; l: the target; d: empty
//   capability the extended attribute security.capability in hexadecimal, mostly empty
//   path       relative to the root, whose own is empty
//
// Times and link counts are left out, so a copy has the digest of its original; byte code must
// therefore not depend on its source's time (images hold "unchecked-hash" .pyc files). Any other
// type of entry, another file system mounted inside, or more than 2 million entries is an error.
// Uses up to four threads.
base::Result<TreeDigest> tree_digest(int dir_fd);

// Takes set-id bits and file capabilities off every regular file below `dir_fd`.
base::Status strip_privileges(int dir_fd);

// Holds a tree against the list at the top of this file (all but what only a run would show). The
// error names the first entry that breaks it.
base::Status check_contract(int dir_fd);

// An image in use: the tree stays the same one when IMAGES/NAME is replaced by a newer build.
struct Image {
  Manifest manifest;
  base::UniqueFd directory;  // IMAGES/NAME
  base::UniqueFd root;       // O_RDONLY | O_DIRECTORY
};

// ENOENT is worded into how to build the image.
base::Result<Image> open_image(const std::string& images_dir, const std::string& name);

// Opens an image and marks it as in use (image_store.h) for as long as its `directory` is open.
base::Result<Image> use_image(const std::string& images_dir, const std::string& name);

// Reads the whole tree and compares. The error says that the image is not what was built.
base::Status verify(const Image& image);

// The same, but a tree that was read once since the machine was booted is not read again while no
// entry of it has changed: its inode, type, owner, mode, size, time of writing and time of change,
// to the nanosecond, of which the kernel lets nobody set the last. What was read is noted in
// IMAGES/NAME/verified, to be trusted as the manifest beside it is; where it cannot be written, or
// the newest change is not 3 seconds older than `now` (seconds since 1970), the tree is read the
// next time as well. What is not seen: a disk that answers differently than it did before.
base::Status verify_once(const Image& image, std::int64_t now);

// Whether the note of `verify_once` was written since the machine was booted: the tree was read
// then; what has changed since is not looked for.
bool verified_since_boot(const Image& image);

// Every image in a directory by name, sorted; where the manifest cannot be used, why. A directory
// that is not there has no images.
struct ListedImage {
  std::string name;
  base::Result<Manifest> manifest;
};
base::Result<std::vector<ListedImage>> list_images(const std::string& images_dir);

}  // namespace rootfs
