#include "agent/enforcement.h"

namespace agent {
namespace {

// Everything waits for the agent, which works little: where processors are short it goes first. Ten
// times what each runtime has.
constexpr std::uint32_t kOwnWeight = 1000;

}  // namespace

base::Result<Enforcement> take_cgroups(const std::string& instance, const AgentConfig& config) {
  // No limit on io is set, so its controller is not asked for.
  using cgroups::Controller;
  Enforcement taken;
  BROOD_TRY(taken.cgroups,
            cgroups::Subtree::open(
                instance, {.parent = config.cgroup_parent,
                           .wanted = {Controller::cpu, Controller::memory, Controller::pids},
                           .own_cpu_weight = kOwnWeight}));
  std::string reasons;
  for (const cgroups::MissingController& missing : taken.cgroups.missing()) {
    const std::string name(cgroups::controller_name(missing.controller));
    reasons.append("\n  ").append(name).append(": ").append(missing.reason);
    taken.missing.push_back(name);
  }
  if (!taken.missing.empty() && config.limits == LimitsMode::enforce) {
    return base::fail_because("this host cannot enforce every limit:" + reasons,
                              "see 'brood check'; --limits=best-effort runs without them");
  }
  taken.reasons = std::move(reasons);
  return taken;
}

}  // namespace agent
