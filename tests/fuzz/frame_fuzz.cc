// What a sandbox, a supervisor or a zygote sends, as hostile as it can be. The first byte says
// which of them; for a sandbox the second says how its stream is cut. Aborts when a promise of
// agent/protocol.h does not hold.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "agent/protocol.h"
#include "base/utf8.h"

namespace {

constexpr std::uint64_t kBodyLimit = 64 << 10;

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

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

void fuzz_stream(std::string_view bytes) {
  if (bytes.empty()) {
    return;
  }
  const std::size_t cut = static_cast<unsigned char>(bytes.front()) + 1U;
  bytes.remove_prefix(1);
  const Stream pieces = decode(bytes, cut);
  const Stream whole = decode(bytes, bytes.size() + 1);
  require(pieces.failed == whole.failed);
  require(pieces.frames.size() == whole.frames.size());
  for (std::size_t i = 0; i < whole.frames.size(); ++i) {
    require(pieces.frames[i].parts == whole.frames[i].parts);
  }
}

void fuzz_control(std::string_view bytes) {
  if (const auto control = agent::decode_control(bytes)) {
    require(std::memchr(control->text, 0, sizeof control->text) != nullptr);
    require(base::is_utf8(control->text));
    require(control->kind >= BROOD_BOOTED && control->kind <= BROOD_EXITED);
  }
}

void fuzz_supervisor(std::string_view bytes) {
  if (const auto message = agent::decode_supervisor(bytes)) {
    if (const auto* report = std::get_if<brood_setup_report>(&*message)) {
      require(report->steps_done <= BROOD_MAX_STEPS && report->error >= 0);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.empty()) {
    return 0;
  }
  switch (bytes.front() % 4) {
    case 0:
      fuzz_control(bytes.substr(1));
      break;
    case 1:
      fuzz_supervisor(bytes.substr(1));
      break;
    default:
      fuzz_stream(bytes.substr(1));
  }
  return 0;
}
