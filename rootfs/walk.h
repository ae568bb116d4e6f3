// Every entry of a tree that may be hostile.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace rootfs {

struct Entry {
  std::string path;  // relative to the root, whose own is empty
  char type = 0;     // d, f or l
  struct stat status {};
  std::string content;     // l: the target; f: for who reads it
  std::string capability;  // for who reads it
};

// In no order, the root first. Any other type of entry, another file system mounted inside, over 2
// million entries or 256 levels are an error. Follows no link and reaches nothing outside, however
// the tree changes meanwhile.
base::Result<std::vector<Entry>> walk(int root_fd);

// Beneath the root, through no link and into no other file system, whatever `path` became since it
// was listed.
base::Result<base::UniqueFd> open_beneath(int root_fd, const std::string& path, int flags);

}  // namespace rootfs
