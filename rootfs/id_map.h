// Whom the files of an image belong to, as a sandbox sees them: the image's uid 0 is the sandbox's
// uid 0, though on the disk it is the host's root. By idmapped mounts (since Linux 5.12; below an
// overlay since 5.19), so no file is copied or changed.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "rootfs/mounts.h"

namespace rootfs {

// All need CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID in the initial user namespace, and /proc.

// Whether an overlay in this kernel takes what is below `dir_fd` with other ids: the file system
// has to allow it, and the kernel. Where not, why.
base::Status can_map_ids(int dir_fd);

// A detached mount as clone_tree makes it, in which the tree's uids and gids 0 … `count`-1 are the
// host's `first` … and those beyond are nobody's. The user namespace that says so is made for it,
// by a process that lives for a moment, and goes with the mount.
base::Result<base::UniqueFd> clone_tree_as(int dir_fd, MountFlags flags, std::uint32_t first,
                                           std::uint32_t count);

// Gives a detached mount, and all below it, the owners that these maps say: lines as uid_map has
// them, from ids on the disk to the host's.
base::Status map_tree(int mount_fd, const std::string& uid_map, const std::string& gid_map);

}  // namespace rootfs
