// That what is measured is isolated: a handler in a sandbox of the same pool says what it sees.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "bench/agent_client.h"

namespace bench {

// Deploys bench/look.py with these settings, asks it and removes it. The names of what is in force
// ("seccomp", "no_new_privs", "no capability", "namespace net", …, "overlay root"); the first that
// is not is an error: figures of a sandbox that is not isolated are worth nothing. The caller's own
// namespaces are what the sandbox's are held against.
base::Result<std::vector<std::string>> isolation_in_force(const std::string& socket_path,
                                                          const std::string& runtime, Reuse reuse);

// The same for look.py's answer, a JSON object. `own_namespaces` has a name in each entry:
// "net:[4026531840]". Pure.
base::Result<std::vector<std::string>> judge_isolation(
    std::string_view answer, const std::vector<std::string>& own_namespaces);

}  // namespace bench
