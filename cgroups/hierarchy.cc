#include "cgroups/hierarchy.h"

#include <algorithm>

namespace cgroups {

namespace {

// Takes the text up to `separator` off the front of `rest`; all of it where there is none.
std::string_view take_until(std::string_view& rest, char separator) {
  const std::size_t end = rest.find(separator);
  const std::string_view token = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return token;
}

bool is_octal(char c) {
  return c >= '0' && c <= '7';
}

// The kernel writes blank, tab, newline, backslash and # in paths as \ooo.
std::string unescape(std::string_view text) {
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && text.size() - i > 3 && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      plain += static_cast<char>(((text[i + 1] - '0') << 6) | ((text[i + 2] - '0') << 3) |
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

bool has_option(std::string_view options, std::string_view wanted) {
  while (!options.empty()) {
    if (take_until(options, ',') == wanted) {
      return true;
    }
  }
  return false;
}

// "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755"
std::optional<Mount> parse_mount_line(std::string_view line) {
  for (int skipped = 0; skipped < 3; ++skipped) {  // mount id, parent id, device
    take_until(line, ' ');
  }
  Mount mount;
  mount.root = unescape(take_until(line, ' '));
  mount.point = unescape(take_until(line, ' '));
  const std::string_view options = take_until(line, ' ');
  while (!line.empty()) {  // any number of optional fields, then a dash
    if (take_until(line, ' ') == "-") {
      break;
    }
  }
  mount.type = take_until(line, ' ');
  take_until(line, ' ');  // source
  mount.super_options = take_until(line, ' ');
  mount.read_only = has_option(options, "ro") || has_option(mount.super_options, "ro");
  if (mount.root.empty() || mount.root.front() != '/' || mount.point.empty() ||
      mount.point.front() != '/' || mount.type.empty()) {
    return std::nullopt;
  }
  return mount;
}

void add_once(std::vector<std::string>& names, std::string_view name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    names.emplace_back(name);
  }
}

// The names that may stand among a v1 mount's super options as well and are no controllers.
bool is_v1_controller(std::string_view name) {
  static constexpr std::string_view kKnown[] = {
      "cpu",   "cpuacct",    "cpuset",   "memory",  "devices", "freezer", "net_cls",
      "blkio", "perf_event", "net_prio", "hugetlb", "pids",    "rdma",    "misc"};
  return std::find(std::begin(kKnown), std::end(kKnown), name) != std::end(kKnown);
}

bool shows(const Mount& mount, std::string_view path, std::string& below) {
  if (mount.root != "/") {
    if (path.substr(0, mount.root.size()) != mount.root) {
      return false;
    }
    path.remove_prefix(mount.root.size());
    if (!path.empty() && path.front() != '/') {
      return false;
    }
  }
  if (path.empty()) {
    path = "/";
  }
  // A cgroup outside of the reader's cgroup namespace is told as /../…: no mount shows it.
  if (path.front() != '/' || path == "/.." || path.substr(0, 4) == "/../") {
    return false;
  }
  below = path;
  return true;
}

bool better(const Mount& candidate, const Mount& best) {
  if (candidate.read_only != best.read_only) {
    return !candidate.read_only;
  }
  return candidate.root.size() < best.root.size();
}

std::string join(const std::string& point, const std::string& below) {
  if (below == "/") {
    return point;
  }
  return point == "/" ? below : point + below;
}

// A mount that another one covers at the same place is out of reach.
std::vector<Mount> visible_of_type(const std::vector<Mount>& mounts, std::string_view type) {
  std::vector<Mount> found;
  for (auto mount = mounts.begin(); mount != mounts.end(); ++mount) {
    const auto covers = [&](const Mount& later) { return later.point == mount->point; };
    if (mount->type == type && std::none_of(mount + 1, mounts.end(), covers)) {
      found.push_back(*mount);
    }
  }
  return found;
}

void choose_mount(const std::vector<Mount>& candidates, const Membership& own,
                  Hierarchy& hierarchy) {
  for (const Mount& candidate : candidates) {
    std::string below;
    const bool shown =
        own.unified_path && !own.removed && shows(candidate, *own.unified_path, below);
    if (shown && (!hierarchy.own_directory || better(candidate, *hierarchy.mount))) {
      hierarchy.mount = candidate;
      hierarchy.own_directory = join(candidate.point, below);
    } else if (!hierarchy.mount) {
      hierarchy.mount = candidate;
    }
  }
}

Layout layout_of(bool has_v2, bool has_v1) {
  if (has_v2) {
    return has_v1 ? Layout::hybrid : Layout::unified;
  }
  return has_v1 ? Layout::v1 : Layout::none;
}

}  // namespace

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  while (!text.empty()) {
    if (auto mount = parse_mount_line(take_until(text, '\n'))) {
      mounts.push_back(std::move(*mount));
    }
  }
  return mounts;
}

Membership parse_membership(std::string_view text) {
  Membership own;
  while (!text.empty()) {
    std::string_view line = take_until(text, '\n');
    if (std::count(line.begin(), line.end(), ':') < 2) {
      continue;
    }
    const std::string_view id = take_until(line, ':');
    std::string_view controllers = take_until(line, ':');
    if (id == "0" && controllers.empty() && !line.empty() && line.front() == '/') {
      constexpr std::string_view kDeleted = " (deleted)";
      own.removed = line.ends_with(kDeleted);
      if (own.removed) {
        line.remove_suffix(kDeleted.size());
      }
      own.unified_path = std::string(line);
      continue;
    }
    while (!controllers.empty()) {
      const std::string_view name = take_until(controllers, ',');
      if (is_v1_controller(name)) {
        add_once(own.v1_controllers, name);
      }
    }
  }
  return own;
}

std::string_view layout_name(Layout layout) {
  switch (layout) {
    case Layout::unified:
      return "unified";
    case Layout::hybrid:
      return "hybrid";
    case Layout::v1:
      return "v1";
    case Layout::none:
      return "none";
  }
  return "?";
}

Hierarchy locate(std::string_view mountinfo, std::string_view proc_cgroup) {
  const std::vector<Mount> mounts = parse_mountinfo(mountinfo);
  const Membership own = parse_membership(proc_cgroup);
  Hierarchy hierarchy;
  hierarchy.own_path = own.unified_path.value_or("");
  hierarchy.v1_controllers = own.v1_controllers;
  for (const Mount& mount : mounts) {
    std::string_view options = mount.type == "cgroup" ? mount.super_options : std::string_view();
    while (!options.empty()) {
      const std::string_view name = take_until(options, ',');
      if (is_v1_controller(name)) {
        add_once(hierarchy.v1_controllers, name);
      }
    }
  }
  choose_mount(visible_of_type(mounts, "cgroup2"), own, hierarchy);
  hierarchy.layout = layout_of(hierarchy.mount.has_value(), !hierarchy.v1_controllers.empty());
  return hierarchy;
}

}  // namespace cgroups
