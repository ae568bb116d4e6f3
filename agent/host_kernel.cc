#include <linux/seccomp.h>

#include <string>
#include <vector>

#include "agent/host_findings.h"
#include "base/file.h"

namespace agent::host {

namespace {

constexpr const char* kNewerKernel = "a newer kernel; Debian 12's has it";

HostFinding pressure_finding() {
  if (base::read_file("/proc/pressure/memory")) {
    return good("kernel.psi", "pressure stall information", "/proc/pressure");
  }
  return wanting("kernel.psi", "pressure stall information", "not there",
                 {HostLevel::info, "the agent does not see that the host is short of memory or CPU",
                  "psi=1 on the kernel's command line, with CONFIG_PSI"});
}

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
             "modprobe overlay; kernel 5.11 or newer"}),
      tried("mount.overlay_replace", "replacing a directory of the image inside a sandbox",
            try_overlay_replaced_directory(options.scratch_dir),
            {HostLevel::warning,
             "a function that removes a directory of its image and makes it again gets EIO",
             "kernel 6.6 or newer, for user attributes on tmpfs"}),
      tried("mount.tmpfs_attributes", "user attributes on tmpfs",
            try_tmpfs_user_attributes(options.scratch_dir),
            {HostLevel::info, "functions cannot keep user.* attributes on their files",
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

}  // namespace

Findings kernel_findings(const HostCheckOptions& options) {
  Findings all{pressure_finding()};
  for (Findings part : {user_namespace_findings(), mount_findings(options), lock_findings()}) {
    std::move(part.begin(), part.end(), std::back_inserter(all));
  }
  return all;
}

}  // namespace agent::host
