// The wall clock jumps, by a year and back, while invocations run. Only where the clock is nobody
// else's: in the test machine.
#include <time.h>

#include <catch2/catch.hpp>
#include <cstdlib>

#include "tests/support/agent_fixture.h"
#include "tests/support/host.h"
#include "tests/support/skip.h"

namespace {

using namespace tests;
using Clock = std::chrono::steady_clock;

constexpr std::string_view kSleep =
    "import time\n"
    "def main(event, context):\n"
    "    before = context.remaining_ms()\n"
    "    print('began ' + str(event['tag']))\n"
    "    time.sleep(event['seconds'])\n"
    "    return {'tag': event['tag'], 'before': before, 'after': context.remaining_ms()}\n";
constexpr std::chrono::hours kYear(24 * 365);

void need_own_clock() {
  if (std::getenv("BROOD_TEST_MACHINE") == nullptr) {
    skip_because("this host's clock is not the test's to set: scripts/test-vm");
  }
}

// Sets the clock; it is right again when this goes.
class Jump {
 public:
  explicit Jump(std::chrono::seconds by) : by_(by) { move(by_); }
  ~Jump() { move(-by_); }
  Jump(const Jump&) = delete;
  Jump& operator=(const Jump&) = delete;

 private:
  static void move(std::chrono::seconds by) {
    timespec now{};
    CHECK(::clock_gettime(CLOCK_REALTIME, &now) == 0);
    now.tv_sec += by.count();
    CHECK(::clock_settime(CLOCK_REALTIME, &now) == 0);
  }
  std::chrono::seconds by_;
};

Json event(const std::string& tag, double seconds) {
  return {{"tag", tag}, {"seconds", seconds}};
}

void check_serves(AgentFixture& agent, const std::string& tag) {
  CAPTURE(tag);
  for (const char* name : {"warm", "cold"}) {
    const Invoked answer = agent.invoke(name, event(tag, 0));
    CAPTURE(name, answer.body);
    REQUIRE(answer.ok());
    CHECK(answer.json()["tag"] == tag);
    CHECK(agent.log_of(name, answer.id) == std::vector<std::string>{"began " + tag});
  }
}

void check_goes_on(std::chrono::seconds by) {
  need_own_clock();
  AgentFixture agent({.pool_min = 2, .pool_max = 4});
  agent.deploy("warm", kSleep, {{"timeout", "60s"}, {"idle", "2s"}});
  agent.deploy("cold", kSleep, {{"timeout", "60s"}, {"reuse", false}});
  agent.deploy("short", kSleep, {{"timeout", "4s"}});
  check_serves(agent, "before");
  const auto begin = Clock::now();
  auto through = agent.invoke_later("warm", event("through", 3));
  auto late = agent.invoke_later("short", event("late", 300));
  REQUIRE(soon([&] { return agent.describe("short")["running"] == 1; }));
  {
    const Jump jump(by);
    // What runs has the time that it had, and no more.
    const Invoked answer = through.get();
    INFO(answer.body);
    REQUIRE(answer.ok());
    CHECK(answer.json()["tag"] == "through");
    const double used = double(answer.json()["before"]) - double(answer.json()["after"]);
    CHECK(used >= 2900);
    CHECK(used < 30000);
    CHECK(late.get().ending == "timeout");
    CHECK(Clock::now() - begin < 40s);
    check_serves(agent, "jumped");
    agent.deploy("made-then", kSleep);
    CHECK(agent.invoke("made-then", event("x", 0)).ok());
    // Idle instances go when they have idled, not a year later.
    CHECK(soon([&] { return agent.sandboxes_of("warm").empty(); }));
    agent.stop();
    agent.start();
    check_serves(agent, "started anew");
    CHECK(agent.invoke("made-then", event("x", 0)).ok());
  }
  check_serves(agent, "back");
  agent.stop();
  agent.start();
  for (const char* name : {"warm", "cold", "short", "made-then"}) {
    CAPTURE(name);
    CHECK(agent.invoke(name, event("after", 0)).ok());
  }
  agent.stop();
  const Leftovers left = leftovers_of(agent);
  INFO(left.text);
  CHECK(left.status == 0);
}

TEST_CASE("the clock jumps a year ahead: what runs goes on, and so does what comes") {
  check_goes_on(kYear);
}

TEST_CASE("the clock jumps two years back: what runs goes on, and so does what comes") {
  check_goes_on(-2 * kYear);
}

}  // namespace
