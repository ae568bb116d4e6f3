// `brood run --standalone` where it is not at home: an agent is linked with libraries whose loading
// would be most of the time that any other verb takes.
#include "cmd/cli/other_program.h"
#include "cmd/cli/standalone.h"

namespace cli {

const bool kAtHomeForStandalone = false;

Outcome<std::string> run_standalone(StandaloneRequest request) {
  CLI_TRY([[maybe_unused]] const int never, become_program("brood-standalone", request.arguments));
  return std::string();
}

}  // namespace cli
