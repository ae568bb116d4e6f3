#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "agent/host_findings.h"
#include "base/file.h"

namespace agent::host {

using cgroups::Cgroup;
using cgroups::Controller;

namespace {

constexpr const char* kPureV2 =
    "boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all (GRUB_CMDLINE_LINUX in "
    "/etc/default/grub, then update-grub), or start the agent with --limits=best-effort";

cgroups::ControllerSet controllers_of(const Cgroup& cgroup) {
  return cgroup.controllers().value_or(cgroups::ControllerSet());
}

HostFinding layout_finding(const CgroupPlace& place) {
  const std::string id = "cgroup.layout";
  const std::string title = "cgroup hierarchy";
  const cgroups::Layout layout = place.hierarchy.layout;
  std::string found(cgroups::layout_name(layout));
  if (place.hierarchy.mount) {
    found += ", cgroup2 at " + place.hierarchy.mount->point;
  }
  if (!place.hierarchy.v1_controllers.empty()) {
    found += ", held by v1: " + joined(place.hierarchy.v1_controllers);
  }
  if (layout == cgroups::Layout::unified) {
    return good(id, title, found);
  }
  if (layout == cgroups::Layout::hybrid) {
    return wanting(id, title, found,
                   {HostLevel::warning,
                    "controllers that cgroup v1 holds cannot be used by v2, so the limits that "
                    "they enforce are missing",
                    kPureV2});
  }
  return wanting(id, title, found,
                 {HostLevel::missing,
                  "no sandbox can be limited, counted, frozen or killed as a whole", kPureV2});
}

bool held_by_v1(const CgroupPlace& place, Controller controller) {
  const std::string name =
      controller == Controller::io ? "blkio" : std::string(cgroups::controller_name(controller));
  const auto& held = place.hierarchy.v1_controllers;
  return std::find(held.begin(), held.end(), name) != held.end();
}

std::string cost_without(Controller controller) {
  switch (controller) {
    case Controller::cpu:
      return "cpu limits are not enforced: one function can take every CPU";
    case Controller::memory:
      return "memory limits are not enforced: one function can use up the host's memory, and out "
             "of memory cannot be told from a kill";
    case Controller::pids:
      return "process limits are not enforced by cgroup: a fork bomb is held by rlimits only";
    case Controller::io:
      return "disk bandwidth cannot be limited; sandboxes have no disk of their own to write to";
  }
  return {};
}

HostFinding controller_finding(const CgroupPlace& place, Controller controller) {
  const std::string name(cgroups::controller_name(controller));
  const std::string id = "cgroup." + name;
  const std::string title = "cgroup v2 controller " + name;
  if (place.offered.has(controller)) {
    return good(id, title, "available in " + place.parent->path());
  }
  const HostLevel level = controller == Controller::io ? HostLevel::warning : HostLevel::missing;
  if (held_by_v1(place, controller)) {
    return wanting(id, title, "held by cgroup v1", {level, cost_without(controller), kPureV2});
  }
  if (place.offered_by_host.has(controller)) {
    return wanting(id, title, "the host has it, but not in the cgroup of this process",
                   {HostLevel::warning, cost_without(controller) + " when started from here",
                    kDelegateAdvice});
  }
  return wanting(id, title, place.problem.empty() ? "not there" : place.problem,
                 {level, cost_without(controller),
                  "a kernel built with it, and no cgroup_disable=" + name +
                      " on its command line; or start the agent with --limits=best-effort"});
}

HostFinding place_finding(const CgroupPlace& place) {
  const std::string id = "cgroup.place";
  const std::string title = "a cgroup for the agent's subtree";
  if (!place.parent) {
    return wanting(id, title, place.problem,
                   {HostLevel::missing, "the agent has nowhere to make cgroups", kDelegateAdvice});
  }
  const std::string path = place.parent->path();
  if (::faccessat(place.parent->fd(), "cgroup.procs", W_OK, AT_EACCESS) != 0) {
    return wanting(id, title, path + " cannot be written",
                   {HostLevel::missing, "the agent cannot make cgroups there",
                    "run as root, with /sys/fs/cgroup mounted writable"});
  }
  std::vector<pid_t> others = place.parent->procs().value_or(std::vector<pid_t>());
  std::erase(others, ::getpid());
  if (!others.empty() && !place.parent->is_hierarchy_root() && !place.offered.empty()) {
    return wanting(
        id, title, path + " holds other processes",
        {HostLevel::warning, "an agent that is started from here refuses to", kDelegateAdvice});
  }
  return good(id, title, path);
}

HostFinding file_finding(std::string id, std::string title, const Cgroup& cgroup, const char* file,
                         Want want) {
  const bool there = ::faccessat(cgroup.fd(), file, F_OK, 0) == 0;
  return there ? good(std::move(id), std::move(title), "there")
               : wanting(std::move(id), std::move(title), "not there", std::move(want));
}

HostFinding memory_peak_finding(const Cgroup& scratch) {
  const std::string id = "cgroup.memory_peak";
  const std::string title = "highest memory use (memory.peak)";
  if (::faccessat(scratch.fd(), "memory.current", F_OK, 0) != 0) {
    return wanting(id, title, "cannot be told here: no memory controller below this cgroup",
                   {HostLevel::info, "an invocation's peak of memory is not reported",
                    "run the check where the memory controller is enabled (see cgroup.memory)"});
  }
  return file_finding(
      id, title, scratch, "memory.peak",
      {HostLevel::info, "an invocation's peak of memory is not reported", "kernel 5.19 or newer"});
}

// A cgroup that is there while its scope lasts.
class ScratchCgroup {
 public:
  explicit ScratchCgroup(Cgroup cgroup) : cgroup_(std::move(cgroup)) {}
  ~ScratchCgroup() { (void)cgroup_.remove_tree(std::chrono::seconds(2)); }
  ScratchCgroup(const ScratchCgroup&) = delete;
  ScratchCgroup& operator=(const ScratchCgroup&) = delete;
  const Cgroup& operator*() const { return cgroup_; }

 private:
  Cgroup cgroup_;
};

void add_scratch_findings(const Cgroup& scratch, Findings& findings) {
  findings.push_back(
      file_finding("cgroup.kill", "killing a cgroup at once (cgroup.kill)", scratch, "cgroup.kill",
                   {HostLevel::warning, "a sandbox is killed process by process, which is slower",
                    "kernel 5.14 or newer"}));
  findings.push_back(file_finding(
      "cgroup.freeze", "freezing a cgroup", scratch, "cgroup.freeze",
      {HostLevel::warning, "idle instances cannot be stopped", "kernel 5.2 or newer"}));
  findings.push_back(
      tried("cgroup.clone_into", "birth in a cgroup (clone3 with CLONE_INTO_CGROUP)",
            try_clone_into_cgroup(scratch.fd()),
            {HostLevel::warning,
             "each sandbox is moved into its cgroup after its birth: 13 us more, with rare tails "
             "of several ms",
             "kernel 5.7 or newer, and clone3 not refused by the seccomp filter of a container "
             "around brood"}));
  findings.push_back(memory_peak_finding(scratch));
}

}  // namespace

Findings cgroup_findings(const HostCheckOptions& options) {
  const CgroupPlace place = find_cgroup_place(options);
  Findings findings{layout_finding(place), place_finding(place)};
  for (const Controller controller : cgroups::kControllers) {
    findings.push_back(controller_finding(place, controller));
  }
  if (!place.parent) {
    return findings;
  }
  auto made = place.parent->create("brood-check-" + std::to_string(::getpid()));
  if (!made) {
    findings.push_back(
        wanting("cgroup.scratch", "making a cgroup", made.error().message(),
                {HostLevel::missing, "the agent cannot make cgroups", kDelegateAdvice}));
    return findings;
  }
  const ScratchCgroup scratch(std::move(*made));
  add_scratch_findings(*scratch, findings);
  return findings;
}

CgroupPlace find_cgroup_place(const HostCheckOptions& options) {
  CgroupPlace place;
  place.hierarchy =
      cgroups::locate(base::read_file("/proc/self/mountinfo", std::size_t{16} << 20).value_or(""),
                      base::read_file("/proc/self/cgroup").value_or(""));
  const auto& found = place.hierarchy;
  if (found.mount) {
    if (const auto top = Cgroup::open(found.mount->point)) {
      place.offered_by_host = controllers_of(*top);
    }
  }
  std::string path = options.cgroup;
  if (path.empty() && !found.own_directory) {
    place.problem = found.mount ? "this process's cgroup, '" + found.own_path +
                                      "', is not below the mount at " + found.mount->point
                                : "no cgroup2 file system is mounted";
    return place;
  }
  auto opened = Cgroup::open(path.empty() ? *found.own_directory : path);
  if (!opened && found.mount && path.starts_with('/')) {
    opened = Cgroup::open(found.mount->point + path);
  }
  if (opened) {
    place.offered = controllers_of(*opened);
    place.parent = std::move(*opened);
  } else {
    place.problem = opened.error().message();
  }
  return place;
}

}  // namespace agent::host
