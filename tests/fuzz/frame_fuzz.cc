// The stream of a sandbox, as hostile as it can be. The first byte says how it is cut. Aborts when
// a promise of FrameReader (agent/protocol.h) does not hold.
#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "agent/protocol.h"
#include "base/utf8.h"
#include "tests/fuzz/promise.h"

namespace {

using fuzz::require;

constexpr std::uint64_t kBodyLimit = 64 << 10;

void check(const agent::Frame& frame) {
  require(frame.kind >= BROOD_FRAME_READY && frame.kind <= BROOD_FRAME_COMPILED);
  for (const std::string& part : frame.parts) {
    require(part.size() <= kBodyLimit + agent::FrameReader::kSlack);
  }
  if (frame.is_error()) {
    for (const std::string& part : frame.parts) {
      require(base::is_utf8(part));
      require(part.find('\x1b') == std::string::npos);
    }
  } else if (frame.kind == BROOD_FRAME_RESULT) {
    require(frame.parts[BROOD_RESULT_BODY].size() <= kBodyLimit);
    require(frame.parts[BROOD_RESULT_CONTENT_TYPE].find('\n') == std::string::npos);
  }
}

struct Stream {
  std::vector<agent::Frame> frames;
  bool failed = false;
};

Stream decode(std::string_view bytes, std::size_t cut) {
  agent::FrameReader reader(kBodyLimit);
  Stream stream;
  for (;;) {
    auto frame = reader.next();
    if (!frame) {
      require(!frame.error().message().empty());
      require(!reader.next());  // for good
      stream.failed = true;
      return stream;
    }
    if (*frame) {
      check(**frame);
      stream.frames.push_back(std::move(**frame));
      continue;
    }
    if (bytes.empty()) {
      return stream;
    }
    const auto space = reader.space();
    require(!space.empty());
    const std::size_t count = std::min({cut, space.size(), bytes.size()});
    std::memcpy(space.data(), bytes.data(), count);
    reader.filled(count);
    bytes.remove_prefix(count);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes = fuzz::text_of(data, size);
  const std::size_t cut = fuzz::take_byte(bytes) + 1U;
  const Stream pieces = decode(bytes, cut);
  const Stream whole = decode(bytes, bytes.size() + 1);
  require(pieces.failed == whole.failed);
  require(pieces.frames.size() == whole.frames.size());
  for (std::size_t i = 0; i < whole.frames.size(); ++i) {
    require(pieces.frames[i].parts == whole.frames[i].parts);
  }
  return 0;
}
