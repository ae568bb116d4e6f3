#include "rootfs/inside_mounts.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "base/process.h"
#include "base/syscalls.h"
#include "rootfs/id_map.h"

namespace rootfs {
namespace {

using base::fail;
using base::fail_because;
using base::fail_errno;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr int kPatienceMs = 5000;
constexpr long kProcMagic = 0x9fa0;

std::uint64_t attributes_of(MountFlags flags) {
  return (flags.read_only ? MOUNT_ATTR_RDONLY : 0U) | (flags.nosuid ? MOUNT_ATTR_NOSUID : 0U) |
         (flags.nodev ? MOUNT_ATTR_NODEV : 0U) | (flags.noexec ? MOUNT_ATTR_NOEXEC : 0U);
}

// --- outside -------------------------------------------------------------------------------------

// On a thread that has entered the host's mount namespace and ends there.
Result<UniqueFd> clone_there(int fd, int mounts_fd) {
  if (::unshare(CLONE_FS) != 0 || ::setns(mounts_fd, CLONE_NEWNS) != 0) {
    return fail_errno("enter the host's mount namespace");
  }
  const int clone =
      ::open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
  if (clone < 0 && errno == EINVAL) {
    return fail_because("it is not in the mount namespace that the agent was started in",
                        "run brood where the agent runs");
  }
  if (clone < 0) {
    return fail_errno("open_tree");
  }
  return UniqueFd(clone);
}

// --- inside: between fork and exit, system calls alone -------------------------------------------

// What a child says when something fails. `what` is a literal, at the same place in its parent.
struct Report {
  int error = 0;
  std::size_t mount = 0;  // the plan's size: of none of them
  const char* what = nullptr;
};

class Inside {
 public:
  Inside(const InsidePlan& plan, int pidfd, int report_fd)
      : plan_(plan), report_fd_(report_fd), kept_{pidfd, report_fd} {
    report_.mount = plan.mounts.size();
    for (const InsideMount& mount : plan.mounts) {
      if (mount.mount) {
        kept_.push_back(mount.mount.get());
      }
    }
    std::sort(kept_.begin(), kept_.end());
  }
  [[noreturn]] void run(int pidfd) {
    close_others();
    const bool done = enter(pidfd) && mount_all() && seal_root();
    if (!done) {
      (void)!::write(report_fd_, &report_, sizeof report_);
    }
    ::_exit(done ? 0 : 1);
  }

 private:
  // Whoever waits for a connection's end must not wait for this process.
  void close_others() const {
    unsigned from = 0;
    for (const int kept : kept_) {
      if (static_cast<unsigned>(kept) > from) {
        ::syscall(SYS_close_range, from, static_cast<unsigned>(kept) - 1, 0);
      }
      from = static_cast<unsigned>(kept) + 1;
    }
    ::syscall(SYS_close_range, from, ~0U, 0);
  }

  bool failed(const char* what, int error = errno) {
    report_.what = what;
    report_.error = error;
    return false;
  }

  bool enter(int pidfd) {
    if (::setns(pidfd, CLONE_NEWUSER | CLONE_NEWNS) != 0) {
      return failed("enter the sandbox");
    }
    if (::syscall(SYS_setgroups, 0L, nullptr) != 0 || ::syscall(SYS_setresgid, 0, 0, 0) != 0 ||
        ::syscall(SYS_setresuid, 0, 0, 0) != 0) {
      return failed("become the sandbox's root");
    }
    // The change of identity has reset it.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::umask(022);
    root_ = ::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root_ >= 0 || failed("open the sandbox's root");
  }

  bool mount_all() {
    for (report_.mount = 0; report_.mount < plan_.mounts.size(); ++report_.mount) {
      if (!mount_one(plan_.mounts[report_.mount])) {
        return false;
      }
    }
    return true;
  }

  int open_inside(const char* path) const {
    open_how how{};
    how.flags = O_PATH | O_CLOEXEC;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    return static_cast<int>(::syscall(SYS_openat2, root_, path, &how, sizeof how));
  }

  // As mkdir -p, step by step; the last may be a file. The path is cut at each slash in turn.
  int make_place(const InsideMount& mount) {
    char path[4096];
    const std::size_t size = mount.target.copy(path, sizeof path - 1);
    path[size] = '\0';
    int parent = root_;
    for (std::size_t at = 1; at <= size; ++at) {
      if (path[at] != '/' && path[at] != '\0') {
        continue;
      }
      const bool last = at == size;
      path[at] = '\0';
      int here = open_inside(path);
      if (here < 0 && errno == ENOENT && make_entry(parent, path, last && !mount.is_directory)) {
        here = open_inside(path);
      }
      const int error = errno;
      if (parent != root_) {
        ::close(parent);
      }
      if (here < 0) {
        errno = error;
        return -1;
      }
      parent = here;
      if (!last) {
        path[at] = '/';
      }
    }
    return parent;
  }

  static bool make_entry(int parent, const char* path, bool file) {
    const char* name = path;
    for (const char* at = path; *at != '\0'; ++at) {
      name = *at == '/' ? at + 1 : name;
    }
    if (!file) {
      return ::mkdirat(parent, name, 0755) == 0;
    }
    const int made =
        ::openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    return made >= 0 && ::close(made) == 0;
  }

  // A link in the image may have led there.
  static bool is_proc(int place) {
    struct statfs about {};
    return ::fstatfs(place, &about) == 0 && about.f_type == kProcMagic;
  }

  int make_tmpfs(const InsideMount& mount) {
    const int made = ::fsopen("tmpfs", FSOPEN_CLOEXEC);
    const auto set = [&](const char* key, const char* value) {
      return ::fsconfig(made, FSCONFIG_SET_STRING, key, value, 0) == 0;
    };
    if (made < 0 || !set("source", "tmpfs") || !set("size", mount.size.c_str()) ||
        !set("mode", mount.mode.c_str()) ||
        ::fsconfig(made, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
      return -1;
    }
    return ::fsmount(made, FSMOUNT_CLOEXEC,
                     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                         (mount.noexec ? static_cast<unsigned>(MOUNT_ATTR_NOEXEC) : 0U));
  }

  bool mount_one(const InsideMount& mount) {
    const int place = make_place(mount);
    if (place < 0) {
      return failed("make the place for a mount at");
    }
    struct stat about {};
    if (::fstat(place, &about) != 0 || S_ISDIR(about.st_mode) != mount.is_directory) {
      return failed("mount a folder on a file, or a file on a folder, at",
                    mount.is_directory ? ENOTDIR : EISDIR);
    }
    if (is_proc(place)) {
      return failed("mount into /proc, where the image leads, at", EPERM);
    }
    const int what = mount.mount ? mount.mount.get() : make_tmpfs(mount);
    if (what < 0) {
      return failed("make a tmpfs for");
    }
    if (::move_mount(what, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
      return failed("move_mount to");
    }
    ::close(place);
    return true;
  }

  bool seal_root() {
    if (!plan_.read_only_root) {
      return true;
    }
    struct mount_attr attributes {};
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    return ::mount_setattr(root_, "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0 ||
           failed("make the root read-only");
  }

  const InsidePlan& plan_;
  int report_fd_;
  std::vector<int> kept_;
  int root_ = -1;
  Report report_;
};

Status told(int report_fd, const InsidePlan& plan) {
  Report report;
  if (::read(report_fd, &report, sizeof report) != static_cast<ssize_t>(sizeof report)) {
    return fail_because("the sandbox's mounts could not be made: whoever made them was killed");
  }
  return fail(base::Error(
      report.what, report.error,
      report.mount < plan.mounts.size() ? plan.mounts[report.mount].target : std::string()));
}

}  // namespace

Result<HostTree> clone_host_tree(int fd, int mounts_fd, MountFlags flags, OneOwner owner) {
  HostTree tree;
  struct statx about {};
  // What is known of it already: its file system is not asked, which may never answer.
  if (::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &about) != 0) {
    return fail_errno("statx");
  }
  tree.is_directory = S_ISDIR(about.stx_mode);
  if (!tree.is_directory && !S_ISREG(about.stx_mode)) {
    return fail_because("it is neither a folder nor a file");
  }
  Result<UniqueFd> clone = fail_because("not tried");
  std::thread([&] { clone = clone_there(fd, mounts_fd); }).join();
  BROOD_TRY(tree.mount, std::move(clone));
  struct mount_attr attributes {};
  attributes.attr_set = attributes_of(flags);
  attributes.propagation = MS_PRIVATE;
  if (::mount_setattr(tree.mount.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
                      sizeof attributes) != 0) {
    return fail_errno("mount_setattr");
  }
  const std::string one = " 1\n";
  if (const auto mapped = map_tree(
          tree.mount.get(), std::to_string(owner.disk_uid) + " " + std::to_string(owner.uid) + one,
          std::to_string(owner.disk_gid) + " " + std::to_string(owner.gid) + one);
      !mapped) {
    tree.unmapped = mapped.error().message();
  }
  return tree;
}

Status mount_inside(int pidfd, const InsidePlan& plan) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return fail_errno("pipe2");
  }
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const pid_t self = ::getpid();
  Inside inside(plan, pidfd, to.get());  // it allocates: before the fork
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() == self) {
      inside.run(pidfd);
    }
    ::_exit(1);
  }
  if (pid < 0) {
    return fail_errno("fork");
  }
  to.reset();
  base::OwnedPid child(pid, UniqueFd(base::pidfd_open(pid)));
  pollfd asked{child.ref().fd(), POLLIN, 0};
  if (::poll(&asked, 1, kPatienceMs) <= 0) {
    return fail(base::Error("make the sandbox's mounts", ETIMEDOUT));  // it is killed as it goes
  }
  BROOD_TRY(const base::ProcessEnd end, child.wait());
  return end.exited_with(0) ? Status() : told(from.get(), plan);
}

}  // namespace rootfs
