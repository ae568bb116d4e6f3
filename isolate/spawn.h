// Starting a program inside a plan: the agent's side of making a zygote.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "base/process.h"
#include "isolate/plan.h"

namespace isolate {

// A contiguous range of host uids and gids, shown inside from 0 on.
struct IdRange {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};

struct SpawnRequest {
  const Plan* plan = nullptr;
  IdRange ids;
  int cgroup_fd = -1;  // joined at birth (CLONE_INTO_CGROUP)
  int root_fd = -1;    // detached mounts, see child.h; borrowed
  int lower_fd = -1;
  int dev_fd = -1;
  int run_fd = -1;
  int support_fd = -1;
  std::string hostname;
  std::vector<std::string> arguments;  // [0] is the program's path inside
  std::vector<std::string> environment;
  std::vector<int> descriptors;  // become 0, 1, 2, …; at most 8; everything else is closed
};

// Starts it: pid 1 of the new pid namespace reaps, the program is its child. Returns pid 1, which
// leaves when its last descendant has. Killing it kills everything in the namespace, and so does
// the end of the calling thread (PR_SET_PDEATHSIG), which must therefore live as long as the agent.
// Blocks for the isolation steps (about 2 ms). Needs root: it writes the child's uid map. A failure
// names the Step. The plan must end in Step::die_with_agent.
base::Result<base::OwnedPid> spawn(const SpawnRequest& request);

}  // namespace isolate
