// From a hostile archive to a tree of files. Meant to run confined (cmd/unpack_confine.h); takes
// no privilege itself, and makes every file by openat2(2) beneath `root_fd` without following a
// link, so that its own checks are not the only ones.
#pragma once

#include <memory>
#include <string>

#include "rootfs/archive.h"

namespace cmd {

// Before confinement: a locale and a time zone that need no file later. libarchive converts names
// through iconv where the locale is not UTF-8, and asks for the time zone with every zip entry;
// both would look for files that the archive itself may have put there.
base::Status prepare_libraries();

// Unpacks `archive_fd` (a regular file, from its beginning) below `root_fd`. An error is the
// host's fault and names the entry in `subject`; what is wrong with the archive is in the verdict.
base::Result<rootfs::UnpackVerdict> extract_archive(int archive_fd, int root_fd,
                                                    const rootfs::UnpackLimits& limits);

// The body is the file `name` itself.
base::Result<rootfs::UnpackVerdict> extract_single_file(int body_fd, int root_fd,
                                                        const std::string& name,
                                                        const rootfs::UnpackLimits& limits);

}  // namespace cmd
