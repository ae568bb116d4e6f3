// The image of one of the agent's runtimes, for what runs its interpreter without brood.
#pragma once

#include <string>

#include "base/error.h"
#include "bench/baselines.h"

namespace bench {

// `digest`: what the agent says that the runtime's image has; empty: not compared.
base::Result<ForkImport> start_fork_import(const std::string& images_dir,
                                           const std::string& runtime,
                                           const std::string& digest = {});

}  // namespace bench
