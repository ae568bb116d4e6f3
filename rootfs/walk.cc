#include "rootfs/walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <memory>

#include "base/file.h"

namespace rootfs {
namespace {

using base::Error;
using base::fail;
using base::fail_because;
using base::fail_errno;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr std::size_t kMaxEntries = 2'000'000;
constexpr int kMaxDepth = 256;

using Directory = std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })>;

// Directories are entered by name under their parent's descriptor without following links.
class Walk {
 public:
  Result<std::vector<Entry>> run(int root_fd) {
    BROOD_TRY(UniqueFd root, base::open_at(root_fd, ".", O_RDONLY | O_DIRECTORY));
    Entry top;
    top.type = 'd';
    if (::fstat(root.get(), &top.status) != 0) {
      return fail_errno("fstat", "/");
    }
    device_ = top.status.st_dev;
    entries_.push_back(std::move(top));
    BROOD_CHECK(directory(std::move(root), "", 0));
    return std::move(entries_);
  }

 private:
  Status directory(UniqueFd fd, const std::string& prefix, int depth) {
    if (depth > kMaxDepth) {
      return fail(Error("walk", ELOOP, prefix, "directories are nested over 256 deep"));
    }
    const int number = fd.get();
    Directory stream(::fdopendir(fd.get()));
    if (!stream) {
      return fail_errno("fdopendir", prefix);
    }
    (void)fd.release();
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(stream.get());  // NOLINT(concurrency-mt-unsafe)
      if (entry == nullptr) {
        return errno == 0 ? Status{} : Status(fail_errno("readdir", prefix));
      }
      const std::string name = entry->d_name;
      if (name != "." && name != "..") {
        BROOD_CHECK(add(number, name, prefix, depth));
      }
    }
  }

  Status add(int parent, const std::string& name, const std::string& prefix, int depth) {
    Entry entry;
    entry.path = prefix + name;
    if (entries_.size() >= kMaxEntries || entry.path.size() >= PATH_MAX) {
      return fail(
          Error("walk", E2BIG, entry.path, "the tree has too many entries or too long paths"));
    }
    if (::fstatat(parent, name.c_str(), &entry.status, AT_SYMLINK_NOFOLLOW) != 0) {
      return fail_errno("fstatat", entry.path);
    }
    if (S_ISREG(entry.status.st_mode)) {
      entry.type = 'f';
    } else if (S_ISLNK(entry.status.st_mode)) {
      entry.type = 'l';
      BROOD_TRY(entry.content, link_target(parent, name));
    } else if (S_ISDIR(entry.status.st_mode)) {
      entry.type = 'd';
      BROOD_TRY(UniqueFd child, enter(parent, name, entry));
      const std::string below = entry.path + "/";
      entries_.push_back(std::move(entry));
      return directory(std::move(child), below, depth + 1);
    } else {
      return fail_because("'" + entry.path + "' is neither a file, a directory nor a link",
                          "an image holds no devices, fifos or sockets");
    }
    entries_.push_back(std::move(entry));
    return {};
  }

  Result<UniqueFd> enter(int parent, const std::string& name, Entry& entry) const {
    BROOD_TRY(UniqueFd child, base::open_at(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (::fstat(child.get(), &entry.status) != 0) {
      return fail_errno("fstat", entry.path);
    }
    if (entry.status.st_dev != device_) {
      return fail(Error("walk", EXDEV, entry.path, "another file system is mounted in the tree"));
    }
    return child;
  }

  static Result<std::string> link_target(int parent, const std::string& name) {
    std::string target(PATH_MAX, '\0');
    const ssize_t size = ::readlinkat(parent, name.c_str(), target.data(), target.size());
    if (size < 0) {
      return fail_errno("readlinkat", name);
    }
    target.resize(static_cast<std::size_t>(size));
    return target;
  }

  dev_t device_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace

Result<std::vector<Entry>> walk(int root_fd) {
  return Walk().run(root_fd);
}

Result<UniqueFd> open_beneath(int root_fd, const std::string& path, int flags) {
  open_how how{};
  how.flags = static_cast<unsigned>(flags) | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  const long fd = ::syscall(SYS_openat2, root_fd, path.c_str(), &how, sizeof how);
  if (fd < 0) {
    return fail_errno("openat2", path);
  }
  return UniqueFd(static_cast<int>(fd));
}

}  // namespace rootfs
