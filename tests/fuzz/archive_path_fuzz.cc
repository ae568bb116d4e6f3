// Names and targets of an archive's entries: the first line is an entry's name, the rest what it
// links to. Aborts when a path that was found safe leads out of the tree.
#include <vector>

#include "base/utf8.h"
#include "rootfs/archive.h"
#include "tests/fuzz/promise.h"

using fuzz::require;

namespace {

// How deep below the root a walk along `path` from `depth` ends; -1 when it leaves on its way.
int walk(std::string_view path, int depth) {
  while (!path.empty()) {
    const std::string_view part = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(path.size(), part.size() + 1));
    if (part == "..") {
      --depth;
    } else if (!part.empty() && part != ".") {
      ++depth;
    }
    if (depth < 0) {
      return -1;
    }
  }
  return depth;
}

void check_entry(const std::string& path, const rootfs::UnpackLimits& limits) {
  require(path.empty() || path.front() != '/');
  require(path.size() <= limits.path && base::is_utf8(path));
  require(path.find('\0') == std::string::npos && path.find("//") == std::string::npos);
  require(walk(path, 0) >= 0 && walk(path, 0) <= static_cast<int>(limits.depth));
  require(path.empty() || rootfs::safe_entry_path(path, limits) == path);
}

void check_link(const std::string& link, const std::string& target) {
  require(!target.empty() && target.front() != '/');
  const auto slash = link.rfind('/');
  const int depth = slash == std::string::npos ? 0 : walk(link.substr(0, slash), 0);
  require(walk(target, depth) >= 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  const std::string_view name = bytes.substr(0, bytes.find('\n'));
  const std::string_view target = bytes.substr(std::min(bytes.size(), name.size() + 1));
  const rootfs::UnpackLimits limits;
  const std::string shown = rootfs::printable(bytes);
  require(base::is_utf8(shown) && shown.find('\x1b') == std::string::npos);
  const auto path = rootfs::safe_entry_path(name, limits);
  if (!path) {
    require(!path.error().message().empty());
    return 0;
  }
  check_entry(*path, limits);
  if (const auto safe = rootfs::safe_link_target(*path, target, limits); safe && !path->empty()) {
    check_link(*path, *safe);
  }
  return 0;
}
