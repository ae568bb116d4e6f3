// /proc/self/mountinfo, then a line "---", then /proc/self/cgroup. Aborts when a promise of
// cgroups/hierarchy.h does not hold: the process's own cgroup is found below the mount that shows
// it.
#include "cgroups/hierarchy.h"

#include "tests/fuzz/promise.h"

using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::string_view kBetween = "---\n";
  const std::string_view bytes = fuzz::text_of(data, size);
  const std::size_t at = std::min(bytes.find(kBetween), bytes.size());
  const std::string_view mountinfo = bytes.substr(0, at);
  const std::string_view membership = bytes.substr(std::min(bytes.size(), at + kBetween.size()));
  for (const cgroups::Mount& mount : cgroups::parse_mountinfo(mountinfo)) {
    require(!mount.root.empty() && mount.root.front() == '/');
    require(!mount.point.empty() && mount.point.front() == '/');
    require(!mount.type.empty());
  }
  const cgroups::Hierarchy found = cgroups::locate(mountinfo, membership);
  require(!cgroups::layout_name(found.layout).empty());
  if (found.own_directory) {
    require(found.mount && found.mount->type == "cgroup2");
    require(found.mount->point == "/" || found.own_directory->rfind(found.mount->point, 0) == 0);
  }
  return 0;
}
