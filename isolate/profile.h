// The seccomp profiles as libseccomp compiles them, in milliseconds: for brood-filters, by which
// the build puts what comes out into the agent, and for a test that holds the two against each
// other.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "isolate/seccomp.h"

namespace isolate {

// As those of seccomp.h. The kernel that this runs on must know what they ask for (user
// notification: Linux 5.0).
base::Result<Filter> compile_sandbox_filter(Deadly deadly, SetId set_id);
base::Result<Filter> compile_zygote_filter();
base::Result<Filter> compile_agent_filter();

// By number; empty for a number that no call has.
std::vector<std::string> call_names();

}  // namespace isolate
