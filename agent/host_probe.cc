#include "agent/host_probe.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/fd.h"

namespace agent {

namespace {

constexpr unsigned kTimeLimitSeconds = 10;

// The child's notebook: the first call that fails, and why. Steps are literals, so that their
// addresses mean the same in the parent.
class Notebook {
 public:
  bool did(const char* step, long result) {
    if (result >= 0) {
      return true;
    }
    failed_ = {.error = errno, .step = step};
    return false;
  }
  struct Note {
    int error = 0;
    const char* step = "";
  };
  const Note& note() const { return failed_; }

 private:
  Note failed_;
};

void run_child(int report_fd, void (*body)(Notebook&, const void*), const void* argument) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGALRM, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  ::alarm(kTimeLimitSeconds);
  Notebook notebook;
  body(notebook, argument);
  const ssize_t put = ::write(report_fd, &notebook.note(), sizeof(Notebook::Note));
  ::_exit(put == sizeof(Notebook::Note) ? 0 : 1);
}

Trial read_report(int fd) {
  Notebook::Note note;
  ssize_t got = 0;
  do {
    got = ::read(fd, &note, sizeof note);
  } while (got < 0 && errno == EINTR);
  if (got != sizeof note) {
    return {.error = ETIMEDOUT, .step = "the trial did not end"};
  }
  return {.error = note.error, .step = note.step};
}

// Runs `body(notebook)` in a forked child and answers what it noted.
template <typename Body>
Trial in_child(const Body& body) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return {.error = errno, .step = "pipe"};
  }
  const base::UniqueFd reading(ends[0]);
  base::UniqueFd writing(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) {
    return {.error = errno, .step = "fork"};
  }
  if (pid == 0) {
    run_child(
        writing.get(),
        [](Notebook& notebook, const void* argument) {
          (*static_cast<const Body*>(argument))(notebook);
        },
        &body);
  }
  writing.reset();
  const Trial trial = read_report(reading.get());
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return trial;
}

bool write_text(Notebook& notebook, const char* path, const char* text) {
  const base::UniqueFd file(::open(path, O_WRONLY | O_CLOEXEC));
  return notebook.did(path, file.get()) &&
         notebook.did(path, ::write(file.get(), text, std::strlen(text)));
}

// Root inside is the caller outside; others do not exist.
bool enter_user_namespace(Notebook& notebook, int more_flags) {
  char uids[32];
  char gids[32];
  std::snprintf(uids, sizeof uids, "0 %u 1", ::geteuid());
  std::snprintf(gids, sizeof gids, "0 %u 1", ::getegid());
  return notebook.did("unshare a user namespace", ::unshare(CLONE_NEWUSER | more_flags)) &&
         write_text(notebook, "/proc/self/setgroups", "deny") &&
         write_text(notebook, "/proc/self/uid_map", uids) &&
         write_text(notebook, "/proc/self/gid_map", gids);
}

bool keep_mounts_private(Notebook& notebook) {
  return notebook.did("make mounts private",
                      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
}

// From here on the scratch directory is a tmpfs of the child's own, and where it stands.
bool mount_scratch(Notebook& notebook, const char* directory) {
  return keep_mounts_private(notebook) &&
         notebook.did("mount tmpfs",
                      ::mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m")) &&
         notebook.did("chdir", ::chdir(directory));
}

bool touch(Notebook& notebook, const char* path) {
  const base::UniqueFd file(::open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  return notebook.did("create a file", file.get());
}

bool set_flags(Notebook& notebook, int mount_fd) {
  struct mount_attr flags {};
  flags.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  return notebook.did("mount_setattr",
                      ::mount_setattr(mount_fd, "", AT_EMPTY_PATH, &flags, sizeof flags));
}

bool move_detached(Notebook& notebook, const char* from, const char* to) {
  const base::UniqueFd tree(
      ::open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | static_cast<unsigned>(OPEN_TREE_CLOEXEC)));
  return notebook.did("open_tree", tree.get()) && set_flags(notebook, tree.get()) &&
         notebook.did("move_mount",
                      ::move_mount(tree.get(), "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH));
}

// A process that holds a user namespace open for as long as the pipe to it is.
struct NamespaceHolder {
  NamespaceHolder() = default;
  NamespaceHolder(const NamespaceHolder&) = delete;
  NamespaceHolder& operator=(const NamespaceHolder&) = delete;
  ~NamespaceHolder() {
    release.reset();
    if (pid > 0) {
      ::waitpid(pid, nullptr, 0);
    }
  }

  pid_t pid = -1;
  base::UniqueFd release;
  base::UniqueFd user_namespace;
};

bool hold_user_namespace(Notebook& notebook, NamespaceHolder& holder) {
  int ready[2];
  int stay[2];
  if (!notebook.did("pipe", ::pipe2(ready, O_CLOEXEC)) ||
      !notebook.did("pipe", ::pipe2(stay, O_CLOEXEC))) {
    return false;
  }
  holder.pid = ::fork();
  if (holder.pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(stay[1]);
    Notebook own;
    const char good = enter_user_namespace(own, 0) ? 1 : 0;
    char byte = 0;
    ::_exit(::write(ready[1], &good, 1) == 1 && ::read(stay[0], &byte, 1) >= 0 ? 0 : 1);
  }
  ::close(ready[1]);
  ::close(stay[0]);
  holder.release.reset(stay[1]);
  char good = 0;
  if (!notebook.did("fork", holder.pid) ||
      !notebook.did("wait for a user namespace", ::read(ready[0], &good, 1))) {
    return false;
  }
  if (good != 1) {
    errno = EPERM;
    return notebook.did("make a user namespace", -1);
  }
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/ns/user", holder.pid);
  holder.user_namespace.reset(::open(path, O_RDONLY | O_CLOEXEC));
  return notebook.did("open a user namespace", holder.user_namespace.get());
}

bool remove_lower_entries(Notebook& notebook) {
  return touch(notebook, "merged/new") &&
         notebook.did("remove a file of the lower layer", ::unlink("merged/file")) &&
         notebook.did("remove a directory of the lower layer", ::rmdir("merged/dir"));
}

bool mount_overlay(Notebook& notebook, const char* scratch_dir) {
  if (!enter_user_namespace(notebook, CLONE_NEWNS) || !mount_scratch(notebook, scratch_dir)) {
    return false;
  }
  for (const char* path : {"lower", "upper", "work", "merged", "lower/dir"}) {
    if (!notebook.did("mkdir", ::mkdir(path, 0700))) {
      return false;
    }
  }
  return touch(notebook, "lower/file") &&
         notebook.did("mount overlay",
                      ::mount("overlay", "merged", "overlay", MS_NOSUID | MS_NODEV,
                              "lowerdir=lower,upperdir=upper,workdir=work,userxattr"));
}

// The side of the sandbox: locked into its own namespaces before the mount is made.
[[noreturn]] void await_mount(int entered_fd, int mounted_fd, int answer_fd) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Notebook own;
  const char good = enter_user_namespace(own, CLONE_NEWNS) ? 1 : 0;
  char byte = 0;
  char seen = 0;
  if (::write(entered_fd, &good, 1) == 1 && ::read(mounted_fd, &byte, 1) == 1) {
    seen = ::access("point/marker", F_OK) == 0 ? 1 : 0;
  }
  (void)!::write(answer_fd, &seen, 1);
  ::_exit(0);
}

}  // namespace

std::string Trial::text() const {
  return works() ? "works" : base::Error(std::string(step), error).message();
}

Trial try_nested_user_namespaces() {
  constexpr int kAll = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET;
  return in_child([](Notebook& notebook) {
    if (enter_user_namespace(notebook, CLONE_NEWNS)) {
      enter_user_namespace(notebook, kAll);
    }
  });
}

Trial try_detached_mount(const std::string& scratch_dir) {
  return in_child([&](Notebook& notebook) {
    (void)(notebook.did("unshare", ::unshare(CLONE_NEWNS)) &&
           mount_scratch(notebook, scratch_dir.c_str()) &&
           notebook.did("mkdir", ::mkdir("from", 0700)) &&
           notebook.did("mkdir", ::mkdir("to", 0700)) && move_detached(notebook, "from", "to"));
  });
}

Trial try_idmapped_mount(const std::string& directory) {
  return in_child([&](Notebook& notebook) {
    NamespaceHolder holder;
    if (!hold_user_namespace(notebook, holder)) {
      return;
    }
    struct mount_attr map {};
    map.attr_set = MOUNT_ATTR_IDMAP;
    map.userns_fd = static_cast<std::uint64_t>(holder.user_namespace.get());
    const base::UniqueFd tree(::open_tree(
        AT_FDCWD, directory.c_str(), OPEN_TREE_CLONE | static_cast<unsigned>(OPEN_TREE_CLOEXEC)));
    if (notebook.did("open_tree", tree.get())) {
      notebook.did("mount_setattr idmap",
                   ::mount_setattr(tree.get(), "", AT_EMPTY_PATH, &map, sizeof map));
    }
  });
}

Trial try_overlay_in_user_namespace(const std::string& scratch_dir) {
  return in_child([&](Notebook& notebook) {
    (void)(mount_overlay(notebook, scratch_dir.c_str()) && remove_lower_entries(notebook));
  });
}

Trial try_overlay_replaced_directory(const std::string& scratch_dir) {
  return in_child([&](Notebook& notebook) {
    (void)(mount_overlay(notebook, scratch_dir.c_str()) && remove_lower_entries(notebook) &&
           notebook.did("replace a directory of the lower layer", ::mkdir("merged/dir", 0700)));
  });
}

Trial try_tmpfs_user_attributes(const std::string& scratch_dir) {
  return in_child([&](Notebook& notebook) {
    (void)(enter_user_namespace(notebook, CLONE_NEWNS) &&
           mount_scratch(notebook, scratch_dir.c_str()) && touch(notebook, "file") &&
           notebook.did("setxattr user.brood", ::setxattr("file", "user.brood", "1", 1, 0)));
  });
}

Trial try_mount_propagation(const std::string& scratch_dir) {
  return in_child([&](Notebook& notebook) {
    int entered[2];
    int mounted[2];
    int answer[2];
    const bool prepared =
        notebook.did("unshare", ::unshare(CLONE_NEWNS)) &&
        mount_scratch(notebook, scratch_dir.c_str()) &&
        notebook.did("mkdir", ::mkdir("source", 0700)) && touch(notebook, "source/marker") &&
        notebook.did("mkdir", ::mkdir("point", 0700)) &&
        notebook.did("share the mount",
                     ::mount(nullptr, scratch_dir.c_str(), nullptr, MS_SHARED, nullptr)) &&
        notebook.did("pipe", ::pipe2(entered, O_CLOEXEC)) &&
        notebook.did("pipe", ::pipe2(mounted, O_CLOEXEC)) &&
        notebook.did("pipe", ::pipe2(answer, O_CLOEXEC));
    if (!prepared) {
      return;
    }
    const pid_t sandbox = ::fork();
    if (sandbox == 0) {
      await_mount(entered[1], mounted[0], answer[1]);
    }
    char byte = 0;
    if (notebook.did("fork", sandbox) &&
        notebook.did("wait for the sandbox", ::read(entered[0], &byte, 1)) &&
        move_detached(notebook, "source", "point") &&
        notebook.did("tell the sandbox", ::write(mounted[1], &byte, 1)) &&
        notebook.did("hear from the sandbox", ::read(answer[0], &byte, 1)) && byte != 1) {
      errno = ENOENT;
      notebook.did("look for the mount inside", -1);
    }
    // Still waiting where a step in between failed.
    ::kill(sandbox, SIGKILL);
    ::waitpid(sandbox, nullptr, 0);
  });
}

Trial try_clone_into_cgroup(int cgroup_fd) {
  return in_child([&](Notebook& notebook) {
    struct clone_args args {};
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = SIGCHLD;
    args.cgroup = static_cast<std::uint64_t>(cgroup_fd);
    const long pid = ::syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
      ::_exit(0);
    }
    if (notebook.did("clone3", pid)) {
      ::waitpid(static_cast<pid_t>(pid), nullptr, 0);
    }
  });
}

Trial try_seccomp_notification() {
  return in_child([](Notebook& notebook) {
    sock_filter allow_all = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    sock_fprog program{.len = 1, .filter = &allow_all};
    if (notebook.did("no_new_privs", ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))) {
      notebook.did("seccomp NEW_LISTENER", ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                                     SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
    }
  });
}

int landlock_version() {
  const long version =
      ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return version < 0 ? 0 : static_cast<int>(version);
}

bool seccomp_action_known(unsigned action) {
  return ::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

}  // namespace agent
