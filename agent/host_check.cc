#include "agent/host_check.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "agent/host_findings.h"
#include "agent/host_settings.h"
#include "base/file.h"
#include "base/units.h"

namespace agent {

namespace {

using namespace host;

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
  return good("host.kvm", "hardware virtualisation",
              path_exists("/dev/kvm") ? "/dev/kvm" : "none; brood does not use it");
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
  if (!path_exists("/run/systemd/system")) {
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
  return wanting("host.systemd", title, "systemd runs, and has not delegated this cgroup",
                 {HostLevel::info, "systemd may rearrange cgroups that it did not hand over",
                  kDelegateAdvice});
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
  const unsigned grain = free >= kComfortable ? 30 : 20;
  const std::string found = base::format_bytes(free >> grain << grain) + " at " + base_dir;
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
  append(all, kernel_findings(options));
  append(all, {systemd_finding(options), swap_finding(), kvm_finding(),
               run_directory_finding(options), disk_finding(options)});
  append(all, judge_settings(read_any_setting, network_interfaces()));
  return all;
}

}  // namespace agent
