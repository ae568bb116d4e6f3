#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <mutex>
#include <optional>
#include <thread>

#include "base/digest.h"
#include "rootfs/image.h"
#include "rootfs/walk.h"

namespace rootfs {
namespace {

using base::Error;
using base::fail;
using base::fail_because;
using base::fail_errno;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr unsigned kMaxThreads = 4;
constexpr std::size_t kReadBytes = 256 << 10;
constexpr char kCapability[] = "security.capability";

std::string to_hex(std::string_view bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kHex[byte >> 4];
    text += kHex[byte & 15];
  }
  return text;
}

Result<std::string> capability_of(int fd, const std::string& path) {
  char value[256];
  const ssize_t size = ::fgetxattr(fd, kCapability, value, sizeof value);
  if (size >= 0) {
    return to_hex({value, static_cast<std::size_t>(size)});
  }
  if (errno == ENODATA || errno == ENOTSUP) {
    return std::string();
  }
  return fail_errno("fgetxattr", path);
}

Status hash_file(int root_fd, Entry& entry, std::vector<char>& buffer) {
  // O_NONBLOCK: what is now a fifo must not hold the reader.
  BROOD_TRY(const UniqueFd file,
            open_beneath(root_fd, entry.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  if (::fstat(file.get(), &entry.status) != 0) {
    return fail_errno("fstat", entry.path);
  }
  if (!S_ISREG(entry.status.st_mode)) {
    return fail_because("'" + entry.path + "' changed its type while it was read");
  }
  BROOD_TRY(entry.capability, capability_of(file.get(), entry.path));
  base::Sha256 sum;
  off_t total = 0;
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return fail_errno("read", entry.path);
    }
    if (got == 0) {
      break;
    }
    sum.update({buffer.data(), static_cast<std::size_t>(got)});
    total += got;
  }
  if (total != entry.status.st_size) {
    return fail_because("'" + entry.path + "' changed its size while it was read");
  }
  entry.content = sum.finish();
  return {};
}

// Hashes the files among `entries`, each thread taking the next that nobody has taken.
Status hash_files(int root_fd, std::vector<Entry>& entries) {
  std::atomic<std::size_t> next = 0;
  std::mutex mutex;
  std::optional<Error> failure;
  const auto work = [&] {
    std::vector<char> buffer(kReadBytes);
    for (std::size_t i = next++; i < entries.size(); i = next++) {
      if (entries[i].type != 'f') {
        continue;
      }
      if (Status hashed = hash_file(root_fd, entries[i], buffer); !hashed) {
        const std::lock_guard lock(mutex);
        failure = std::move(hashed.error());
        next = entries.size();
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    const unsigned count = std::clamp(std::thread::hardware_concurrency(), 1U, kMaxThreads);
    for (unsigned i = 1; i < count; ++i) {
      threads.emplace_back(work);
    }
    work();
  }
  return failure ? Status(fail(std::move(*failure))) : Status{};
}

void append_field(std::string& record, std::string_view field) {
  record += field;
  record += '\0';
}

std::string record_of(const Entry& entry) {
  char mode[8];
  std::snprintf(mode, sizeof mode, "%04o",
                entry.type == 'l' ? 0777U : static_cast<unsigned>(entry.status.st_mode & 07777));
  std::string record;
  append_field(record, {&entry.type, 1});
  append_field(record, mode);
  append_field(record, std::to_string(entry.status.st_uid));
  append_field(record, std::to_string(entry.status.st_gid));
  append_field(record, entry.type == 'f' ? std::to_string(entry.status.st_size) : "0");
  append_field(record, entry.content);
  append_field(record, entry.capability);
  append_field(record, entry.path);
  return record;
}

Result<UniqueFd> open_directory(int dir_fd, const std::string& path) {
  return open_beneath(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

Status check_empty_directory(int dir_fd, const std::string& path, mode_t mode) {
  auto opened = open_directory(dir_fd, path);
  if (!opened) {
    return fail(std::move(opened.error()).advise("an image has the directory /" + path));
  }
  struct stat status {};
  if (::fstat(opened->get(), &status) != 0) {
    return fail_errno("fstat", path);
  }
  if ((status.st_mode & 07777) != mode) {
    return fail_because("image: /" + path + " has the wrong mode");
  }
  BROOD_TRY(const std::vector<Entry> entries, walk(opened->get()));
  if (entries.size() > 1) {
    return fail_because("image: /" + path + " is not empty: " + entries[1].path);
  }
  return {};
}

}  // namespace

Result<TreeDigest> tree_digest(int dir_fd) {
  BROOD_TRY(std::vector<Entry> entries, walk(dir_fd));
  BROOD_CHECK(hash_files(dir_fd, entries));
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.path < b.path; });
  TreeDigest result;
  base::Sha256 sum;
  sum.update("brood-tree-1\n");
  for (const Entry& entry : entries) {
    sum.update(record_of(entry));
    if (entry.type == 'f') {
      result.size_bytes += static_cast<std::uint64_t>(entry.status.st_size);
    }
  }
  result.files = entries.size() - 1;
  result.digest = "sha256:" + sum.finish();
  return result;
}

Status strip_privileges(int dir_fd) {
  BROOD_TRY(const std::vector<Entry> entries, walk(dir_fd));
  for (const Entry& entry : entries) {
    if (entry.type != 'f') {
      continue;
    }
    BROOD_TRY(const UniqueFd file,
              open_beneath(dir_fd, entry.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    if (::fremovexattr(file.get(), kCapability) != 0 && errno != ENODATA && errno != ENOTSUP) {
      return fail_errno("fremovexattr", entry.path);
    }
    if ((entry.status.st_mode & (S_ISUID | S_ISGID)) != 0 &&
        ::fchmod(file.get(), entry.status.st_mode & 01777) != 0) {
      return fail_errno("fchmod", entry.path);
    }
  }
  return {};
}

Status check_contract(int dir_fd) {
  for (const char* path : {"proc", "dev", "sys", "run"}) {
    BROOD_CHECK(check_empty_directory(dir_fd, path, 0755));
  }
  BROOD_CHECK(check_empty_directory(dir_fd, "tmp", 01777));
  BROOD_TRY(const std::vector<Entry> entries, walk(dir_fd));
  for (const Entry& entry : entries) {
    if (entry.type != 'f') {
      continue;
    }
    if ((entry.status.st_mode & (S_ISUID | S_ISGID)) != 0) {
      return fail_because("image: '" + entry.path + "' is set-id");
    }
    BROOD_TRY(const UniqueFd file,
              open_beneath(dir_fd, entry.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    BROOD_TRY(const std::string capability, capability_of(file.get(), entry.path));
    if (!capability.empty()) {
      return fail_because("image: '" + entry.path + "' has a file capability");
    }
  }
  return {};
}

}  // namespace rootfs
