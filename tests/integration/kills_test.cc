// SIGKILL and SIGTERM to every kind of process, while invocations run: each caller gets one answer,
// and it is true; the function serves again; nothing is left.
#include <signal.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <future>
#include <set>
#include <thread>

#include "tests/support/agent_fixture.h"
#include "tests/support/host.h"

namespace {

using namespace tests;

// Does what its event says, for `s` seconds.
constexpr std::string_view kBusy = R"(
import time

def main(event, context):
    end = time.monotonic() + event.get("s", 0)
    while time.monotonic() < end:
        if event["do"] == "sleep":
            time.sleep(max(0, end - time.monotonic()))
        elif event["do"] == "print":
            print("x" * 1000)
    return event.get("tag")
)";

constexpr std::string_view kSlowInit = R"(
import time
time.sleep(60)

def main(event, context):
    return "never"
)";

// An invocation under way; `closed` when the connection ended without a whole answer.
struct Answer {
  bool closed = false;
  Invoked invoked;
};
using Call = std::future<Answer>;

Call call(const AgentFixture& agent, const std::string& name, const Json& event) {
  return std::async(std::launch::async, [&agent, name, event] {
    Answer answer;
    try {
      answer.invoked = agent.invoke(name, event);
    } catch (const std::exception&) {
      answer.closed = true;
    }
    return answer;
  });
}

Json doing(const std::string& what, double seconds = 60, const Json& tag = nullptr) {
  return {{"do", what}, {"s", seconds}, {"tag", tag}};
}

std::vector<pid_t> inits_of(const AgentFixture& agent, const std::string& name) {
  std::vector<pid_t> inits;
  for (const Json& sandbox : agent.sandboxes_of(name)) {
    if (sandbox["state"] == "running" && sandbox["pid"].get<pid_t>() > 0) {
      inits.push_back(sandbox["pid"]);
    }
  }
  return inits;
}

// pid 1s of the sandboxes that run `name`, once there are `count`.
std::vector<pid_t> running(const AgentFixture& agent, const std::string& name, std::size_t count) {
  std::vector<pid_t> inits;
  const bool there = soon([&] {
    inits = inits_of(agent, name);
    return inits.size() >= count;
  });
  REQUIRE(there);
  return inits;
}

pid_t zygote_of(const AgentFixture& agent) {
  pid_t pid = -1;
  REQUIRE(soon([&] {
    pid = agent.runtime()["zygote_pid"].get<pid_t>();
    return pid > 0;
  }));
  return pid;
}

void check_serves(const AgentFixture& agent, const std::string& name) {
  const Invoked answer = agent.invoke(name, doing("sleep", 0, "again"));
  INFO(answer.body);
  CHECK(answer.ok());
  CHECK(answer.json() == "again");
}

// Those that have a process already.
void kill_all(const std::vector<Json>& sandboxes) {
  for (const Json& sandbox : sandboxes) {
    if (const pid_t pid = sandbox["pid"]; pid > 1) {
      signal_process(pid, SIGKILL);
    }
  }
}

struct Case {
  std::string function;
  std::string doing;
};

// Kills a process of a running sandbox in each state that an invocation can be in.
void kill_in_each_state(const std::function<pid_t(pid_t init)>& victim) {
  AgentFixture agent;
  agent.deploy("busy", kBusy, {{"timeout", "60s"}});
  agent.deploy("slow-init", kSlowInit, {{"timeout", "60s"}});
  for (const Case& state : {Case{"busy", "sleep"}, Case{"busy", "spin"}, Case{"busy", "print"},
                            Case{"slow-init", "sleep"}}) {
    CAPTURE(state.function, state.doing);
    Call caller = call(agent, state.function, doing(state.doing));
    const pid_t init = running(agent, state.function, 1).front();
    std::this_thread::sleep_for(50ms);
    const pid_t killed = victim(init);
    REQUIRE(signal_process(killed, SIGKILL));
    const Answer answer = caller.get();
    CHECK_FALSE(answer.closed);
    INFO(answer.invoked.body);
    CHECK(answer.invoked.ending == "killed");
    CHECK(answer.invoked.status == 502);
    CHECK(answer.invoked.error()["signal"] == SIGKILL);
    CHECK(soon([&] { return !is_alive(init); }, 2s));
    CHECK(soon([&] { return agent.sandboxes_of(state.function).empty(); }, 2s));
    if (state.function == "busy") {
      check_serves(agent, "busy");
      CHECK(soon([&] { return inits_of(agent, "busy").empty(); }, 2s));
      kill_all(agent.sandboxes_of("busy"));
      CHECK(soon([&] { return agent.sandboxes_of("busy").empty(); }, 2s));
    }
  }
  CHECK(zombies_below(agent.pid()).empty());
  agent.stop();
  const Leftovers left = leftovers_of(agent);
  INFO(left.text);
  CHECK(left.status == 0);
}

TEST_CASE("a killed handler's process ends its invocation as killed, whatever it was doing") {
  kill_in_each_state([](pid_t init) {
    pid_t handler = -1;
    (void)soon([&] { return (handler = handler_of(init)) > 0; }, 2s);
    return handler;
  });
}

TEST_CASE("a killed pid 1 of a sandbox ends its invocation as killed, whatever it was doing") {
  kill_in_each_state([](pid_t init) { return init; });
}

TEST_CASE("an idle instance that is killed is not given an invocation") {
  AgentFixture agent;
  agent.deploy("busy", kBusy);
  for (int round = 0; round < 20; ++round) {
    check_serves(agent, "busy");
    kill_all(agent.sandboxes_of("busy"));
    // At once: the agent may not have been told yet, and then the invocation is the one that is
    // killed; it must not be lost.
    const Invoked answer = agent.invoke("busy", doing("sleep", 0, "again"));
    CAPTURE(round, answer.body);
    CHECK((answer.ending == "ok" || answer.ending == "killed"));
    kill_all(agent.sandboxes_of("busy"));
    REQUIRE(soon([&] { return agent.sandboxes_of("busy").empty(); }, 2s));
  }
}

TEST_CASE("sandboxes of the pool that are killed are replaced") {
  AgentFixture agent({.pool_min = 3});
  agent.deploy("busy", kBusy);
  REQUIRE(agent.pool_has(3));
  for (int round = 0; round < 5; ++round) {
    const auto killed = agent.sandboxes();
    kill_all(killed);
    for (const Json& one : killed) {
      REQUIRE(soon([&] { return !is_alive(one["pid"].get<pid_t>()); }, 2s));
    }
    check_serves(agent, "busy");
    CHECK(agent.pool_has(3));
  }
  CHECK(agent.runtime()["zygote_restarts"] == 0);
}

std::set<std::string> pool_ids(const AgentFixture& agent) {
  std::set<std::string> ids;
  for (const Json& sandbox : agent.sandboxes()) {
    if (sandbox["state"] == "pool") {
      ids.insert(sandbox["id"]);
    }
  }
  return ids;
}

TEST_CASE("a killed zygote costs no invocation: what runs finishes, what waits is carried over") {
  AgentFixture agent({.pool_min = 2, .pool_max = 2});
  agent.deploy("busy", kBusy, {{"timeout", "60s"}, {"concurrency", 3}, {"reuse", false}});
  REQUIRE(agent.pool_has(2));
  const pid_t zygote = zygote_of(agent);
  std::vector<Call> callers;
  for (int i = 0; i < 3; ++i) {
    callers.push_back(call(agent, "busy", doing("sleep", 1.5, i)));
  }
  (void)running(agent, "busy", 3);
  for (int i = 3; i < 8; ++i) {  // beyond the concurrency: these wait for sandboxes to come
    callers.push_back(call(agent, "busy", doing("sleep", 0.05, i)));
  }
  REQUIRE(soon([&] { return agent.describe("busy")["queued"] == 5; }));
  REQUIRE(agent.pool_has(2));
  const auto pool_before = pool_ids(agent);
  REQUIRE(signal_process(zygote, SIGKILL));
  for (int i = 0; i < 8; ++i) {
    const Answer answer = callers[static_cast<std::size_t>(i)].get();
    CAPTURE(i, answer.closed, answer.invoked.body);
    CHECK(answer.invoked.ok());
    CHECK(answer.invoked.body == std::to_string(i));
  }
  CHECK(agent.runtime()["zygote_restarts"] == 1);
  CHECK(agent.runtime()["state"] == "ready");
  CHECK(zygote_of(agent) != zygote);
  REQUIRE(agent.pool_has(2));
  for (const std::string& id : pool_ids(agent)) {
    CHECK(pool_before.count(id) == 0);
  }
  check_serves(agent, "busy");
  CHECK(soon([&] { return zombies_below(agent.pid()).empty(); }, 3s));
}

TEST_CASE("an invocation that finds no zygote and an empty pool waits for the next one") {
  AgentFixture agent({.pool_min = 0, .pool_max = 1});
  agent.deploy("busy", kBusy, {{"timeout", "60s"}, {"reuse", false}});
  check_serves(agent, "busy");
  for (int round = 0; round < 5; ++round) {
    REQUIRE(signal_process(zygote_of(agent), SIGKILL));
    std::vector<Call> callers;
    for (int i = 0; i < 4; ++i) {
      callers.push_back(call(agent, "busy", doing("sleep", 0, i)));
    }
    for (int i = 0; i < 4; ++i) {
      const Answer answer = callers[static_cast<std::size_t>(i)].get();
      CAPTURE(round, i, answer.closed, answer.invoked.body);
      CHECK(answer.invoked.ok());
    }
  }
  CHECK(agent.runtime()["zygote_restarts"] == 5);
}

TEST_CASE("a killed pid 1 of a runtime takes its sandboxes along, and each caller is told once") {
  AgentFixture agent({.pool_min = 2, .pool_max = 4});
  agent.deploy("busy", kBusy, {{"timeout", "60s"}});
  const pid_t zygote = zygote_of(agent);
  const pid_t init = parent_of(zygote);
  CHECK(parent_of(init) == agent.pid());
  std::vector<Call> callers;
  for (const char* what : {"sleep", "spin", "print"}) {
    callers.push_back(call(agent, "busy", doing(what)));
  }
  (void)running(agent, "busy", 3);
  REQUIRE(signal_process(init, SIGKILL));
  for (Call& caller : callers) {
    const Answer answer = caller.get();
    CAPTURE(answer.closed, answer.invoked.body);
    CHECK(answer.invoked.ending == "killed");
    CHECK(answer.invoked.error()["signal"] == SIGKILL);
  }
  check_serves(agent, "busy");
  CHECK(agent.runtime()["zygote_restarts"] == 1);
  CHECK(agent.describe("busy")["endings"]["killed"] == 3);
  CHECK(agent.pool_has(2));
  CHECK(soon([&] { return zombies_below(agent.pid()).empty(); }, 3s));
}

TEST_CASE("a zygote that is killed again and again is always replaced") {
  AgentFixture agent;
  agent.deploy("busy", kBusy, {{"timeout", "60s"}});
  for (int round = 1; round <= 6; ++round) {
    const pid_t zygote = zygote_of(agent);
    REQUIRE(signal_process(zygote, SIGKILL));
    REQUIRE(soon([&] { return agent.runtime()["zygote_restarts"] == round; }));
    check_serves(agent, "busy");
    REQUIRE(agent.pool_has(1));
  }
}

TEST_CASE("a killed agent takes every process along, and the next one clears the rest away") {
  AgentFixture agent({.pool_min = 3});
  agent.deploy("busy", kBusy, {{"timeout", "60s"}});
  agent.deploy("slow-init", kSlowInit, {{"timeout", "60s"}});
  std::vector<Call> callers;
  for (const char* what : {"sleep", "spin", "print"}) {
    callers.push_back(call(agent, "busy", doing(what)));
  }
  callers.push_back(call(agent, "slow-init", doing("sleep")));
  (void)running(agent, "busy", 3);
  (void)running(agent, "slow-init", 1);
  const std::vector<pid_t> processes = descendants_of(agent.pid());
  CHECK(processes.size() >= 10);  // runtime's pid 1, zygote, two for each sandbox
  agent.kill();
  CHECK(soon(
      [&] {
        return std::none_of(processes.begin(), processes.end(),
                            [](pid_t pid) { return is_alive(pid); });
      },
      1s));
  for (Call& caller : callers) {
    CHECK(caller.get().closed);
  }
  // What a killed agent cannot clear away is seen, so that this test shows what the next start
  // does.
  const Leftovers before = leftovers_of(agent);
  INFO(before.text);
  CHECK(before.status == 1);
  CHECK(before.text.find("cgroup ") != std::string::npos);
  CHECK(before.text.find("socket ") != std::string::npos);
  CHECK(before.text.find("process ") == std::string::npos);
  agent.start();
  check_serves(agent, "busy");
  const Leftovers running_agent = leftovers_of(agent);
  INFO(running_agent.text);
  CHECK(running_agent.status == 0);
  agent.stop();
  const Leftovers after = leftovers_of(agent);
  INFO(after.text);
  CHECK(after.status == 0);
}

TEST_CASE("SIGTERM lets what runs and what waits finish, and then nothing is left") {
  AgentFixture agent({.pool_min = 2});
  agent.deploy("busy", kBusy, {{"timeout", "60s"}, {"concurrency", 2}});
  std::vector<Call> callers;
  for (const char* what : {"sleep", "spin"}) {
    callers.push_back(call(agent, "busy", doing(what, 1, what)));
  }
  (void)running(agent, "busy", 2);
  Call waiting = call(agent, "busy", doing("sleep", 0, "waited"));
  REQUIRE(soon([&] { return agent.describe("busy")["queued"] == 1; }));
  HttpClient connected = agent.client();
  (void)connected.get("/status");
  agent.begin_stop();
  std::this_thread::sleep_for(100ms);
  try {
    // A connection that was there may still ask, and is told; or it has been closed.
    const Response refused = connected.ask("POST", "/functions/busy/invocations", "{}",
                                           "Content-Type: application/json\r\n");
    INFO(refused.body);
    CHECK(refused.status >= 500);
  } catch (const std::exception&) {
    SUCCEED("closed");
  }
  for (Call& caller : callers) {
    const Answer answer = caller.get();
    CAPTURE(answer.closed, answer.invoked.body);
    CHECK(answer.invoked.ok());
  }
  const Answer waited = waiting.get();
  CAPTURE(waited.closed, waited.invoked.body);
  CHECK(waited.invoked.ok());
  agent.stop();
  const Leftovers left = leftovers_of(agent);
  INFO(left.text);
  CHECK(left.status == 0);
}

TEST_CASE("a second SIGTERM ends the patience, and every caller is still told") {
  AgentFixture agent({.pool_min = 2});
  agent.deploy("busy", kBusy, {{"timeout", "60s"}});
  std::vector<Call> callers;
  for (const char* what : {"sleep", "spin", "print"}) {
    callers.push_back(call(agent, "busy", doing(what)));
  }
  (void)running(agent, "busy", 3);
  agent.begin_stop();
  std::this_thread::sleep_for(200ms);
  CHECK(is_alive(agent.pid()));
  signal_process(agent.pid(), SIGTERM);
  for (Call& caller : callers) {
    const Answer answer = caller.get();
    CAPTURE(answer.closed, answer.invoked.body);
    CHECK_FALSE(answer.closed);
    CHECK(answer.invoked.ending == "internal");
    CHECK(answer.invoked.body.find("the agent stopped") != std::string::npos);
  }
  agent.stop();
  const Leftovers left = leftovers_of(agent);
  INFO(left.text);
  CHECK(left.status == 0);
}

TEST_CASE("a drain that outlasts its limit kills what still runs") {
  AgentFixture agent({.flags = {"--drain-timeout=500ms"}});
  agent.deploy("busy", kBusy, {{"timeout", "60s"}});
  Call caller = call(agent, "busy", doing("spin"));
  (void)running(agent, "busy", 1);
  const auto before = std::chrono::steady_clock::now();
  agent.stop();
  CHECK(std::chrono::steady_clock::now() - before < 5s * slowness());
  CHECK(caller.get().invoked.ending == "internal");
}

}  // namespace
