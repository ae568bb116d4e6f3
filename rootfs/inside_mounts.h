// Mounts that one command's sandbox has beside its root: folders and files of the host, tmpfs, and
// a root that is read-only. They are made when the sandbox is complete and has no power to mount
// anything left, and before anything of its command runs in it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "rootfs/mounts.h"

namespace rootfs {

// Whose files a mount shows: `disk_uid` and `disk_gid` as they are on the disk are the host's `uid`
// and `gid` in the mount, and so the other way about for what is made in it; all others are
// nobody's, and nothing can be made for them.
struct OneOwner {
  std::uint32_t disk_uid = 0;
  std::uint32_t disk_gid = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

struct HostTree {
  base::UniqueFd mount;  // detached
  bool is_directory = true;
  std::string unmapped;  // why the owners are as they are on the disk; empty: they are `OneOwner`'s
};

// What is at `fd`, and all that is mounted below it, as a detached mount with these flags
// throughout. `fd` (O_PATH will do) is of the mount namespace behind `mounts_fd`; of any other, it
// is refused with a sentence of its own. Where a file system of the tree cannot map owners, they
// stay what they are, so that the sandbox has no more rights than anybody on the host.
// Blocks; needs CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SETUID and CAP_SETGID in the initial user
// namespace.
base::Result<HostTree> clone_host_tree(int fd, int mounts_fd, MountFlags flags, OneOwner owner);

struct InsideMount {
  std::string target;    // absolute, without "." and ".." and a slash at the end; inside
  base::UniqueFd mount;  // detached; none: a tmpfs is made
  bool is_directory = true;
  std::string size{};  // of a tmpfs: bytes
  std::string mode{};  // of its root, in octal
  bool noexec = true;
};

struct InsidePlan {
  std::vector<InsideMount> mounts;  // one that lies in another comes after it
  bool read_only_root = false;
};

// Carries the plan out in the user and mount namespaces of the process behind `pidfd`, by a process
// that is made for it: as root of these namespaces, and without any power outside. What is missing
// on the way to a target is made. Image and bound folders are hostile: links are followed inside
// the sandbox's root, and none of /proc's magic ones. Fails with the target named; what was mounted
// before stays, for the sandbox is to be killed then. Gives up after 5 seconds (ETIMEDOUT): a
// folder may be of a file system whose answers never come. Blocks; any thread.
base::Status mount_inside(int pidfd, const InsidePlan& plan);

}  // namespace rootfs
