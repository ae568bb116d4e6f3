// What this host offers to brood: each feature tried, each setting read, and for what is wanting
// what it costs and how it is mended. Looks for features, never for versions. Whatever makes a
// namespace, a mount or a cgroup does so in a forked child or below a scratch cgroup, and leaves
// nothing. Takes some tens of milliseconds; call it from a process without threads of its own at
// work (it forks), with the privileges that the agent will have.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace agent {

enum class HostLevel {
  ok,
  info,     // worth knowing; brood works as promised
  warning,  // brood works, with less protection, slower, or with a promise that it cannot keep
  missing,  // the agent does not start, or no sandbox can be made
};
std::string_view host_level_name(HostLevel level);

struct HostFinding {
  std::string id;     // stable, lower case, with dots: "cgroup.memory"
  std::string title;  // what was looked at
  HostLevel level = HostLevel::ok;
  std::string found;    // what is there
  std::string meaning;  // what it costs; empty only when ok
  std::string mend;     // the command or the setting; empty only when ok
};

struct HostCheckOptions {
  std::string state_dir = "/var/lib/brood";
  std::string run_dir = "/run/brood";
  std::string scratch_dir = "/tmp";  // any directory that exists; is only mounted over, in private
  std::string cgroup = {};           // as the agent's --cgroup; empty: where this process lives
};

// Every finding, in a fixed order, also those that are ok.
std::vector<HostFinding> check_host(const HostCheckOptions& options = {});

}  // namespace agent
