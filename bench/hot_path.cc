// The pure code that every invocation passes in the agent, a piece at a time and nothing else, for
// an instruction counter to look at (scripts/bench-budgets): `brood-hot-path PIECE ROUNDS`. No
// socket, no agent, no clock, so that two runs count the same.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "agent/protocol.h"
#include "api/reply.h"
#include "api/router.h"

namespace {

constexpr std::string_view kId = "0123456789abcdef0123456789abcdef";
constexpr std::size_t kPayload = 128;  // bytes, as of what most functions are asked

void keep(const void* value) {
  asm volatile("" : : "g"(value) : "memory");
}

// The target of a request, to what it asks for.
void route_one() {
  const auto route = api::route("POST", "/functions/thumbnail/invocations");
  keep(&route);
}

// Warm: one frame to the sandbox.
void invoke_one() {
  static const std::string payload(kPayload, 'x');
  agent::Gather gather;
  (void)gather.invoke({.invocation = 7,
                       .deadline_ns = 1,
                       .id = kId,
                       .content_type = "application/json",
                       .payload = payload,
                       .flags = BROOD_FLAG_JSON});
  keep(gather.pieces().data());
}

// Cold: the binding before it, with code that is ready.
void bind_one() {
  static const std::string code(4096, 'c');
  agent::Gather gather;
  (void)gather.bind({.function = "thumbnail",
                     .handler = "handler.main",
                     .environment = std::string_view("KEY=value\0", 10),
                     .code = code});
  keep(gather.pieces().data());
}

std::string answer_frame() {
  const std::string_view parts[] = {"application/json",
                                    "{\"width\":640,\"height\":480,\"bytes\":20123}"};
  std::string body;
  for (const std::string_view part : parts) {
    const auto size = static_cast<std::uint32_t>(part.size());
    body.append(reinterpret_cast<const char*>(&size), sizeof size);
    body += part;
  }
  brood_frame_head head{};
  head.kind = BROOD_FRAME_RESULT;
  head.flags = BROOD_FLAG_JSON;
  head.invocation = 7;
  head.part_count = std::size(parts);
  head.body_size = static_cast<std::uint32_t>(body.size());
  return std::string(reinterpret_cast<const char*>(&head), sizeof head) + body;
}

// What a sandbox sends, to a frame that has been checked.
void answer_one() {
  static const std::string bytes = answer_frame();
  static agent::FrameReader reader(1 << 20);
  std::memcpy(reader.space().data(), bytes.data(), bytes.size());
  reader.filled(bytes.size());
  const auto frame = reader.next();
  if (!frame || !*frame) {
    std::fprintf(stderr, "brood-hot-path: the frame is not taken\n");
    std::exit(1);  // NOLINT(concurrency-mt-unsafe)
  }
  keep(&frame);
}

// An outcome, to the bytes that the client gets.
void reply_one() {
  agent::Outcome outcome;
  outcome.ending = agent::Ending::ok;
  outcome.body = "{\"width\":640,\"height\":480,\"bytes\":20123}";
  outcome.invocation_id = kId;
  outcome.sandbox = "python3-123";
  for (std::size_t i = 0; i < agent::kStageCount; ++i) {
    outcome.stages.at[i] = static_cast<std::int64_t>(1'000'000 + i * 12'345);
  }
  const api::Reply reply = api::reply_of(std::move(outcome));
  std::string head;
  api::append_head(reply, api::Framing::length, api::Persistence::keep, head);
  keep(head.data());
}

constexpr std::pair<std::string_view, void (*)()> kPieces[] = {{"route", route_one},
                                                               {"bind", bind_one},
                                                               {"invoke", invoke_one},
                                                               {"answer", answer_one},
                                                               {"reply", reply_one}};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view wanted = argc == 3 ? argv[1] : "";
  for (const auto& [name, run] : kPieces) {
    if (name == wanted) {
      for (long rounds = std::strtol(argv[2], nullptr, 10); rounds > 0; --rounds) {
        run();
      }
      return 0;
    }
  }
  std::fprintf(stderr, "usage: brood-hot-path route|bind|invoke|answer|reply ROUNDS\n");
  return 2;
}
