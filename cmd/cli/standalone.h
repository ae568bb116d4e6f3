// `brood run --standalone`: a command without an agent that serves. What an agent does for a
// command is done in this process, for this one alone.
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"
#include "cmd/cli/outcome.h"
#include "cmd/cli/pump.h"

namespace cli {

struct StandaloneRequest {
  std::string body;                         // as of POST /commands
  std::vector<base::UniqueFd> descriptors;  // what would go along with it
  std::string images_dir;                   // empty: the agent's default
  std::string limits;                       // as broodd's --limits; empty: its default
  std::string cgroup_parent;                // as broodd's; empty: this process's own cgroup
  // What of the pump is the caller's: input, limit, what is done when it is over.
  PumpRequest pump;
  bool terminal = false;
};

// The document of its ending, as a line of POST /commands has it. Needs root, and one thread. What
// a process that was killed here has left (a cgroup, a folder) the next one takes away.
Outcome<std::string> run_standalone(StandaloneRequest request);

}  // namespace cli
