// The programs that `brood` becomes, or runs, for some of its verbs.
#pragma once

#include "cmd/cli/outcome.h"

namespace cli {

// Runs it in this one's place with the same arguments; comes back only where it cannot.
Outcome<int> become_program(const char* name, char** arguments);

// Runs it beside this one, with the same streams, and waits; its exit status, or 128 and the signal
// that ended it. One thread.
Outcome<int> run_program(const char* name, char** arguments);

}  // namespace cli
