#include "rootfs/confined_tool.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <optional>

#include "base/fd.h"
#include "base/file.h"
#include "base/process.h"
#include "rootfs/mounts.h"

namespace rootfs {
namespace {

using base::fail_because;
using base::fail_errno;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr std::size_t kMostOutput = 8 << 20;
constexpr std::size_t kMostComplaint = 2 << 10;
constexpr int kLookMs = 250;
constexpr int kNoProgram = 127;

volatile sig_atomic_t noted = 0;

// --- in the child --------------------------------------------------------------------------------

struct Place {
  std::string from;  // of the host
  std::string to;    // below the new root, without the slash
  MountFlags flags;
};

constexpr MountFlags kReadOnly{.read_only = true, .nosuid = true, .nodev = true};

// What is not there is not shown. /bin and the like are links into /usr since Debian 12.
std::vector<Place> places_of(const ToolRun& run) {
  std::vector<Place> places;
  for (const char* path :
       {"/usr", "/etc/ld.so.cache", "/etc/alternatives", "/etc/containers", "/etc/docker/certs.d",
        "/etc/ssl/certs", "/etc/ca-certificates", "/etc/nsswitch.conf", "/etc/hosts",
        "/etc/resolv.conf", "/etc/gai.conf", "/etc/host.conf", "/etc/localtime"}) {
    places.push_back({path, path + 1, kReadOnly});
  }
  for (const char* path : {"/dev/null", "/dev/zero", "/dev/urandom"}) {
    places.push_back({path, path + 1, {.read_only = false, .nosuid = true, .noexec = true}});
  }
  places.push_back({run.work, "work", {.nosuid = true, .nodev = true, .noexec = true}});
  constexpr MountFlags kData{.read_only = true, .nosuid = true, .nodev = true, .noexec = true};
  if (!run.input.empty()) {
    places.push_back({run.input, "input", kData});
  }
  if (!run.credentials.empty()) {
    places.push_back({run.credentials, "credentials", kData});
  }
  return places;
}

struct Held {
  UniqueFd mount;
  std::string to;
  bool directory = false;
};

// Before anything is mounted over: a place may lie where the new root is put together.
Result<std::vector<Held>> hold(const std::vector<Place>& places) {
  std::vector<Held> held;
  for (const Place& place : places) {
    auto opened = base::open_at(AT_FDCWD, place.from, O_PATH);
    if (!opened) {
      if (opened.error().code() == ENOENT) {
        continue;
      }
      return base::fail(std::move(opened.error()));
    }
    struct stat about {};
    if (::fstat(opened->get(), &about) != 0) {
      return fail_errno("fstat", place.from);
    }
    BROOD_TRY(UniqueFd mount, clone_tree(opened->get(), place.flags));
    held.push_back({std::move(mount), place.to, S_ISDIR(about.st_mode)});
  }
  return held;
}

Status put(const Held& one) {
  const std::string target = "/tmp/" + one.to;
  const std::string parent = target.substr(0, target.rfind('/'));
  BROOD_CHECK(base::make_directories(one.directory ? target : parent, 0755));
  if (!one.directory) {
    BROOD_TRY(const UniqueFd file,
              base::open_at(AT_FDCWD, target, O_WRONLY | O_CREAT | O_EXCL, 0644));
  }
  if (::syscall(SYS_move_mount, one.mount.get(), "", AT_FDCWD, target.c_str(),
                MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return fail_errno("move_mount", one.to);
  }
  return {};
}

Status enter_root(const ToolRun& run) {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return fail_errno("mount", "/");
  }
  BROOD_TRY(const std::vector<Held> held, hold(places_of(run)));
  constexpr unsigned long kFlags = MS_NOSUID | MS_NODEV;
  if (::mount("tmpfs", "/tmp", "tmpfs", kFlags, "mode=0755,size=1m") != 0) {
    return fail_errno("mount a tmpfs at", "/tmp");
  }
  for (const Held& one : held) {
    BROOD_CHECK(put(one));
  }
  for (const char* name : {"bin", "sbin", "lib", "lib32", "lib64"}) {
    if (::symlink((std::string("usr/") + name).c_str(), (std::string("/tmp/") + name).c_str()) !=
        0) {
      return fail_errno("symlink", name);
    }
  }
  if (::mkdir("/tmp/proc", 0555) != 0 ||
      ::mount("proc", "/tmp/proc", "proc", kFlags | MS_NOEXEC, nullptr) != 0) {
    return fail_errno("mount", "/proc");
  }
  if (::chdir("/tmp") != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0 ||
      ::umount2(".", MNT_DETACH) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | kFlags, nullptr) != 0 ||
      ::chdir("/work") != 0) {
    return fail_errno("enter", "the tool's root");
  }
  return {};
}

Status give_up(const ToolRun& run) {
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    const bool kept = std::find(run.capabilities.begin(), run.capabilities.end(), capability) !=
                      run.capabilities.end();
    if (!kept && ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
      return fail_errno("drop from the bounding set", std::to_string(capability));
    }
  }
  // What a core_pattern helper of the host's would get is the image's to write.
  const rlimit none{1, 1};
  if (::setrlimit(RLIMIT_CORE, &none) != 0 || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return fail_errno("give up", "privileges");
  }
  return {};
}

Status become(const ToolRun& run, const UniqueFd& output, const UniqueFd& complaint) {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) {
    return fail_errno("prctl", "PR_SET_PDEATHSIG");
  }
  BROOD_CHECK(enter_root(run));
  BROOD_CHECK(give_up(run));
  BROOD_TRY(const UniqueFd null, base::open_at(AT_FDCWD, "/dev/null", O_RDONLY));
  if (::dup2(null.get(), 0) < 0 || ::dup2(output.get(), 1) < 0 || ::dup2(complaint.get(), 2) < 0 ||
      ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
    return fail_errno("dup2");
  }
  std::vector<char*> arguments;
  for (const std::string& argument : run.arguments) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  const char* const environment[] = {"PATH=/usr/sbin:/usr/bin", "HOME=/work", "TMPDIR=/work",
                                     "LANG=C.UTF-8", nullptr};
  ::umask(022);
  (void)::execve(arguments[0], arguments.data(), const_cast<char* const*>(environment));
  return fail_errno("execve", run.arguments.front());
}

// --- in the caller -------------------------------------------------------------------------------

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return fail_errno("pipe2");
  }
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Result<base::OwnedPid> start(const ToolRun& run, const Pipe& output, const Pipe& complaint) {
  int pidfd = -1;
  clone_args how{};
  how.flags = CLONE_PIDFD | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
              CLONE_NEWCGROUP | (run.network == ToolNetwork::none ? CLONE_NEWNET : 0);
  how.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
  how.exit_signal = SIGCHLD;
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &how, sizeof how));
  if (pid < 0) {
    return fail_errno("clone3", run.arguments.front());
  }
  if (pid == 0) {
    const Status status = become(run, output.write, complaint.write);
    (void)base::write_all(complaint.write.get(), status.error().message());
    ::_exit(kNoProgram);
  }
  return base::OwnedPid(pid, UniqueFd(pidfd));
}

Status check_space(const std::string& work) {
  struct statvfs about {};
  if (::statvfs(work.c_str(), &about) != 0) {
    return fail_errno("statvfs", work);
  }
  if (about.f_bavail * about.f_frsize < kLeaveFree) {
    return fail_because("less than 256 MiB are left on the file system of " + work,
                        "remove what is not needed there (brood image prune, brood image remove)");
  }
  return {};
}

// False at its end. What is over `most` is dropped: at the end, or, with `keep_end`, before.
bool drain(int fd, std::string& into, std::size_t most, bool keep_end) {
  std::array<char, 4096> buffer{};
  const ssize_t got = ::read(fd, buffer.data(), buffer.size());
  if (got <= 0) {
    return got < 0 && errno == EINTR;
  }
  into.append(buffer.data(), static_cast<std::size_t>(got));
  if (into.size() > most) {
    keep_end ? into.erase(0, into.size() - most) : into.erase(most);
  }
  return true;
}

struct Said {
  std::string output;
  std::string complaint;
};

Result<Said> listen(const ToolRun& run, const Pipe& output, const Pipe& complaint) {
  Said said;
  std::array<pollfd, 2> polled{pollfd{output.read.get(), POLLIN, 0},
                               pollfd{complaint.read.get(), POLLIN, 0}};
  while (polled[0].fd >= 0 || polled[1].fd >= 0) {
    const int ready = ::poll(polled.data(), polled.size(), kLookMs);
    if (interrupted()) {
      return fail_because("interrupted");
    }
    if (ready < 0 && errno != EINTR) {
      return fail_errno("poll");
    }
    BROOD_CHECK(check_space(run.work));
    if (ready <= 0) {
      continue;
    }
    if (polled[0].revents != 0 && !drain(polled[0].fd, said.output, kMostOutput + 1, false)) {
      polled[0].fd = -1;
    }
    if (polled[1].revents != 0 && !drain(polled[1].fd, said.complaint, kMostComplaint, true)) {
      polled[1].fd = -1;
    }
  }
  if (said.output.size() > kMostOutput) {
    return fail_because(run.arguments.front() + " said more than 8 MiB");
  }
  return said;
}

std::string ended(const base::ProcessEnd& end) {
  return end.code == CLD_EXITED ? "exit status " + std::to_string(end.status)
                                : "signal " + std::to_string(end.status);
}

}  // namespace

void note_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { noted = 1; };
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    (void)::sigaction(number, &action, nullptr);
  }
}

bool interrupted() {
  return noted != 0;
}

Result<std::string> run_confined(const ToolRun& run) {
  BROOD_TRY(Pipe output, make_pipe());
  BROOD_TRY(Pipe complaint, make_pipe());
  BROOD_TRY(base::OwnedPid child, start(run, output, complaint));
  output.write.reset();
  complaint.write.reset();
  BROOD_TRY(Said said, listen(run, output, complaint));
  BROOD_TRY(const base::ProcessEnd end, child.wait());
  if (!end.exited_with(0)) {
    while (!said.complaint.empty() && said.complaint.back() == '\n') {
      said.complaint.pop_back();
    }
    return fail_because(run.arguments.front() + " failed (" + ended(end) + "): " + said.complaint);
  }
  return std::move(said.output);
}

}  // namespace rootfs
