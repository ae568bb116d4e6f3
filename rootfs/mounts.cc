#include "rootfs/mounts.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/file.h"

namespace rootfs {
namespace {

using base::fail;
using base::fail_errno;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr unsigned kEmptyPath = AT_EMPTY_PATH;
// A slot holds the master and the code on it; anything beyond is a mistake that must not loop.
constexpr int kMaxStacked = 8;
// The places of a slot.
constexpr const char* kCodePlace = "code";
constexpr const char* kLayersPlace = "layers";

std::uint64_t attributes_of(MountFlags flags) {
  return (flags.read_only ? MOUNT_ATTR_RDONLY : 0U) | (flags.nosuid ? MOUNT_ATTR_NOSUID : 0U) |
         (flags.nodev ? MOUNT_ATTR_NODEV : 0U) | (flags.noexec ? MOUNT_ATTR_NOEXEC : 0U);
}

Result<UniqueFd> clone_mount(int fd, const char* below = "") {
  const int clone = ::open_tree(fd, below, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | kEmptyPath);
  if (clone < 0) {
    return fail_errno("open_tree");
  }
  return UniqueFd(clone);
}

Status set_attributes(int mount_fd, std::uint64_t set, std::uint64_t propagation) {
  struct mount_attr attributes {};
  attributes.attr_set = set;
  attributes.propagation = propagation;
  if (::mount_setattr(mount_fd, "", kEmptyPath, &attributes, sizeof attributes) != 0) {
    return fail_errno("mount_setattr");
  }
  return {};
}

// A file system on its way to being mounted.
class NewFilesystem {
 public:
  static Result<NewFilesystem> open(const char* type) {
    const int fd = ::fsopen(type, FSOPEN_CLOEXEC);
    if (fd < 0) {
      return fail_errno("fsopen", type);
    }
    return NewFilesystem(UniqueFd(fd));
  }

  Status set(const char* key, const std::string& value) {
    return configure(FSCONFIG_SET_STRING, key, value.c_str());
  }
  Status set_flag(const char* key) { return configure(FSCONFIG_SET_FLAG, key, nullptr); }
  Status reconfigure() { return configure(FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr); }

  Result<UniqueFd> mount(unsigned attributes) {
    BROOD_CHECK(configure(FSCONFIG_CMD_CREATE, nullptr, nullptr));
    const int fd = ::fsmount(fd_.get(), FSMOUNT_CLOEXEC, attributes);
    if (fd < 0) {
      return fail_errno("fsmount");
    }
    return UniqueFd(fd);
  }

 private:
  explicit NewFilesystem(UniqueFd fd) : fd_(std::move(fd)) {}

  Status configure(unsigned command, const char* key, const char* value) {
    if (::fsconfig(fd_.get(), command, key, value, 0) != 0) {
      const int code = errno;
      return fail(base::Error("fsconfig", code, key != nullptr ? key : "", kernel_says()));
    }
    return {};
  }

  // The kernel's own words on what is wrong, where it has some ("e overlay: …").
  std::string kernel_says() const {
    char text[256];
    const ssize_t size = ::read(fd_.get(), text, sizeof text);
    return size > 2 ? std::string(text + 2, static_cast<std::size_t>(size) - 2) : std::string();
  }

  UniqueFd fd_;
};

struct SmallTmpfs {
  NewFilesystem filesystem;
  UniqueFd mount;
};

Result<SmallTmpfs> small_tmpfs(unsigned attributes) {
  BROOD_TRY(NewFilesystem filesystem, NewFilesystem::open("tmpfs"));
  BROOD_CHECK(filesystem.set("source", "brood"));
  BROOD_CHECK(filesystem.set("size", "64k"));
  BROOD_CHECK(filesystem.set("nr_inodes", "32"));
  BROOD_CHECK(filesystem.set("mode", "0755"));
  BROOD_TRY(UniqueFd mount, filesystem.mount(attributes));
  return SmallTmpfs{std::move(filesystem), std::move(mount)};
}

// The file system itself, not just this mount of it: a mount's flag is the mount's, and whoever
// clones it may get one without.
Result<UniqueFd> sealed(SmallTmpfs made) {
  BROOD_CHECK(made.filesystem.set_flag("ro"));
  BROOD_CHECK(made.filesystem.reconfigure());
  BROOD_CHECK(set_attributes(made.mount.get(), MOUNT_ATTR_RDONLY, 0));
  return std::move(made.mount);
}

Status make_directory(int mount_fd, const std::string& name) {
  if (::mkdirat(mount_fd, name.c_str(), 0755) != 0 ||
      ::fchmodat(mount_fd, name.c_str(), 0755, 0) != 0) {
    return fail_errno("mkdirat", name);
  }
  return {};
}

Status make_device(int mount_fd, const char* name, unsigned major, unsigned minor) {
  if (::mknodat(mount_fd, name, S_IFCHR | 0666, makedev(major, minor)) != 0) {
    const int code = errno;
    return fail(
        base::Error("mknodat", code, std::string("/dev/") + name,
                    code == EPERM ? "the agent needs CAP_MKNOD; a container may lack it" : ""));
  }
  // The caller's umask has had its say in mknodat.
  if (::fchmodat(mount_fd, name, 0666, 0) != 0) {
    return fail_errno("fchmodat", name);
  }
  return {};
}

Status fill_devices(int mount_fd) {
  struct Device {
    const char* name;
    unsigned major, minor;
  };
  for (const auto& [name, major, minor] :
       {Device{"null", 1, 3}, Device{"zero", 1, 5}, Device{"full", 1, 7}, Device{"random", 1, 8},
        Device{"urandom", 1, 9}, Device{"tty", 5, 0}}) {
    BROOD_CHECK(make_device(mount_fd, name, major, minor));
  }
  struct Link {
    const char* name;
    const char* target;
  };
  for (const auto& [name, target] :
       {Link{"fd", "/proc/self/fd"}, Link{"stdin", "/proc/self/fd/0"},
        Link{"stdout", "/proc/self/fd/1"}, Link{"stderr", "/proc/self/fd/2"}}) {
    if (::symlinkat(target, mount_fd, name) != 0) {
      return fail_errno("symlinkat", name);
    }
  }
  return make_directory(mount_fd, "shm");
}

std::string path_of(int fd) {
  return "/proc/self/fd/" + std::to_string(fd);
}

}  // namespace

Status enter_own_mount_namespace() {
  if (::unshare(CLONE_NEWNS) != 0) {
    return fail_errno("unshare", "mount namespace");
  }
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) {
    return fail_errno("mount", "/");
  }
  return {};
}

Result<UniqueFd> clone_tree(int dir_fd, MountFlags flags) {
  BROOD_TRY(UniqueFd clone, clone_mount(dir_fd));
  BROOD_CHECK(set_attributes(clone.get(), attributes_of(flags), MS_PRIVATE));
  return clone;
}

Result<UniqueFd> device_tmpfs() {
  BROOD_TRY(SmallTmpfs made, small_tmpfs(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
  BROOD_CHECK(fill_devices(made.mount.get()));
  return sealed(std::move(made));
}

Result<UniqueFd> run_tmpfs(const std::vector<std::string>& names) {
  BROOD_TRY(SmallTmpfs made, small_tmpfs(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  for (const std::string& name : names) {
    BROOD_CHECK(make_directory(made.mount.get(), name));
  }
  return sealed(std::move(made));
}

Result<UniqueFd> code_overlay(int code_dir_fd, int empty_dir_fd) {
  BROOD_TRY(NewFilesystem overlay, NewFilesystem::open("overlay"));
  BROOD_CHECK(overlay.set("source", "function"));
  BROOD_CHECK(overlay.set("lowerdir", path_of(code_dir_fd) + ":" + path_of(empty_dir_fd)));
  BROOD_CHECK(overlay.set_flag("ro"));
  return overlay.mount(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

Result<UniqueFd> layers_overlay(std::span<const int> dir_fds, int empty_dir_fd) {
  BROOD_TRY(NewFilesystem overlay, NewFilesystem::open("overlay"));
  BROOD_CHECK(overlay.set("source", "layers"));
  std::string lower;
  for (auto dir = dir_fds.rbegin(); dir != dir_fds.rend(); ++dir) {  // the first named is on top
    lower += path_of(*dir) + ":";
  }
  BROOD_CHECK(overlay.set("lowerdir", lower + path_of(empty_dir_fd)));
  BROOD_CHECK(overlay.set_flag("ro"));
  return overlay.mount(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

Result<HeldMount> HeldMount::hold(int parent_fd, std::string name, UniqueFd detached) {
  if (::mkdirat(parent_fd, name.c_str(), 0700) != 0) {
    return fail_errno("mkdirat", name);
  }
  if (::move_mount(detached.get(), "", parent_fd, name.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    const int code = errno;
    ::unlinkat(parent_fd, name.c_str(), AT_REMOVEDIR);
    return fail(base::Error("move_mount", code, name));
  }
  return HeldMount(parent_fd, std::move(name), std::move(detached));
}

HeldMount::HeldMount(HeldMount&& other) noexcept
    : parent_fd_(other.parent_fd_),
      name_(std::move(other.name_)),
      mount_(std::move(other.mount_)) {}

HeldMount& HeldMount::operator=(HeldMount&& other) noexcept {
  if (this != &other) {
    (void)release();
    parent_fd_ = other.parent_fd_;
    name_ = std::move(other.name_);
    mount_ = std::move(other.mount_);
  }
  return *this;
}

Status HeldMount::release() {
  if (!mount_) {
    return {};
  }
  mount_.reset();
  // umount takes what is on top, so a master with code on it takes two.
  const std::string path = path_of(parent_fd_) + "/" + name_;
  for (int i = 0; i < kMaxStacked && ::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0;
       ++i) {
  }
  if (::unlinkat(parent_fd_, name_.c_str(), AT_REMOVEDIR) != 0) {
    return fail_errno("rmdir", name_);
  }
  return {};
}

Result<UniqueFd> CodeSlot::slave() const {
  return slave_at(kCodePlace);
}

Result<UniqueFd> CodeSlot::layers_slave() const {
  return slave_at(kLayersPlace);
}

Result<UniqueFd> CodeSlot::slave_at(const char* place) const {
  // A clone of a shared mount is its peer; only then can it become its slave.
  BROOD_TRY(UniqueFd clone, clone_mount(master_.fd(), place));
  BROOD_CHECK(set_attributes(clone.get(), 0, MS_SLAVE));
  return clone;
}

Status CodeSlot::attach(const HeldMount& code) {
  return attach_at(kCodePlace, code);
}

Status CodeSlot::attach_layers(const HeldMount& layers) {
  return attach_at(kLayersPlace, layers);
}

Status CodeSlot::attach_at(const char* place, const HeldMount& mount) {
  BROOD_TRY(const UniqueFd clone, clone_mount(mount.fd()));
  if (::move_mount(clone.get(), "", master_.fd(), place, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return fail_errno("move_mount", std::string(place) + " of " + master_.name());
  }
  return {};
}

Result<CodeSlots> CodeSlots::make(const std::string& directory) {
  BROOD_TRY(UniqueFd parent, base::open_at(AT_FDCWD, directory, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  BROOD_TRY(UniqueFd places, run_tmpfs({kCodePlace, kLayersPlace}));
  BROOD_TRY(HeldMount seed, HeldMount::hold(parent.get(), "seed", std::move(places)));
  BROOD_TRY(UniqueFd empty,
            base::open_at(seed.fd(), kCodePlace, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  return CodeSlots(std::move(parent), std::move(seed), std::move(empty));
}

Result<CodeSlot> CodeSlots::slot() {
  BROOD_TRY(UniqueFd clone, clone_mount(seed_.fd()));
  BROOD_TRY(HeldMount master,
            HeldMount::hold(directory_.get(), next_name("slot-"), std::move(clone)));
  BROOD_CHECK(set_attributes(master.fd(), 0, MS_SHARED));
  return CodeSlot(std::move(master));
}

Result<HeldMount> CodeSlots::code(int code_dir_fd) {
  BROOD_TRY(UniqueFd overlay, code_overlay(code_dir_fd, empty_.get()));
  return HeldMount::hold(directory_.get(), next_name("code-"), std::move(overlay));
}

Result<HeldMount> CodeSlots::layers(std::span<const int> dir_fds) {
  BROOD_TRY(UniqueFd overlay, layers_overlay(dir_fds, empty_.get()));
  return HeldMount::hold(directory_.get(), next_name("layers-"), std::move(overlay));
}

}  // namespace rootfs
