#include "agent/host_check.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <memory>
#include <optional>

#include "agent/host_probe.h"
#include "agent/host_settings.h"
#include "base/file.h"
#include "base/units.h"
#include "cgroups/cgroup.h"
#include "cgroups/hierarchy.h"

namespace agent {

namespace {

using cgroups::Cgroup;
using cgroups::Controller;
using Findings = std::vector<HostFinding>;

constexpr const char* kPureV2 =
    "boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all (GRUB_CMDLINE_LINUX in "
    "/etc/default/grub, then update-grub), or start the agent with --limits=best-effort";
constexpr const char* kDelegate =
    "start the agent through its systemd unit, which has Delegate=yes, or name an empty cgroup "
    "with --cgroup PATH";
constexpr const char* kNewerKernel = "a newer kernel; Debian 12's has it";

HostFinding good(std::string id, std::string title, std::string found) {
  return {.id = std::move(id),
          .title = std::move(title),
          .level = HostLevel::ok,
          .found = std::move(found),
          .meaning = {},
          .mend = {}};
}

// What is said of a feature when it is not there.
struct Want {
  HostLevel level;
  std::string meaning;
  std::string mend;
};

HostFinding wanting(std::string id, std::string title, std::string found, Want want) {
  return {.id = std::move(id),
          .title = std::move(title),
          .level = want.level,
          .found = std::move(found),
          .meaning = std::move(want.meaning),
          .mend = std::move(want.mend)};
}

HostFinding tried(std::string id, std::string title, const Trial& trial, Want want) {
  return trial.works() ? good(std::move(id), std::move(title), trial.text())
                       : wanting(std::move(id), std::move(title), trial.text(), std::move(want));
}

std::optional<std::string> read_line(const std::string& path) {
  auto text = base::read_file(path);
  if (!text) {
    return std::nullopt;
  }
  return text->substr(0, text->find('\n'));
}

std::optional<std::string> read_setting(std::string name) {
  std::replace(name.begin(), name.end(), '.', '/');
  return read_line("/proc/sys/" + name);
}

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

std::uint64_t to_number(const std::optional<std::string>& text, std::uint64_t otherwise,
                        int number_base = 10) {
  std::uint64_t value = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), value, number_base).ec !=
                   std::errc()) {
    return otherwise;
  }
  return value;
}

// `path`, or the closest directory above it that is there.
std::string nearest_existing(std::string path) {
  while (path.size() > 1 && !exists(path)) {
    const std::size_t slash = path.rfind('/');
    path.resize(slash == std::string::npos || slash == 0 ? 0 : slash);
    if (path.empty()) {
      path = "/";
    }
  }
  return path;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

// --- cgroups ------------------------------------------------------------------------------------

// Where the agent's subtree would go, as far as this process can tell.
struct CgroupPlace {
  cgroups::Hierarchy hierarchy;
  std::optional<Cgroup> parent;
  std::string problem;  // why there is no parent
  cgroups::ControllerSet offered;
  cgroups::ControllerSet offered_by_host;
};

cgroups::ControllerSet controllers_of(const Cgroup& cgroup) {
  return cgroup.controllers().value_or(cgroups::ControllerSet());
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
    return wanting(
        id, title, "the host has it, but not in the cgroup of this process",
        {HostLevel::warning, cost_without(controller) + " when started from here", kDelegate});
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
                   {HostLevel::missing, "the agent has nowhere to make cgroups", kDelegate});
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
        {HostLevel::warning, "an agent that is started from here refuses to", kDelegate});
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
    findings.push_back(wanting("cgroup.scratch", "making a cgroup", made.error().message(),
                               {HostLevel::missing, "the agent cannot make cgroups", kDelegate}));
    return findings;
  }
  const ScratchCgroup scratch(std::move(*made));
  add_scratch_findings(*scratch, findings);
  return findings;
}

HostFinding pressure_finding() {
  if (base::read_file("/proc/pressure/memory")) {
    return good("kernel.psi", "pressure stall information", "/proc/pressure");
  }
  return wanting("kernel.psi", "pressure stall information", "not there",
                 {HostLevel::info, "the agent does not see that the host is short of memory or CPU",
                  "psi=1 on the kernel's command line, with CONFIG_PSI"});
}

// --- mounts and user namespaces -----------------------------------------------------------------

Findings mount_findings(const HostCheckOptions& options) {
  return {
      tried("mount.detached", "mounts made ready before they are seen (open_tree, mount_setattr)",
            try_detached_mount(options.scratch_dir),
            {HostLevel::missing,
             "images and code cannot be mounted read-only from their first "
             "moment, so no sandbox is made",
             "kernel 5.12 or newer, and the privileges of root"}),
      tried("mount.propagation", "a mount that appears inside a locked-down sandbox",
            try_mount_propagation(options.scratch_dir),
            {HostLevel::missing, "code cannot be given to a sandbox of the pool",
             "the privileges of root, outside of a container that forbids mounts"}),
      tried("mount.idmapped", "id-mapped mounts on the state directory's file system",
            try_idmapped_mount(nearest_existing(options.state_dir)),
            {HostLevel::info,
             "files of an image show as their owners on disk, not as the "
             "sandbox's ids",
             "kernel 5.12 or newer with ext4, btrfs or xfs (5.19 for overlay) below the state "
             "directory"}),
      tried("mount.overlay", "overlayfs in a user namespace",
            try_overlay_in_user_namespace(options.scratch_dir),
            {HostLevel::missing, "a sandbox has no root file system of its own",
             "modprobe overlay; kernel 5.11 or newer; where the trial ends at replacing a "
             "directory: kernel 6.6, for user attributes on tmpfs"}),
      tried("mount.tmpfs_attributes", "user attributes on tmpfs",
            try_tmpfs_user_attributes(options.scratch_dir),
            {HostLevel::info,
             "a sandbox may not be able to replace a directory of its image by "
             "another of the same name",
             "kernel 6.6 or newer with CONFIG_TMPFS_XATTR"}),
  };
}

HostFinding namespace_count_finding() {
  const std::string title = "how many namespaces may exist (user.max_*_namespaces)";
  std::vector<std::string> low;
  std::string mend = "sysctl -w";
  bool none = false;
  for (const char* kind : {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"}) {
    const std::string name = "user.max_" + std::string(kind) + "_namespaces";
    const std::uint64_t count = to_number(read_setting(name), UINT64_MAX);
    if (count < 1024) {
      low.push_back(name + " = " + std::to_string(count));
      mend += " " + name + "=16384";
      none = none || count == 0;
    }
  }
  if (low.empty()) {
    return good("userns.count", title, "enough");
  }
  return wanting("userns.count", title, joined(low),
                 {none ? HostLevel::missing : HostLevel::warning,
                  none ? "no sandbox can be made" : "few sandboxes can be alive at once", mend});
}

HostFinding apparmor_restriction_finding() {
  const std::string name = "kernel.apparmor_restrict_unprivileged_userns";
  const std::string title = "AppArmor's restriction of user namespaces";
  const auto value = read_setting(name);
  if (!value || *value == "0") {
    return good("userns.apparmor", title, value ? "off" : "this kernel does not have it");
  }
  return wanting("userns.apparmor", title, name + " = " + *value,
                 {HostLevel::warning,
                  "a user namespace that a zygote makes may come without capabilities, and its "
                  "sandboxes then fail at their first mount",
                  "install brood's AppArmor profile, which grants userns to its programs, or "
                  "sysctl -w " +
                      name + "=0"});
}

HostFinding unprivileged_clone_finding() {
  const std::string name = "kernel.unprivileged_userns_clone";
  const auto value = read_setting(name);
  if (!value || *value != "0") {
    return good("userns.unprivileged", "user namespaces below the agent's",
                value ? name + " = " + *value : "allowed");
  }
  return wanting("userns.unprivileged", "user namespaces below the agent's", name + " = 0",
                 {HostLevel::missing,
                  "a zygote, which has no privilege on the host, cannot make its sandboxes",
                  "sysctl -w " + name + "=1"});
}

HostFinding own_namespace_finding() {
  const std::string title = "the user namespace of this process";
  const auto map = read_line("/proc/self/uid_map");
  const bool whole = map && map->find("4294967295") != std::string::npos;
  if (whole) {
    return good("userns.own", title, "the host's own");
  }
  return wanting(
      "userns.own", title, "a user namespace with the map" + map.value_or(" (unknown)"),
      {HostLevel::warning,
       "the agent's root is not the host's: ids for sandboxes come out of this map only, "
       "and id-mapped mounts and some limits are refused",
       "start the agent outside of a rootless container"});
}

Findings user_namespace_findings() {
  return {namespace_count_finding(), unprivileged_clone_finding(), apparmor_restriction_finding(),
          own_namespace_finding(),
          tried("userns.nested", "namespaces made inside a user namespace",
                try_nested_user_namespaces(),
                {HostLevel::missing, "a zygote cannot make its sandboxes",
                 "see the other userns findings; inside a container: allow unshare and clone of "
                 "namespaces"})};
}

// --- locks --------------------------------------------------------------------------------------

HostFinding landlock_finding() {
  const int version = landlock_version();
  if (version > 0) {
    return good("kernel.landlock", "Landlock", "version " + std::to_string(version));
  }
  return wanting("kernel.landlock", "Landlock", "not there",
                 {HostLevel::info, "sandboxes lack one of their several locks on files",
                  "lsm=landlock,… on the kernel's command line, with CONFIG_SECURITY_LANDLOCK"});
}

HostFinding seccomp_finding() {
  struct Action {
    unsigned number;
    const char* name;
  };
  constexpr Action kActions[] = {{SECCOMP_RET_KILL_PROCESS, "kill_process"},
                                 {SECCOMP_RET_ERRNO, "errno"},
                                 {SECCOMP_RET_USER_NOTIF, "user_notif"},
                                 {SECCOMP_RET_LOG, "log"}};
  std::vector<std::string> lacking;
  for (const Action& action : kActions) {
    if (!seccomp_action_known(action.number)) {
      lacking.emplace_back(action.name);
    }
  }
  if (lacking.empty()) {
    return good("kernel.seccomp", "seccomp filters", "kill_process, errno, user_notif, log");
  }
  return wanting("kernel.seccomp", "seccomp filters", "lacks " + joined(lacking),
                 {HostLevel::missing, "the sandbox's filter cannot be loaded",
                  "a kernel with CONFIG_SECCOMP_FILTER, 5.0 or newer"});
}

HostFinding lsm_finding() {
  const std::string id = "kernel.lsm";
  const std::string title = "SELinux and AppArmor";
  const auto enforcing = read_line("/sys/fs/selinux/enforce");
  if (enforcing && *enforcing == "1") {
    return wanting(id, title, "SELinux enforces",
                   {HostLevel::warning,
                    "the policy may refuse the agent's mounts and its programs inside of images",
                    "install brood's policy, or look for denials: ausearch -m avc -ts recent"});
  }
  const auto apparmor = read_line("/sys/module/apparmor/parameters/enabled");
  std::string found = enforcing ? "SELinux permits and logs" : "no SELinux";
  found += apparmor && *apparmor == "Y" ? ", AppArmor is on" : ", no AppArmor";
  return good(id, title, found);
}

Findings lock_findings() {
  return {landlock_finding(), seccomp_finding(),
          tried("kernel.seccomp_notification", "seccomp notifications", try_seccomp_notification(),
                {HostLevel::warning,
                 "the call that a sandbox was refused is named after its death only, or not at all",
                 kNewerKernel}),
          lsm_finding()};
}

// --- privileges ---------------------------------------------------------------------------------

struct NeededCapability {
  int number;
  const char* name;
};

constexpr NeededCapability kNeeded[] = {
    {CAP_CHOWN, "CAP_CHOWN"},           {CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"},
    {CAP_FOWNER, "CAP_FOWNER"},         {CAP_KILL, "CAP_KILL"},
    {CAP_SETGID, "CAP_SETGID"},         {CAP_SETUID, "CAP_SETUID"},
    {CAP_SETPCAP, "CAP_SETPCAP"},       {CAP_NET_ADMIN, "CAP_NET_ADMIN"},
    {CAP_SYS_CHROOT, "CAP_SYS_CHROOT"}, {CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},
    {CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},   {CAP_MKNOD, "CAP_MKNOD"},
    {CAP_SETFCAP, "CAP_SETFCAP"},
};

std::uint64_t effective_capabilities() {
  const std::string status = base::read_file("/proc/self/status").value_or("");
  const std::size_t at = status.find("CapEff:\t");
  return at == std::string::npos ? 0 : to_number(status.substr(at + 8, 16), 0, 16);
}

bool has_capability(std::uint64_t set, int number) {
  return ((set >> number) & 1U) != 0;
}

HostFinding capability_finding(std::uint64_t set) {
  std::vector<std::string> lacking;
  for (const NeededCapability& needed : kNeeded) {
    if (!has_capability(set, needed.number)) {
      lacking.emplace_back(needed.name);
    }
  }
  if (lacking.empty()) {
    return good("privilege.capabilities", "capabilities of this process", "all that are needed");
  }
  return wanting("privilege.capabilities", "capabilities of this process",
                 "lacks " + joined(lacking),
                 {HostLevel::missing, "an agent with these privileges cannot make sandboxes",
                  "run as root: sudo brood check; inside a container: grant them"});
}

HostFinding resource_capability_finding(std::uint64_t set) {
  const std::string title = "raising limits (CAP_SYS_RESOURCE)";
  if (has_capability(set, CAP_SYS_RESOURCE)) {
    return good("privilege.sys_resource", title, "allowed");
  }
  return wanting("privilege.sys_resource", title, "not allowed",
                 {HostLevel::info,
                  "resource limits stay at or below this process's hard ones, and the agent cannot "
                  "shield itself from the out-of-memory killer",
                  "start the agent with CAP_SYS_RESOURCE, or with high limits (LimitNOFILE= in its "
                  "unit)"});
}

HostFinding open_files_finding() {
  constexpr rlim_t kEnough = 65'536;  // a sandbox takes about ten descriptors
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::string found =
      limit.rlim_max == RLIM_INFINITY ? "no limit" : std::to_string(limit.rlim_max);
  if (limit.rlim_max >= kEnough) {
    return good("privilege.open_files", "open files (hard RLIMIT_NOFILE)", found);
  }
  return wanting("privilege.open_files", "open files (hard RLIMIT_NOFILE)", found,
                 {HostLevel::warning,
                  "fewer sandboxes and connections at once than the host could "
                  "bear",
                  "LimitNOFILE=1048576 in the unit, or ulimit -Hn 1048576 before the start"});
}

Findings privilege_findings() {
  const std::uint64_t set = effective_capabilities();
  return {capability_finding(set), resource_capability_finding(set), open_files_finding()};
}

// --- the host around ----------------------------------------------------------------------------

HostFinding architecture_finding() {
  utsname names{};
  ::uname(&names);
  const std::string machine = names.machine;
  const std::string found = machine + ", Linux " + names.release;
  if (machine == "x86_64" || machine == "aarch64") {
    return good("host.architecture", "processor and kernel", found);
  }
  return wanting("host.architecture", "processor and kernel", found,
                 {HostLevel::missing, "there is no seccomp profile for this processor",
                  "an x86_64 or aarch64 host"});
}

HostFinding kvm_finding() {
  if (exists("/dev/kvm")) {
    return good("host.kvm", "hardware virtualisation", "/dev/kvm");
  }
  return wanting("host.kvm", "hardware virtualisation", "no /dev/kvm",
                 {HostLevel::info,
                  "brood itself does not use it; the test machine runs in QEMU's emulation anyway",
                  "nothing needs to be done"});
}

HostFinding swap_finding() {
  const std::string swaps = base::read_file("/proc/swaps").value_or("");
  if (std::count(swaps.begin(), swaps.end(), '\n') <= 1) {
    return good("host.swap", "swap", "none");
  }
  return wanting("host.swap", "swap", "in use",
                 {HostLevel::info,
                  "brood forbids it to sandboxes where the memory controller is there; elsewhere "
                  "they can be swapped, with their secrets, and stall",
                  "swapoff -a, or leave it with the memory controller enabled"});
}

HostFinding systemd_finding(const HostCheckOptions& options) {
  const std::string title = "systemd and delegation";
  if (!exists("/run/systemd/system")) {
    return good("host.systemd", title, "no systemd: cgroups are the agent's to arrange");
  }
  const CgroupPlace place = find_cgroup_place(options);
  const std::string path = place.parent ? place.parent->path() : "";
  char value[8] = {};
  const bool delegated = ::getxattr(path.c_str(), "trusted.delegate", value, sizeof value) > 0 ||
                         ::getxattr(path.c_str(), "user.delegate", value, sizeof value) > 0;
  if (delegated) {
    return good("host.systemd", title, path + " is delegated");
  }
  return wanting(
      "host.systemd", title, "systemd runs, and has not delegated this cgroup",
      {HostLevel::info, "systemd may rearrange cgroups that it did not hand over", kDelegate});
}

HostFinding run_directory_finding(const HostCheckOptions& options) {
  const std::string title = "the socket's directory";
  const std::string base_dir = nearest_existing(options.run_dir);
  if (::faccessat(AT_FDCWD, base_dir.c_str(), W_OK | X_OK, AT_EACCESS) == 0) {
    return good("host.run_dir", title,
                base_dir == options.run_dir ? base_dir + " can be written"
                                            : options.run_dir + " can be made");
  }
  return wanting("host.run_dir", title, base::Error::from_errno("access", base_dir).message(),
                 {HostLevel::missing, "the agent cannot make its socket",
                  "run as root, or choose another place with --socket"});
}

HostFinding disk_finding(const HostCheckOptions& options) {
  constexpr std::uint64_t kLeast = 256ULL << 20;
  constexpr std::uint64_t kComfortable = 2ULL << 30;
  const std::string title = "free space for the state directory";
  const std::string base_dir = nearest_existing(options.state_dir);
  struct statvfs info {};
  if (::statvfs(base_dir.c_str(), &info) != 0 || (info.f_flag & ST_RDONLY) != 0) {
    return wanting("host.disk", title, base_dir + " cannot be written",
                   {HostLevel::missing, "images and code have no place",
                    "choose another one with --state-dir"});
  }
  const std::uint64_t free = static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  const std::string found = base::format_bytes(free >> 20 << 20) + " at " + base_dir;
  if (free >= kComfortable) {
    return good("host.disk", title, found);
  }
  return wanting("host.disk", title, found,
                 {free < kLeast ? HostLevel::missing : HostLevel::warning,
                  "an image takes some 200 MiB while it is made",
                  "make room, or choose another place with --state-dir"});
}

std::vector<std::string> network_interfaces() {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })> list(
      ::opendir("/proc/sys/net/ipv4/conf"));
  while (list != nullptr) {
    const dirent* entry = ::readdir(list.get());  // NOLINT(concurrency-mt-unsafe)
    if (entry == nullptr) {
      break;
    }
    if (entry->d_name[0] != '.') {
      names.emplace_back(entry->d_name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

// An interface's name may hold a dot, so its place in the path is found from both ends.
std::optional<std::string> read_any_setting(const std::string& name) {
  const std::string prefix = "net.ipv4.conf.";
  if (!name.starts_with(prefix)) {
    return read_setting(name);
  }
  const std::size_t last = name.rfind('.');
  return read_line("/proc/sys/net/ipv4/conf/" + name.substr(prefix.size(), last - prefix.size()) +
                   "/" + name.substr(last + 1));
}

void append(Findings& all, Findings more) {
  std::move(more.begin(), more.end(), std::back_inserter(all));
}

}  // namespace

std::string_view host_level_name(HostLevel level) {
  switch (level) {
    case HostLevel::ok:
      return "ok";
    case HostLevel::info:
      return "info";
    case HostLevel::warning:
      return "warning";
    case HostLevel::missing:
      return "missing";
  }
  return "?";
}

std::vector<HostFinding> check_host(const HostCheckOptions& options) {
  Findings all{architecture_finding()};
  append(all, privilege_findings());
  append(all, cgroup_findings(options));
  all.push_back(pressure_finding());
  append(all, user_namespace_findings());
  append(all, mount_findings(options));
  append(all, lock_findings());
  append(all, {systemd_finding(options), swap_finding(), kvm_finding(),
               run_directory_finding(options), disk_finding(options)});
  append(all, judge_settings(read_any_setting, network_interfaces()));
  return all;
}

}  // namespace agent
