// Files by descriptor: every call takes an owned directory descriptor first and a path below it
// second, and every descriptor is close-on-exec from birth. Path arguments are NUL-free; AT_FDCWD
// is allowed.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"

namespace base {

// openat(2) with O_CLOEXEC added.
Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, mode_t mode = 0);

// The whole of a small file (at most `limit` bytes; EFBIG beyond). Works for /proc and cgroup
// files, whose size is announced as 0.
Result<std::string> read_file_at(int dir_fd, const std::string& path, std::size_t limit = 1 << 20);
inline Result<std::string> read_file(const std::string& path, std::size_t limit = 1 << 20) {
  return read_file_at(-100 /* AT_FDCWD */, path, limit);
}

// One write(2) of the whole text into an existing file, as kernel control files want it.
Status write_control_at(int dir_fd, const std::string& path, std::string_view text);

// Writes a new version of a file beside it, syncs it, and renames it into place: after a crash
// there is the old text or the new one.
Status replace_file_at(int dir_fd, const std::string& path, std::string_view text, mode_t mode);

// Writes all bytes to a descriptor, going on after short writes and EINTR.
Status write_all(int fd, std::string_view bytes);

// mkdir -p; an existing directory is fine and keeps its mode.
Status make_directories(const std::string& path, mode_t mode);

// Removes a file or a whole tree below `dir_fd` without following a link and without crossing into
// another mount. ENOENT is success.
Status remove_tree_at(int dir_fd, const std::string& path);

}  // namespace base
