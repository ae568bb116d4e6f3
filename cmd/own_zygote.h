// This process as its own zygote, for a command without an agent.
#pragma once

#include <array>

#include "agent/protocol.h"
#include "base/error.h"
#include "base/process.h"
#include "isolate/plan.h"
#include "isolate/wire.h"

namespace cmd {

// Starts a sandbox's pid 1 as a zygote of commands does, with uids that are the host's. It is a
// copy of this process, and so is the process that waits in it for its command. `plan` stays where
// it is until this process ends. One thread.
base::Result<base::OwnedPid> spawn_sandbox(
    const isolate::Plan& plan, const agent::SpawnOrder& order,
    const std::array<int, BROOD_SPAWN_FD_COUNT>& descriptors);

}  // namespace cmd
