#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>

namespace base {

Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, mode_t mode) {
  const int fd = ::openat(dir_fd, path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) {
    return fail_errno("openat", path);
  }
  return UniqueFd(fd);
}

Result<std::string> read_file_at(int dir_fd, const std::string& path, std::size_t limit) {
  BROOD_TRY(const UniqueFd file, open_at(dir_fd, path, O_RDONLY));
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer, sizeof buffer);
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      return fail_errno("read", path);
    }
    if (got == 0) {
      return text;
    }
    text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > limit) {
      return fail(Error("read", EFBIG, path));
    }
  }
}

Status write_control_at(int dir_fd, const std::string& path, std::string_view text) {
  BROOD_TRY(const UniqueFd file, open_at(dir_fd, path, O_WRONLY));
  if (::write(file.get(), text.data(), text.size()) < 0) {
    return fail_errno("write '" + std::string(text) + "' to", path);
  }
  return {};
}

Status write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0) {
      if (errno == EINTR) {
        continue;
      }
      return fail_errno("write");
    }
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

Status replace_file_at(int dir_fd, const std::string& path, std::string_view text, mode_t mode) {
  const std::string beside = path + ".new";
  {
    BROOD_TRY(const UniqueFd file,
              open_at(dir_fd, beside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode));
    BROOD_CHECK(write_all(file.get(), text));
    if (::fsync(file.get()) != 0) {
      return fail_errno("fsync", beside);
    }
  }
  if (::renameat(dir_fd, beside.c_str(), dir_fd, path.c_str()) != 0) {
    return fail_errno("rename", path);
  }
  return {};
}

Status make_directories(const std::string& path, mode_t mode) {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), mode) != 0 && errno != EEXIST) {
      return fail_errno("mkdir", part);
    }
    if (end == std::string::npos) {
      return {};
    }
  }
}

namespace {

using Directory = std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })>;

Status remove_entries(int parent_fd, const std::string& name, dev_t device) {
  const int fd = ::openat(parent_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    return fail_errno("openat", name);
  }
  Directory directory(::fdopendir(fd));
  struct stat self {};
  if (::fstat(fd, &self) != 0) {
    return fail_errno("fstat", name);
  }
  if (self.st_dev != device) {
    return fail(Error("remove", EXDEV, name, "another file system is mounted there"));
  }
  while (const dirent* entry = ::readdir(directory.get())) {  // NOLINT(concurrency-mt-unsafe)
    const std::string child = entry->d_name;
    if (child == "." || child == "..") {
      continue;
    }
    if (::unlinkat(fd, child.c_str(), 0) == 0 || errno == ENOENT) {
      continue;
    }
    if (errno != EISDIR && errno != EPERM) {
      return fail_errno("unlinkat", child);
    }
    BROOD_CHECK(remove_entries(fd, child, device));
    if (::unlinkat(fd, child.c_str(), AT_REMOVEDIR) != 0) {
      return fail_errno("rmdir", child);
    }
  }
  return {};
}

}  // namespace

Status remove_tree_at(int dir_fd, const std::string& path) {
  struct stat top {};
  if (::fstatat(dir_fd, path.c_str(), &top, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) {
      return {};
    }
    return fail_errno("fstatat", path);
  }
  if (!S_ISDIR(top.st_mode)) {
    return ::unlinkat(dir_fd, path.c_str(), 0) == 0 ? Status{}
                                                    : Status(fail_errno("unlinkat", path));
  }
  BROOD_CHECK(remove_entries(dir_fd, path, top.st_dev));
  if (::unlinkat(dir_fd, path.c_str(), AT_REMOVEDIR) != 0) {
    return fail_errno("rmdir", path);
  }
  return {};
}

}  // namespace base
