// `brood run --standalone` in the program of the local verbs, which nobody starts for it.
#include "cmd/cli/standalone.h"

namespace cli {

Outcome<std::string> run_standalone(StandaloneRequest /*request*/) {
  return fail(Exit::failed, "--standalone is done by `brood` itself: this is brood-local");
}

}  // namespace cli
