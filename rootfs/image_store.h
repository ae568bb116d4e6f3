// What people do with a folder of images: bring one in from another system's format, take one away.
//
//   IMAGES/NAME/         an image (rootfs/image.h)
//   IMAGES/.import-XXX/  one on its way in, locked by whoever brings it
//   IMAGES/.gone-XXX/    one that was replaced while it was in use
//
// Everything here needs root and may take seconds. Whoever uses an image holds a shared flock(2) on
// IMAGES/NAME (`use_image`); what is locked is never removed. The lock goes with its holder,
// however that ends.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "rootfs/image.h"

namespace rootfs {

enum class SourceKind {
  oci_layout,   // a folder: https://github.com/opencontainers/image-spec/blob/main/image-layout.md
  oci_archive,  // the same in a tar
  docker_archive,  // what `docker save` writes
  tree_archive,    // a tar of a root file system
  registry,        // REGISTRY/NAME:TAG, by the OCI distribution protocol
};

struct ImportRequest {
  std::string images_dir;
  std::string name;
  std::string source;  // a path, absolute; or REGISTRY/NAME[:TAG|@DIGEST]
  SourceKind kind = SourceKind::tree_archive;
  std::string reference{};    // of one image among several in the source (`--ref`)
  std::string credentials{};  // path of an auth.json as `skopeo login` writes it; registry
  bool tls = true;            // registry: false for plain HTTP or an unknown certificate
  bool replace = false;       // an image of this name may be there already
  std::function<void(const std::string& doing)> progress = [](const std::string&) {};
};

// What a path is, by its content.
base::Result<SourceKind> source_kind(const std::string& images_dir, const std::string& path);

// Its layers are put on each other by umoci and its digests held by skopeo (both confined:
// rootfs/confined_tool.h); then the tree is made to keep the contract of rootfs/image.h: what lies
// in /proc, /dev, /sys, /run and /tmp, devices, named pipes and sockets are left out, set-id bits
// and file capabilities taken off. The image is in its place whole or not at all; an error, a
// signal that was noted, and a crash (by the next import or `prune`) leave nothing behind.
base::Result<Manifest> import_image(const ImportRequest& request);

// A name for what is brought in: the last part of a path or a reference without its tag and
// ending, in lower case; empty where nothing is left that is_image_name takes.
std::string name_of_source(const std::string& source);

// EBUSY, worded, where it is in use.
base::Status remove_image(const std::string& images_dir, const std::string& name);

// Removes what imports that ended without a word have left, and replaced images that nobody uses
// any more. Answers the bytes that were freed.
base::Result<std::uint64_t> prune_images(const std::string& images_dir);

enum class ExportFormat {
  tree,    // a tar of the image's tree, with its owners and modes
  oci,     // an OCI image layout in a tar, of one layer, with what the image says of itself
  docker,  // what `docker load` reads: the same, named NAME:latest
};

// To `file`, which must not be there, and is there whole or not at all.
base::Status export_image(const std::string& images_dir, const std::string& name,
                          const std::string& file, ExportFormat format = ExportFormat::tree);

}  // namespace rootfs
