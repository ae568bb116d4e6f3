#include "agent/protocol.h"

#include <sys/wait.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

using agent::Frame;
using agent::FrameReader;

namespace {

constexpr std::uint64_t kLimit = 1 << 20;

std::string bytes_of(const agent::Gather& gather) {
  std::string all;
  for (const iovec& piece : gather.pieces()) {
    all.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
  }
  return all;
}

// A sandbox's frame, as bytes.
std::string encode(brood_frame_head head, const std::vector<std::string>& parts) {
  std::string body;
  for (const std::string& part : parts) {
    const auto size = static_cast<std::uint32_t>(part.size());
    body.append(reinterpret_cast<const char*>(&size), sizeof size);
    body += part;
  }
  head.part_count = static_cast<std::uint32_t>(parts.size());
  head.body_size = static_cast<std::uint32_t>(body.size());
  return std::string(reinterpret_cast<const char*>(&head), sizeof head) + body;
}

std::string encode(std::uint32_t kind, std::uint32_t flags, const std::vector<std::string>& parts) {
  brood_frame_head head{};
  head.kind = kind;
  head.flags = flags;
  head.invocation = 7;
  for (int i = 0; i < 5; ++i) {
    head.stage_ns[i] = 100 + i;
  }
  return encode(head, parts);
}

std::string result(const std::string& body) {
  return encode(BROOD_FRAME_RESULT, BROOD_FLAG_JSON, {"application/json", body});
}

struct Decoded {
  std::vector<Frame> frames;
  std::string problem;  // empty: none
  bool at_boundary = false;
};

// Feeds `bytes` in pieces of at most `piece`, as reads would bring them.
Decoded decode(std::string_view bytes, std::size_t piece = 1 << 20, std::uint64_t limit = kLimit) {
  FrameReader reader(limit);
  Decoded decoded;
  for (;;) {
    auto frame = reader.next();
    if (!frame) {
      decoded.problem = frame.error().message();
      break;
    }
    if (*frame) {
      decoded.frames.push_back(std::move(**frame));
      continue;
    }
    if (bytes.empty()) {
      break;
    }
    const auto space = reader.space();
    REQUIRE_FALSE(space.empty());
    const std::size_t count = std::min({space.size(), piece, bytes.size()});
    std::memcpy(space.data(), bytes.data(), count);
    reader.filled(count);
    bytes.remove_prefix(count);
  }
  decoded.at_boundary = reader.at_boundary();
  return decoded;
}

std::string problem_of(const std::string& bytes, std::uint64_t limit = kLimit) {
  return decode(bytes, 1 << 20, limit).problem;
}

template <typename T>
std::string_view raw(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace

TEST_CASE("a frame is the same however its bytes are cut") {
  const std::string body(100'000, 'x');
  const std::string stream = encode(BROOD_FRAME_READY, 0, {}) + encode(BROOD_FRAME_LOADED, 0, {}) +
                             result(body) + result("") +
                             encode(BROOD_FRAME_COMPILED, 0, {std::string("\0\1\2", 3)});
  for (const std::size_t piece : {1U, 2U, 3U, 71U, 72U, 73U, 4096U, 20'000U, 1U << 20}) {
    INFO("in pieces of " << piece);
    const Decoded decoded = decode(stream, piece);
    CHECK(decoded.problem.empty());
    CHECK(decoded.at_boundary);
    REQUIRE(decoded.frames.size() == 5);
    CHECK(decoded.frames[0].kind == BROOD_FRAME_READY);
    CHECK(decoded.frames[1].kind == BROOD_FRAME_LOADED);
    CHECK(decoded.frames[2].invocation == 7);
    CHECK(decoded.frames[2].stage_ns[4] == 104);
    CHECK(decoded.frames[2].parts[BROOD_RESULT_BODY] == body);
    CHECK(decoded.frames[3].parts[BROOD_RESULT_BODY].empty());
    CHECK(decoded.frames[4].parts[0] == std::string("\0\1\2", 3));
  }
}

TEST_CASE("a stream cut at any byte yields no broken frame and no boundary") {
  const std::string stream = result("[1,2,3]") + encode(BROOD_FRAME_RESULT, BROOD_FLAG_ERROR,
                                                        {"ValueError", "no", "trace"});
  const std::size_t first = result("[1,2,3]").size();
  for (std::size_t cut = 0; cut < stream.size(); ++cut) {
    INFO("cut at " << cut);
    const Decoded decoded = decode(std::string_view(stream).substr(0, cut), 5);
    CHECK(decoded.problem.empty());
    CHECK(decoded.frames.size() == (cut >= first ? 1U : 0U));
    CHECK(decoded.at_boundary == (cut == 0 || cut == first));
  }
}

TEST_CASE("what is wrong with a frame is said") {
  CHECK(problem_of(encode(77, 0, {})) == "frame of unknown kind 77");
  CHECK(problem_of(encode(BROOD_FRAME_BIND, 0, {})) == "frame of unknown kind 1");
  CHECK(problem_of(encode(BROOD_FRAME_READY, 1, {})) == "READY frame with flags 1");
  CHECK(problem_of(encode(BROOD_FRAME_RESULT, 64, {"a", "b"})) == "RESULT frame with flags 64");
  CHECK(problem_of(encode(BROOD_FRAME_RESULT, BROOD_FLAG_INIT, {"a", "b"})) ==
        "RESULT frame with flags that exclude each other: 4");
  CHECK(
      problem_of(encode(BROOD_FRAME_RESULT, BROOD_FLAG_ERROR | BROOD_FLAG_JSON, {"a", "b", "c"})) ==
      "RESULT frame with flags that exclude each other: 3");
  CHECK(problem_of(encode(BROOD_FRAME_RESULT, 0, {"a"})) == "RESULT frame of 1 parts, not 2");
  CHECK(problem_of(encode(BROOD_FRAME_RESULT, BROOD_FLAG_ERROR, {"a", "b"})) ==
        "RESULT frame of 2 parts, not 3");
  CHECK(problem_of(encode(BROOD_FRAME_LOADED, 0, {"a"})) == "LOADED frame of 1 parts, not 0");
}

TEST_CASE("parts that do not add up to their frame's body are refused") {
  std::string longer = result("[1]");
  longer[sizeof(brood_frame_head)] += 1;  // the first part's length
  CHECK_THAT(problem_of(longer), Catch::Contains("bytes where"));

  std::string shorter = result("[1]");
  auto* head = reinterpret_cast<brood_frame_head*>(shorter.data());
  head->body_size += 5;
  shorter += "12345";
  CHECK(problem_of(shorter) == "frame with 5 bytes after its last part");

  std::string none = encode(BROOD_FRAME_READY, 0, {});
  reinterpret_cast<brood_frame_head*>(none.data())->body_size = 4;
  CHECK(problem_of(none) == "READY frame of 4 bytes, over the limit of 0");

  brood_frame_head tiny{};
  tiny.kind = BROOD_FRAME_COMPILED;
  tiny.part_count = 1;
  tiny.body_size = 3;
  CHECK(problem_of(std::string(raw(tiny)) + "abc") == "frame whose parts are longer than its body");
}

TEST_CASE("a body over the limit is refused by its head, before its bytes come") {
  brood_frame_head head{};
  head.kind = BROOD_FRAME_RESULT;
  head.part_count = 2;
  head.body_size = std::numeric_limits<std::uint32_t>::max();
  CHECK_THAT(problem_of(std::string(raw(head)), 1000),
             Catch::Contains("RESULT frame of 4294967295 bytes, over the limit"));
  // Within the slack that an error's texts have, but no answer may use it.
  CHECK_THAT(problem_of(result(std::string(1001, 'x')), 1000),
             Catch::Contains("body is over the limit of 1000 bytes"));
  CHECK(problem_of(result(std::string(1000, 'x')), 1000).empty());
}

TEST_CASE("a claimed size costs no memory before its bytes have come") {
  FrameReader reader(1ULL << 31);
  brood_frame_head head{};
  head.kind = BROOD_FRAME_COMPILED;
  head.part_count = 1;
  head.body_size = (1U << 31) + 4;
  const std::uint32_t part = 1U << 31;
  const std::string start = std::string(raw(head)) + std::string(raw(part));
  auto space = reader.space();
  std::memcpy(space.data(), start.data(), start.size());
  reader.filled(start.size());
  CHECK_FALSE(reader.next().value().has_value());
  std::size_t sent = 0;
  while (sent < 4U << 20) {
    space = reader.space();
    CHECK(space.size() <= std::max<std::size_t>(64 << 10, sent));
    reader.filled(space.size());
    sent += space.size();
    CHECK_FALSE(reader.next().value().has_value());
  }
}

TEST_CASE("an error stays: nothing is decoded after it") {
  const Decoded decoded = decode(encode(99, 0, {}) + result("1"));
  CHECK(decoded.frames.empty());
  FrameReader reader(kLimit);
  const std::string bad = encode(99, 0, {});
  std::memcpy(reader.space().data(), bad.data(), bad.size());
  reader.filled(bad.size());
  CHECK_FALSE(reader.next());
  const std::string good = result("1");
  std::memcpy(reader.space().data(), good.data(), good.size());
  reader.filled(good.size());
  CHECK(reader.next().error().message() == "frame of unknown kind 99");
}

TEST_CASE("a content type that could break out of its header is refused") {
  for (const std::string& type :
       {std::string("text/plain\r\nx: y"), std::string(), std::string("a\0b", 3),
        std::string("t\xc3\xa9xt"), std::string(300, 'a')}) {
    CHECK_THAT(problem_of(encode(BROOD_FRAME_RESULT, 0, {type, "x"})),
               Catch::Contains("content type"));
  }
}

TEST_CASE("an error's words come out printable and bounded") {
  const Decoded decoded =
      decode(encode(BROOD_FRAME_RESULT, BROOD_FLAG_ERROR | BROOD_FLAG_INIT,
                    {"Value\xff", "red \x1b[31m\xc2\x9b", std::string(90'000, 'x')}));
  REQUIRE(decoded.frames.size() == 1);
  const Frame& frame = decoded.frames[0];
  CHECK(frame.is_error());
  CHECK(frame.parts[BROOD_ERROR_TYPE] == "Value\xef\xbf\xbd");
  CHECK(frame.parts[BROOD_ERROR_MESSAGE] == "red \xef\xbf\xbd[31m\xef\xbf\xbd");
  CHECK(frame.parts[BROOD_ERROR_TRACE].size() == 64 << 10);
  CHECK(agent::printable("a\tb\n\xf0\x9f\x90\xa3", 100) == "a\tb\n\xf0\x9f\x90\xa3");
  CHECK(agent::printable("\xc3\xa9\xc3\xa9", 3) == "\xc3\xa9");  // never half a character
}

TEST_CASE("random damage is refused or decoded, and never reads past its bytes") {
  std::mt19937 random(20'240'601);
  const std::string stream = encode(BROOD_FRAME_READY, 0, {}) + result("[1,2,3]") +
                             encode(BROOD_FRAME_RESULT, BROOD_FLAG_ERROR, {"E", "m", "t"});
  int refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string damaged = stream;
    for (unsigned i = 0; i <= random() % 4; ++i) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    const Decoded decoded = decode(damaged, 1 + random() % 200, 4096);
    refused += decoded.problem.empty() ? 0 : 1;
    for (const Frame& frame : decoded.frames) {
      CHECK(frame.parts[1].size() <= 4096 + FrameReader::kSlack);
    }
  }
  CHECK(refused > 1000);
  CHECK(refused < 20'000);
}

TEST_CASE("a bind and an invocation go out as one list that copies no payload") {
  const std::string code(5000, 'c');
  const std::string payload(100'000, 'p');
  agent::Gather gather;
  REQUIRE(gather.bind(
      {.function = "wordcount",
       .handler = "handler.main",
       .environment = std::string_view("A=1\0B=2\0", 8),
       .code = code,
       .limits = {.memory_bytes = 1 << 20, .response_bytes = 99, .pids = 5, .version = 3},
       .soft_limits = agent::SoftLimits::wanted}));
  REQUIRE(gather.invoke({.invocation = 12,
                         .deadline_ns = 34,
                         .id = "abc",
                         .content_type = "application/json",
                         .payload = payload,
                         .flags = BROOD_FLAG_JSON}));
  CHECK_FALSE(gather.compile(1, "x.py"));  // a third frame

  const auto points_at = [&gather](const std::string& text) {
    return std::any_of(gather.pieces().begin(), gather.pieces().end(),
                       [&text](const iovec& piece) { return piece.iov_base == text.data(); });
  };
  CHECK(points_at(code));
  CHECK(points_at(payload));
  CHECK(gather.pieces().size() == 4);

  const std::string all = bytes_of(gather);
  CHECK(all.size() == gather.size());
  brood_frame_head head{};
  std::memcpy(&head, all.data(), sizeof head);
  CHECK(head.kind == BROOD_FRAME_BIND);
  CHECK(head.flags == BROOD_FLAG_SOFT_LIMITS);
  CHECK(head.deadline_ns == 99);
  CHECK(head.part_count == BROOD_BIND_PARTS);
  std::memcpy(&head, all.data() + sizeof head + head.body_size, sizeof head);
  CHECK(head.kind == BROOD_FRAME_INVOKE);
  CHECK(head.invocation == 12);
  CHECK(head.deadline_ns == 34);
  CHECK(head.body_size == 12 + 3 + 16 + payload.size());
}

TEST_CASE("a command is one frame of four parts") {
  agent::Gather gather;
  const brood_run_limits limits{.memory_bytes = 1, .file_bytes = 2, .cpu_seconds = 3, .pids = 4};
  REQUIRE(gather.run({.arguments = std::string_view("sh\0-c\0", 6),
                      .environment = std::string_view("A=B\0", 4),
                      .directory = "/tmp",
                      .limits = limits,
                      .soft_limits = agent::SoftLimits::wanted,
                      .terminal = true}));
  const std::string bytes = bytes_of(gather);
  brood_frame_head head{};
  std::memcpy(&head, bytes.data(), sizeof head);
  CHECK(head.kind == BROOD_FRAME_RUN);
  CHECK(head.flags == (BROOD_FLAG_SOFT_LIMITS | BROOD_FLAG_TERMINAL));
  CHECK(head.part_count == BROOD_RUN_PARTS);
  CHECK(bytes.size() == sizeof head + head.body_size);
  CHECK(head.body_size == 4 * sizeof(std::uint32_t) + 6 + 4 + 4 + sizeof limits);
  CHECK(bytes.substr(bytes.size() - sizeof limits) ==
        std::string(reinterpret_cast<const char*>(&limits), sizeof limits));
}

TEST_CASE("a gather goes on after short writes of any size") {
  const std::string payload(1000, 'p');
  for (const std::size_t step : {1U, 7U, 72U, 300U, 5000U}) {
    agent::Gather gather;
    REQUIRE(gather.invoke({.invocation = 1, .id = "i", .content_type = "t", .payload = payload}));
    const std::string whole = bytes_of(gather);
    std::string written;
    while (gather.size() > 0) {
      const std::size_t count = std::min(step, gather.size());
      written += bytes_of(gather).substr(0, count);
      gather.wrote(count);
    }
    CHECK(gather.pieces().empty());
    CHECK(written == whole);
    gather.clear();
    REQUIRE(gather.compile(2, "a.py"));
    CHECK(gather.size() == sizeof(brood_frame_head) + 4 + 4);
  }
}

TEST_CASE("a spawn order carries its range and host name, or says why it cannot") {
  const auto message = agent::spawn_message(
      {.sandbox = 5, .uid_first = 100'000, .uid_count = 2000, .hostname = "sandbox-5"});
  REQUIRE(message);
  CHECK(message->kind == BROOD_SPAWN);
  CHECK(message->uid_first == 100'000);
  CHECK(std::string(message->hostname) == "sandbox-5");
  CHECK(message->value == 0);
  const auto awaited =
      agent::spawn_message({.uid_count = 1, .hostname = "h", .purpose = agent::Purpose::awaited});
  REQUIRE(awaited);
  CHECK(awaited->value == BROOD_AWAITED);
  CHECK_FALSE(agent::spawn_message({.uid_count = 1, .hostname = std::string(64, 'h')}));
  CHECK_FALSE(agent::spawn_message({.uid_count = 1, .hostname = std::string_view("a\0b", 3)}));
  CHECK_FALSE(agent::spawn_message({.uid_count = 0, .hostname = "h"}));
}

TEST_CASE("a zygote's message is held to its size, kinds and texts") {
  brood_control message = agent::control_message(BROOD_SPAWN_FAILED);
  std::strcpy(message.text, "clone3\x1b[0m");
  const auto decoded = agent::decode_control(raw(message));
  REQUIRE(decoded);
  CHECK(std::string(decoded->text) == "clone3\xef\xbf\xbd[0m");

  CHECK_FALSE(agent::decode_control(raw(message).substr(1)));
  CHECK_FALSE(agent::decode_control(""));
  message.kind = BROOD_SPAWN;  // ours to send, not the zygote's
  CHECK(agent::decode_control(raw(message)).error().message() ==
        "control message of unknown kind 2");
  message.kind = BROOD_EXITED;
  std::memset(message.text, 'x', sizeof message.text);
  CHECK_FALSE(agent::decode_control(raw(message)));
}

TEST_CASE("a supervisor's message is a report or an end that can be") {
  brood_setup_report report{};
  report.magic = BROOD_SETUP_MAGIC;
  report.steps_done = 23;
  auto decoded = agent::decode_supervisor(raw(report));
  REQUIRE(decoded);
  CHECK(std::get<brood_setup_report>(*decoded).steps_done == 23);
  report.steps_done = BROOD_MAX_STEPS + 1;
  CHECK_FALSE(agent::decode_supervisor(raw(report)));
  report.steps_done = 1;
  report.step = 3;  // failed, without an errno
  CHECK_FALSE(agent::decode_supervisor(raw(report)));

  brood_handler_end end{};
  end.magic = BROOD_HANDLER_MAGIC;
  end.code = CLD_KILLED;
  end.status = SIGKILL;
  decoded = agent::decode_supervisor(raw(end));
  REQUIRE(decoded);
  CHECK(std::get<brood_handler_end>(*decoded).status == SIGKILL);
  end.status = 0;
  CHECK_FALSE(agent::decode_supervisor(raw(end)));
  end.code = CLD_STOPPED;
  end.status = SIGSTOP;
  CHECK_FALSE(agent::decode_supervisor(raw(end)));
  end.magic = 0;
  CHECK_FALSE(agent::decode_supervisor(raw(end)));
  CHECK_FALSE(agent::decode_supervisor("abc"));
}
