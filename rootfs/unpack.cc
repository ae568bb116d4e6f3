#include "rootfs/unpack.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <memory>
#include <vector>

#include "base/file.h"
#include "base/syscalls.h"

namespace rootfs {
namespace {

using base::fail;
using base::fail_because;
using base::fail_errno;
using base::UniqueFd;

constexpr int kMountsFd = 5;
constexpr int kChildFds = 6;  // 0 archive, 1 and 2 null, 3 directory, 4 verdict, 5 mount namespace
constexpr int kAboveChildFds = 16;

std::vector<std::string> arguments_of(const UnpackJob& job) {
  std::vector<std::string> arguments{
      job.program,
      "--uid=" + std::to_string(job.uid),
      "--gid=" + std::to_string(job.gid),
      "--max-bytes=" + std::to_string(job.limits.bytes),
      "--max-files=" + std::to_string(job.limits.files),
      "--max-depth=" + std::to_string(job.limits.depth),
      "--max-path=" + std::to_string(job.limits.path),
      "--max-cpu=" + std::to_string(job.limits.cpu_seconds),
  };
  if (!job.single_file.empty()) {
    arguments.push_back("--single-file=" + job.single_file);
  }
  return arguments;
}

// A copy that no dup2 onto the child's numbers can overwrite before it has been used itself.
Result<UniqueFd> lift(int fd, const char* what) {
  UniqueFd lifted(::fcntl(fd, F_DUPFD_CLOEXEC, kAboveChildFds));
  if (!lifted) {
    return fail_errno("dup", what);
  }
  return lifted;
}

class SpawnSetup {
 public:
  SpawnSetup() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnSetup() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;

  // In the order of the numbers.
  void place(int fd, int number) {
    ::posix_spawn_file_actions_adddup2(&actions_, fd, number);
    last_ = number;
  }

  Result<base::OwnedPid> spawn(std::vector<std::string> arguments) {
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, last_ + 1);
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (std::string& argument : arguments) {
      argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    std::string locale = "LC_ALL=C.UTF-8";
    std::string zone = "TZ=UTC0";
    std::array<char*, 3> environment{locale.data(), zone.data(), nullptr};
    pid_t pid = -1;
    const int error =
        ::posix_spawn(&pid, argv[0], &actions_, &attributes_, argv.data(), environment.data());
    if (error != 0) {
      return fail(base::Error("start the unpacker", error, arguments[0]));
    }
    UniqueFd pidfd(base::pidfd_open(pid));
    if (!pidfd) {
      return fail_errno("pidfd_open", std::to_string(pid));
    }
    return base::OwnedPid(pid, std::move(pidfd));
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
  int last_ = 2;
};

using Directory = std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })>;

class TreeCheck {
 public:
  TreeCheck(const UnpackLimits& limits, dev_t device) : limits_(limits), device_(device) {}

  // `path` is "" for the root, else ends with a slash.
  Status directory(UniqueFd fd, const std::string& path) {
    const Directory entries(::fdopendir(fd.get()));
    if (!entries) {
      return fail_errno("fdopendir", path);
    }
    const int directory_fd = fd.release();
    while (const dirent* entry = ::readdir(entries.get())) {  // NOLINT(concurrency-mt-unsafe)
      const std::string name = entry->d_name;
      if (name != "." && name != "..") {
        BROOD_CHECK(one(directory_fd, name, path + name));
      }
    }
    return {};
  }

 private:
  Status one(int directory_fd, const std::string& name, const std::string& path) {
    if (auto safe = safe_entry_path(path, limits_); !safe) {
      return refuse(path, safe.error().message());
    }
    struct stat about {};
    if (::fstatat(directory_fd, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0) {
      return fail_errno("fstatat", path);
    }
    if (++files_ > limits_.files) {
      return refuse(path, "there are too many files");
    }
    if (about.st_dev != device_) {
      return refuse(path, "another file system is mounted there");
    }
    switch (about.st_mode & S_IFMT) {
      case S_IFREG:
        return file(about, path);
      case S_IFLNK:
        return link(directory_fd, name, path);
      case S_IFDIR:
        return subdirectory(directory_fd, name, about, path);
      default:
        return refuse(path, "it is neither file, directory nor link");
    }
  }

  Status file(const struct stat& about, const std::string& path) {
    const mode_t mode = about.st_mode & 07777;
    if (mode != file_mode(mode)) {
      return refuse(path, "it has an unexpected mode");
    }
    bytes_ += static_cast<std::uint64_t>(about.st_size);
    return bytes_ > limits_.bytes ? refuse(path, "the files are too large") : Status{};
  }

  Status link(int directory_fd, const std::string& name, const std::string& path) {
    std::string target(limits_.path + 1, '\0');
    const ssize_t length = ::readlinkat(directory_fd, name.c_str(), target.data(), target.size());
    if (length < 0) {
      return fail_errno("readlinkat", path);
    }
    target.resize(static_cast<std::size_t>(length));
    const auto safe = safe_link_target(path, target, limits_);
    return safe ? Status{} : refuse(path, safe.error().message());
  }

  Status subdirectory(int directory_fd, const std::string& name, const struct stat& about,
                      const std::string& path) {
    if ((about.st_mode & 07777) != kDirectoryMode) {
      return refuse(path, "it has an unexpected mode");
    }
    BROOD_TRY(UniqueFd fd, base::open_at(directory_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    return directory(std::move(fd), path + "/");
  }

  static Status refuse(const std::string& path, const std::string& why) {
    return fail_because("the unpacked tree is refused: '" + printable(path) + "': " + why);
  }

  const UnpackLimits& limits_;
  const dev_t device_;
  std::uint64_t files_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace

Result<UnpackProcess> start_unpack(const UnpackJob& job) {
  if (job.uid == 0 || job.gid == 0) {
    return fail_because("the unpacker must not run as root");
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return fail_errno("pipe2");
  }
  UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  if (::fcntl(read_end.get(), F_SETFL, O_NONBLOCK) != 0) {
    return fail_errno("fcntl", "O_NONBLOCK");
  }
  BROOD_TRY(const UniqueFd null, base::open_at(AT_FDCWD, "/dev/null", O_RDWR));
  BROOD_TRY(const UniqueFd nowhere, lift(null.get(), "/dev/null"));
  // Opened anew: the child's may not be writable, nor move the caller's position.
  BROOD_TRY(const UniqueFd readable,
            base::open_at(AT_FDCWD, "/proc/self/fd/" + std::to_string(job.archive_fd), O_RDONLY));
  BROOD_TRY(const UniqueFd archive, lift(readable.get(), "archive"));
  BROOD_TRY(const UniqueFd directory, lift(job.directory_fd, "directory"));
  BROOD_TRY(const UniqueFd verdict, lift(write_end.get(), "verdict"));
  SpawnSetup setup;
  setup.place(archive.get(), 0);
  setup.place(nowhere.get(), 1);
  setup.place(nowhere.get(), 2);
  setup.place(directory.get(), 3);
  setup.place(verdict.get(), 4);
  UniqueFd mounts;
  if (job.mounts_fd >= 0) {
    BROOD_TRY(mounts, lift(job.mounts_fd, "mount namespace"));
    setup.place(mounts.get(), kMountsFd);
  }
  BROOD_TRY(base::OwnedPid child, setup.spawn(arguments_of(job)));
  return UnpackProcess{.child = std::move(child), .verdict = std::move(read_end)};
}

Result<UnpackVerdict> finish_unpack(UnpackProcess process) {
  constexpr std::size_t kLimit = 64 << 10;
  std::string text;
  char buffer[4096];
  while (text.size() < kLimit) {
    pollfd ready{.fd = process.verdict.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, -1) < 0 && errno != EINTR) {
      return fail_errno("poll", "verdict");
    }
    const ssize_t got = ::read(process.verdict.get(), buffer, sizeof buffer);
    if (got == 0) {
      break;
    }
    if (got < 0 && errno != EINTR && errno != EAGAIN) {
      return fail_errno("read", "verdict");
    }
    text.append(buffer, static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  }
  process.verdict.reset();
  BROOD_TRY(const base::ProcessEnd end, process.child.wait());
  return parse_verdict(text, end);
}

Status accept_tree(int directory_fd, const UnpackLimits& limits) {
  // A descriptor of its own, because reading a directory moves the position that all copies share.
  BROOD_TRY(UniqueFd root, base::open_at(directory_fd, ".", O_RDONLY | O_DIRECTORY));
  struct stat about {};
  if (::fstat(root.get(), &about) != 0) {
    return fail_errno("fstat", "unpacked tree");
  }
  return TreeCheck(limits, about.st_dev).directory(std::move(root), "");
}

}  // namespace rootfs
