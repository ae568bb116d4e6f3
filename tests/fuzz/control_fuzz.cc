// What one message of a zygote holds. Aborts when a promise of decode_control (agent/protocol.h)
// does not hold.
#include <cstring>

#include "agent/protocol.h"
#include "base/utf8.h"
#include "tests/fuzz/promise.h"

using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto control = agent::decode_control(fuzz::text_of(data, size));
  if (!control) {
    require(!control.error().message().empty());
    return 0;
  }
  require(size == sizeof(brood_control));
  require(control->kind >= BROOD_BOOTED && control->kind <= BROOD_EXITED);
  require(std::memchr(control->text, 0, sizeof control->text) != nullptr);
  require(std::memchr(control->hostname, 0, sizeof control->hostname) != nullptr);
  require(base::is_utf8(control->text));
  require(std::strchr(control->text, '\x1b') == nullptr);
  return 0;
}
