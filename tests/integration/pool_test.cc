// The pool of sandboxes that are ready before anyone asks: how it is filled, what happens when it
// is empty, and whose turn it is.
#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <set>
#include <thread>

#include "tests/support/agent_fixture.h"

namespace {

using namespace tests;

// Answers when it was called and in which sandbox.
constexpr std::string_view kWhere =
    "import socket, time\n"
    "def main(event, context):\n"
    "    called = time.monotonic_ns()\n"
    "    time.sleep((event or {}).get('seconds', 0))\n"
    "    return {'called': called, 'sandbox': socket.gethostname(), 'pid1': 1}\n";

std::uint32_t ready(const AgentFixture& agent) {
  return agent.runtime()["pool_ready"].get<std::uint32_t>();
}

TEST_CASE("the pool is filled to its minimum and refilled behind what is taken") {
  AgentFixture agent({.pool_min = 3, .pool_max = 6});
  agent.deploy("f", kWhere, {{"reuse", false}});
  REQUIRE(agent.pool_has(3));
  std::set<std::string> sandboxes;
  for (int i = 0; i < 12; ++i) {
    const Invoked answer = agent.invoke("f");
    REQUIRE(answer.ok());
    CHECK(answer.start == "cold");
    sandboxes.insert(answer.json()["sandbox"].get<std::string>());
  }
  CHECK(sandboxes.size() == 12);  // each invocation had its own
  REQUIRE(agent.pool_has(3));
  const Json runtime = agent.runtime();
  CHECK(runtime["state"] == "ready");
  CHECK(runtime["pool_ready"].get<int>() <= 6);
  CHECK(runtime["zygote_restarts"] == 0);
  CHECK(runtime["problem"] == "");
  // Those of ended invocations are gone, and the pool does not grow without end.
  CHECK(soon([&] { return agent.sandboxes().size() == ready(agent); }));
  std::this_thread::sleep_for(200ms);
  CHECK(ready(agent) <= 6);
}

TEST_CASE("an exhausted pool makes sandboxes on demand, for fifty callers at once") {
  AgentFixture agent({.pool_min = 1, .pool_max = 2});
  agent.deploy("f", kWhere, {{"reuse", false}, {"concurrency", 50}, {"timeout", "60s"}});
  std::vector<std::future<Invoked>> callers;
  for (int i = 0; i < 50; ++i) {
    callers.push_back(agent.invoke_later("f", {{"seconds", 0.05}}));
  }
  std::set<std::string> sandboxes;
  for (auto& caller : callers) {
    const Invoked answer = caller.get();
    INFO(answer.body);
    REQUIRE(answer.ok());
    CHECK(answer.start == "cold");
    sandboxes.insert(answer.json()["sandbox"].get<std::string>());
  }
  CHECK(sandboxes.size() == 50);
  CHECK(agent.describe("f")["endings"] == Json{{"ok", 50}});
  CHECK(soon([&] { return agent.sandboxes_of("f").empty(); }));
  CHECK(agent.pool_has(1));
  CHECK(soon([&] { return agent.sandboxes().size() == ready(agent); }));
  CHECK(ready(agent) <= 2);
}

TEST_CASE("no more sandboxes are made than the agent may have, and callers wait for one") {
  AgentFixture agent({.flags = {"--max-sandboxes=4"}, .pool_min = 1, .pool_max = 8});
  agent.deploy("f", kWhere, {{"reuse", false}, {"concurrency", 20}, {"timeout", "60s"}});
  std::vector<std::future<Invoked>> callers;
  for (int i = 0; i < 12; ++i) {
    callers.push_back(agent.invoke_later("f", {{"seconds", 0.1}}));
  }
  std::size_t most = 0;
  for (auto& caller : callers) {
    while (caller.wait_for(5ms) != std::future_status::ready) {
      most = std::max(most, agent.sandboxes().size());
    }
    const Invoked answer = caller.get();
    INFO(answer.body);
    CHECK(answer.ok());
  }
  CHECK(most <= 4);
}

// Starts invocations of `function` one after the other, so that their order is known.
void line_up(const AgentFixture& agent, const std::string& function, int count,
             std::vector<std::future<Invoked>>& callers) {
  const auto known = [&] {
    const Json now = agent.describe(function);
    return now["invocations"].get<int>();
  };
  for (int i = 0; i < count; ++i) {
    const int before = known();
    callers.push_back(agent.invoke_later(function, {{"seconds", 0.02}}));
    REQUIRE(soon([&] { return known() > before; }));
  }
}

std::vector<std::int64_t> times_of_calls(std::vector<std::future<Invoked>>& callers) {
  std::vector<std::int64_t> times;
  for (auto& caller : callers) {
    const Invoked answer = caller.get();
    INFO(answer.body);
    REQUIRE(answer.ok());
    times.push_back(answer.json()["called"].get<std::int64_t>());
  }
  return times;
}

TEST_CASE("those who wait for an instance are served in the order in which they came") {
  AgentFixture agent;
  for (const bool reuse : {true, false}) {
    INFO("reuse: " << reuse);
    const std::string name = reuse ? "kept" : "fresh";
    agent.deploy(name, kWhere, {{"concurrency", 1}, {"reuse", reuse}});
    std::vector<std::future<Invoked>> callers;
    callers.push_back(agent.invoke_later(name, {{"seconds", 1.5 * slowness()}}));
    REQUIRE(soon([&] { return agent.describe(name)["running"] == 1; }));
    line_up(agent, name, 6, callers);
    CHECK(agent.describe(name)["queued"] == 6);
    const auto times = times_of_calls(callers);
    CHECK(std::is_sorted(times.begin(), times.end()));
  }
}

TEST_CASE("functions wait for the pool in one line") {
  // With one sandbox at a time, whoever came first is served first, whichever function it is.
  AgentFixture agent({.flags = {"--max-sandboxes=1"}, .pool_min = 1, .pool_max = 1});
  agent.deploy("one", kWhere, {{"reuse", false}, {"timeout", "60s"}});
  agent.deploy("two", kWhere, {{"reuse", false}, {"timeout", "60s"}});
  std::vector<std::future<Invoked>> callers;
  callers.push_back(agent.invoke_later("one", {{"seconds", 1.5 * slowness()}}));
  REQUIRE(soon([&] { return agent.describe("one")["running"] == 1; }));
  for (int i = 0; i < 3; ++i) {
    line_up(agent, "one", 1, callers);
    line_up(agent, "two", 1, callers);
  }
  const auto times = times_of_calls(callers);
  CHECK(std::is_sorted(times.begin(), times.end()));
}

TEST_CASE("an instance that idles longer than it may is ended") {
  AgentFixture agent;
  agent.deploy("f", kWhere, {{"idle", "300ms"}});
  const Invoked first = agent.invoke("f");
  const Invoked second = agent.invoke("f");
  CHECK(second.start == "warm");
  CHECK(second.json()["sandbox"] == first.json()["sandbox"]);
  CHECK(soon([&] { return agent.sandboxes_of("f").empty(); }));
  CHECK(agent.describe("f")["instances"] == 0);
  CHECK(agent.invoke("f").start == "cold");
}

}  // namespace
