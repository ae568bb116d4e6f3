#include "agent/verdict.h"

#include <signal.h>

#include <catch2/catch.hpp>

using agent::Ending;
using agent::Evidence;

namespace {

agent::Outcome judge(const Evidence& evidence) {
  agent::FunctionSettings settings;
  settings.memory_bytes = 128ULL << 20;
  settings.pids = 64;
  settings.timeout = std::chrono::milliseconds(1500);
  return agent::judge(evidence, settings);
}

}  // namespace

TEST_CASE("a timeout says which limit and in which phase") {
  const auto handler = judge({.timed_out = true});
  CHECK(handler.ending == Ending::timeout);
  CHECK(handler.limit == "handler");
  CHECK(handler.message.find("1500ms") != std::string::npos);
  CHECK(judge({.timed_out = true, .loading = true}).limit == "init");
}

TEST_CASE("out of memory is told from a kill") {
  const auto memory = judge({.oom_kills = 1, .handler_ended = true, .handler_signal = SIGKILL});
  CHECK(memory.ending == Ending::out_of_memory);
  CHECK(memory.limit == "128MiB");
  const auto killed = judge({.handler_ended = true, .handler_signal = SIGKILL});
  CHECK(killed.ending == Ending::killed);
  CHECK(killed.signal == SIGKILL);
}

TEST_CASE("a refused system call is named") {
  const auto outcome =
      judge({.refused_call = "reboot", .handler_ended = true, .handler_signal = SIGKILL});
  CHECK(outcome.ending == Ending::killed);
  CHECK(outcome.syscall == "reboot");
  CHECK(outcome.message.find("reboot") != std::string::npos);
}

TEST_CASE("what the agent did itself comes before what the sandbox did in consequence") {
  CHECK(judge({.timed_out = true, .handler_ended = true, .handler_signal = SIGKILL}).ending ==
        Ending::timeout);
  CHECK(judge({.broken_rule = "x", .handler_ended = true, .handler_signal = SIGKILL}).ending ==
        Ending::protocol_error);
}

TEST_CASE(
    "a process that leaves instead of answering is an error of the handler, or of its loading") {
  CHECK(judge({.handler_ended = true, .handler_status = 3}).ending == Ending::handler_error);
  CHECK(judge({.loading = true, .handler_ended = true, .handler_status = 3}).ending ==
        Ending::init_error);
  CHECK(judge({.handler_ended = true, .handler_status = 3}).message.find("status 3") !=
        std::string::npos);
}

TEST_CASE("a refused fork makes a failure a matter of the pids limit") {
  CHECK(judge({.pids_refusals = 2, .handler_ended = true, .handler_status = 1}).ending ==
        Ending::pids_limit);
  CHECK(agent::judge_error(false, false, 1) == Ending::pids_limit);
  CHECK(agent::judge_error(false, false, 0) == Ending::handler_error);
  CHECK(agent::judge_error(true, false, 0) == Ending::init_error);
  CHECK(agent::judge_error(true, true, 0) == Ending::out_of_memory);
}

TEST_CASE("what brood could not do is its own fault, and a caller that hung up is said") {
  CHECK(judge({.own_fault = "no descriptors"}).ending == Ending::internal);
  CHECK(judge({.own_fault = "no descriptors"}).message == "no descriptors");
  CHECK(judge({.cancelled = true}).message.find("hung up") != std::string::npos);
}

TEST_CASE("a sandbox that went without a word was killed from outside") {
  const auto outcome = judge({});
  CHECK(outcome.ending == Ending::killed);
  CHECK(outcome.signal == SIGKILL);
}
