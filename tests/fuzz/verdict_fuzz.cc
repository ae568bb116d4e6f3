// What brood-unpack, which has read a hostile archive, says of it. The first byte is how it left.
// Aborts when a promise of parse_verdict (rootfs/archive.h) does not hold.
#include <signal.h>

#include "base/utf8.h"
#include "rootfs/archive.h"
#include "tests/fuzz/promise.h"

using fuzz::require;

namespace {

// 0 to 127: an exit status; from 128 on, a signal.
base::ProcessEnd end_of(unsigned how) {
  return how < 128 ? base::ProcessEnd{.code = CLD_EXITED, .status = static_cast<int>(how)}
                   : base::ProcessEnd{.code = CLD_KILLED, .status = static_cast<int>(how - 127)};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text = fuzz::text_of(data, size);
  const unsigned how = fuzz::take_byte(text);
  const auto verdict = rootfs::parse_verdict(text, end_of(how));
  if (!verdict) {
    require(base::is_utf8(verdict.error().message()));
    return 0;
  }
  require(!verdict->accepted() || how == rootfs::kUnpackAccepted);
  const std::string message = verdict->message();
  require(base::is_utf8(message) && message.find('\x1b') == std::string::npos);
  require(message.size() < 16 << 10);
  return 0;
}
