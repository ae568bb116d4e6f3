// What the parts of the host check share: how a finding is put together, and each part's list.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/host_check.h"
#include "agent/host_probe.h"
#include "cgroups/cgroup.h"
#include "cgroups/hierarchy.h"

namespace agent::host {

using Findings = std::vector<HostFinding>;

// What is said of a feature when it is not there.
struct Want {
  HostLevel level;
  std::string meaning;
  std::string mend;
};

HostFinding good(std::string id, std::string title, std::string found);
HostFinding wanting(std::string id, std::string title, std::string found, Want want);
HostFinding tried(std::string id, std::string title, const Trial& trial, Want want);

// The first line of a small file; nullopt where it cannot be read.
std::optional<std::string> read_line(const std::string& path);
// A sysctl by its dotted name.
std::optional<std::string> read_setting(std::string name);
// `otherwise` where there is no text, or it does not begin with a number.
std::uint64_t to_number(const std::optional<std::string>& text, std::uint64_t otherwise,
                        int number_base = 10);
bool path_exists(const std::string& path);
// `path`, or the closest directory above it that is there.
std::string nearest_existing(std::string path);
std::string joined(const std::vector<std::string>& words);

// Where the agent's subtree would go, as far as this process can tell.
struct CgroupPlace {
  cgroups::Hierarchy hierarchy;
  std::optional<cgroups::Cgroup> parent;
  std::string problem;  // why there is no parent
  cgroups::ControllerSet offered;
  cgroups::ControllerSet offered_by_host;
};
CgroupPlace find_cgroup_place(const HostCheckOptions& options);

// How the agent gets a cgroup of its own, as advice.
inline constexpr const char* kDelegateAdvice =
    "start the agent through its systemd unit, which has Delegate=yes, or name an empty cgroup "
    "with --cgroup-parent PATH";

Findings cgroup_findings(const HostCheckOptions& options);
Findings kernel_findings(const HostCheckOptions& options);

}  // namespace agent::host
