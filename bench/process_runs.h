// How long a command takes as a process of its own, from before it is started until it has ended.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace bench {

// Nanoseconds. Its standard input is `input`, its output is not kept; another exit status than 0 is
// an error that has the end of what it printed.
base::Result<std::int64_t> run_process(const std::vector<std::string>& command,
                                       const std::string& input);

}  // namespace bench
