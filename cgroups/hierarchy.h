// Where the cgroup v2 tree is and where in it a process lives, read from the text of
// /proc/self/mountinfo and /proc/self/cgroup. Pure: takes text, never fails. A line that is not
// well-formed is passed over, so that one odd mount on a host does not hide the others.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cgroups {

struct Mount {
  std::string root;   // the directory of the file system that the mount shows
  std::string point;  // where, with the kernel's octal escapes undone
  std::string type;   // cgroup2, cgroup, …
  std::string super_options;
  bool read_only = false;
};

std::vector<Mount> parse_mountinfo(std::string_view text);

// What /proc/PID/cgroup tells about one process.
struct Membership {
  std::optional<std::string> unified_path;  // nullopt: a kernel without cgroup v2
  bool removed = false;                     // its cgroup has been removed under it
  std::vector<std::string> v1_controllers;  // those that a v1 hierarchy holds, so v2 cannot
};

Membership parse_membership(std::string_view text);

// v1 hierarchies without a controller (name=systemd) take nothing away and do not count.
enum class Layout {
  unified,  // cgroup2 alone
  hybrid,   // cgroup2, with v1 controllers beside it
  v1,       // v1 controllers, and no cgroup2 mounted
  none,     // nothing is mounted
};
std::string_view layout_name(Layout layout);

struct Hierarchy {
  Layout layout = Layout::none;
  std::vector<std::string> v1_controllers;
  std::optional<Mount> mount;  // the cgroup2 mount that shows the process, or else any
  std::string own_path;        // as /proc/self/cgroup has it; empty when unknown
  // The process's own cgroup as a path below `mount`. nullopt when no mount shows it: it has been
  // removed, or lies outside the mounted part or the cgroup namespace.
  std::optional<std::string> own_directory;
};

Hierarchy locate(std::string_view mountinfo, std::string_view proc_cgroup);

}  // namespace cgroups
