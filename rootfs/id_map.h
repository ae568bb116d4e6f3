// Whom the files of an image belong to, as a sandbox sees them: the image's uid 0 is the sandbox's
// uid 0, though on the disk it is the host's root. By idmapped mounts (since Linux 5.12; below an
// overlay since 5.19), so no file is copied or changed.
#pragma once

#include <cstdint>
#include <map>

#include "base/error.h"
#include "base/fd.h"
#include "rootfs/mounts.h"

namespace rootfs {

// The maps of one runtime's sandboxes, each made once and kept: it costs a process that lives for a
// moment (some 0.2 ms) and a descriptor. Needs CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID in the
// initial user namespace, and /proc. Not for two threads at once.
class IdMaps {
 public:
  // Whether an overlay in this kernel takes what is below `dir_fd` with other ids: the file system
  // has to allow it, and the kernel. Where not, why.
  static base::Status can_map(int dir_fd);

  // A detached mount as clone_tree makes it, in which the tree's uids and gids 0 … `count`-1 are
  // the host's `first` … and those beyond are nobody's.
  base::Result<base::UniqueFd> clone_as(int dir_fd, MountFlags flags, std::uint32_t first,
                                        std::uint32_t count);

 private:
  std::map<std::uint32_t, base::UniqueFd> namespaces_;  // user namespaces, by `first`
};

}  // namespace rootfs
