// The cgroups that hold limits, and what the host cannot hold.
#pragma once

#include <string>
#include <vector>

#include "agent/config.h"
#include "base/error.h"
#include "cgroups/subtree.h"

namespace agent {

struct Enforcement {
  cgroups::Subtree cgroups;
  std::vector<std::string> missing;  // controllers that are not to be had, by name
  std::string reasons;  // why, a line each, for the log; empty where nothing is missing
};

// Takes `brood-INSTANCE`; what an earlier owner left under that name is killed and removed. A limit
// that cannot be enforced is an error that says why and what to do, unless limits are best effort.
// As cgroups::Subtree::open: before there are threads.
base::Result<Enforcement> take_cgroups(const std::string& instance, const AgentConfig& config);

}  // namespace agent
