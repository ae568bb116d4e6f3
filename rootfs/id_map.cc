#include "rootfs/id_map.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <thread>

#include "base/file.h"
#include "base/process.h"

namespace rootfs {
namespace {

using base::fail_errno;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr std::size_t kStack = 16 << 10;

// Lives until it is killed, or its maker is. It shares that one's memory, errno too: only calls
// that do not fail.
int wait_for_the_end(void* maker) {
  ::syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (::syscall(SYS_getppid) != *static_cast<const pid_t*>(maker)) {
    return 0;  // it was killed before that could be asked for
  }
  for (;;) {
    ::syscall(SYS_ppoll, nullptr, 0, nullptr, nullptr, 8);
  }
}

// CLONE_FILES: a copy of the descriptors would keep locks and sockets of a maker that was killed.
Result<base::OwnedPid> start_holder(char* stack) {
  static const pid_t self = ::getpid();
  int pidfd = -1;
  const pid_t pid = ::clone(wait_for_the_end, stack + kStack,
                            CLONE_VM | CLONE_FILES | CLONE_NEWUSER | CLONE_PIDFD | SIGCHLD,
                            const_cast<pid_t*>(&self), &pidfd);
  if (pid < 0) {
    return fail_errno("clone", "a user namespace");
  }
  return base::OwnedPid(pid, UniqueFd(pidfd));
}

// A user namespace with these maps; nobody is in it.
Result<UniqueFd> make_namespace(const std::string& uid_map, const std::string& gid_map) {
  const auto stack = std::make_unique<char[]>(kStack);
  BROOD_TRY(base::OwnedPid holder, start_holder(stack.get()));
  const std::string directory = "/proc/" + std::to_string(holder.pid());
  const auto make = [&]() -> Result<UniqueFd> {
    BROOD_CHECK(base::write_control_at(AT_FDCWD, directory + "/gid_map", gid_map));
    BROOD_CHECK(base::write_control_at(AT_FDCWD, directory + "/uid_map", uid_map));
    return base::open_at(AT_FDCWD, directory + "/ns/user", O_RDONLY);
  };
  auto made = make();
  BROOD_CHECK(holder.kill());  // before its stack goes
  return made;
}

}  // namespace

Result<UniqueFd> clone_tree_as(int dir_fd, MountFlags flags, std::uint32_t first,
                               std::uint32_t count) {
  const std::string map = "0 " + std::to_string(first) + " " + std::to_string(count) + "\n";
  BROOD_TRY(UniqueFd mount, clone_tree(dir_fd, flags));
  BROOD_CHECK(map_tree(mount.get(), map, map));
  return mount;
}

Status map_tree(int mount_fd, const std::string& uid_map, const std::string& gid_map) {
  BROOD_TRY(const UniqueFd map, make_namespace(uid_map, gid_map));
  struct mount_attr attributes {};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<std::uint64_t>(map.get());
  if (::mount_setattr(mount_fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) !=
      0) {
    return fail_errno("mount_setattr", "MOUNT_ATTR_IDMAP");
  }
  return {};
}

namespace {

// On a thread of its own, whose mount namespace ends with it: an overlay takes only what is
// attached.
Status try_overlay(const UniqueFd& mapped) {
  if (::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=16k") != 0 ||
      ::mkdir("/tmp/image", 0700) != 0 || ::mkdir("/tmp/empty", 0700) != 0 ||
      ::mkdir("/tmp/root", 0700) != 0) {
    return fail_errno("make a place to look at idmapped mounts");
  }
  if (::move_mount(mapped.get(), "", AT_FDCWD, "/tmp/image", MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return fail_errno("move_mount", "an idmapped mount");
  }
  if (::mount("overlay", "/tmp/root", "overlay", MS_RDONLY, "lowerdir=/tmp/image:/tmp/empty") !=
      0) {
    return fail_errno("mount", "an overlay of an idmapped mount");
  }
  return {};
}

}  // namespace

Status can_map_ids(int dir_fd) {
  // Any range will do: nothing is made with it.
  constexpr std::uint32_t kFirst = 1U << 31;
  BROOD_TRY(const UniqueFd mapped, clone_tree_as(dir_fd, {.read_only = true}, kFirst, 1));
  Status status;
  std::thread([&] { status = try_overlay(mapped); }).join();
  return status;
}

}  // namespace rootfs
