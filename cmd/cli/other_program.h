// The programs that `brood` becomes for some of its verbs.
#pragma once

#include "cmd/cli/outcome.h"

namespace cli {

// Runs it in this one's place with the same arguments; comes back only where it cannot.
Outcome<int> become_program(const char* name, char** arguments);

}  // namespace cli
