// What one message of a sandbox's pid 1 holds. Aborts when a promise of decode_supervisor
// (agent/protocol.h) does not hold.
#include <signal.h>

#include "agent/protocol.h"
#include "tests/fuzz/promise.h"

using fuzz::require;

namespace {

void check(const brood_setup_report& report) {
  require(report.magic == BROOD_SETUP_MAGIC);
  require(report.steps_done <= BROOD_MAX_STEPS && report.error >= 0);
}

void check(const brood_handler_end& end) {
  require(end.magic == BROOD_HANDLER_MAGIC);
  require(end.code == CLD_EXITED || end.code == CLD_KILLED || end.code == CLD_DUMPED);
  require(end.status >= 0 && end.status <= (end.code == CLD_EXITED ? 255 : SIGRTMAX));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto message = agent::decode_supervisor(fuzz::text_of(data, size));
  if (message) {
    std::visit([](const auto& told) { check(told); }, *message);
  } else {
    require(!message.error().message().empty());
  }
  return 0;
}
