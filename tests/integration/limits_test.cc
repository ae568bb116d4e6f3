// Memory, CPU and processes: each limit is broken by one function while another goes on answering.
// Needs a host whose cgroup v2 tree has the controllers: scripts/test-vm runs it in one.
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <thread>

#include "base/file.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/skip.h"

namespace {

using namespace tests;
using Catch::Matchers::Contains;

Json doing(const std::string& what, Json more = Json::object()) {
  more["do"] = what;
  return more;
}

// Invokes the function "neighbour" until it is asked what became of that.
class Neighbour {
 public:
  explicit Neighbour(AgentFixture& agent) {
    agent.deploy("neighbour", function_source("limits.py"), {{"timeout", "60s"}});
    REQUIRE(agent.invoke("neighbour", doing("sum")).ok());
    answers_ = std::async(std::launch::async, [this, &agent] {
      std::vector<Invoked> answers;
      while (!done_) {
        answers.push_back(agent.invoke("neighbour", doing("sum")));
        std::this_thread::sleep_for(5ms);
      }
      return answers;
    });
  }
  ~Neighbour() { done_ = true; }
  Neighbour(const Neighbour&) = delete;
  Neighbour& operator=(const Neighbour&) = delete;

  // It was answered at least this often, and rightly every time.
  void check(std::size_t least) {
    done_ = true;
    const std::vector<Invoked> answers = answers_.get();
    CHECK(answers.size() >= least);
    for (const Invoked& answer : answers) {
      INFO(answer.body);
      REQUIRE(answer.ok());
      REQUIRE(answer.body == "499500");
    }
  }

 private:
  std::atomic<bool> done_{false};
  std::future<std::vector<Invoked>> answers_;
};

Json check_ending(const Invoked& answer, const std::string& ending, const std::string& limit) {
  INFO(answer.body);
  REQUIRE(answer.ending == ending);
  const Json error = answer.error();
  CHECK(error["limit"] == limit);
  return error;
}

TEST_CASE("what a host cannot hold functions to is said of the agent and of every function") {
  AgentFixture agent;
  agent.deploy("f", function_source("limits.py"));
  const Json status = agent.status();
  CHECK(status["limits"] == (agent.enforces_limits() ? "enforce" : "best-effort"));
  CHECK(status["limits_not_enforced"].empty() == agent.enforces_limits());
  CHECK(agent.describe("f")["limits_not_enforced"] == status["limits_not_enforced"]);
}

TEST_CASE("an agent that cannot hold functions to their limits does not start, and says why") {
  if (can_limit()) {
    skip_because("this host has every controller");
  }
  try {
    const AgentFixture agent({.limits = "enforce"});
    FAIL("it serves");
  } catch (const std::runtime_error& error) {
    CHECK_THAT(error.what(), Contains("cannot enforce every limit") && Contains("memory: ") &&
                                 Contains("cpu: ") && Contains("pids: ") &&
                                 Contains("--limits=best-effort"));
  }
}

TEST_CASE("memory: the function that takes too much ends, and its neighbour does not notice") {
  need_limits();
  AgentFixture agent;
  Neighbour neighbour(agent);
  agent.deploy("hungry", function_source("limits.py"), {{"memory", "64MiB"}, {"timeout", "60s"}});
  for (int i = 0; i < 3; ++i) {
    const Invoked answer = agent.invoke("hungry", doing("allocate", {{"mebibytes", 256}}));
    const Json error = check_ending(answer, "out_of_memory", "64MiB");
    CHECK(answer.status == 502);
    CHECK_FALSE(error.contains("signal"));
    CHECK(soon([&] { return agent.sandboxes_of("hungry").empty(); }));
  }
  CHECK(agent.invoke("hungry", doing("allocate", {{"mebibytes", 8}})).body == "8");
  neighbour.check(5);
  CHECK(agent.describe("hungry")["endings"]["out_of_memory"] == 3);
  CHECK(agent.describe("hungry")["limits_not_enforced"].empty());
}

TEST_CASE("memory: what is written to /tmp and /dev/shm counts") {
  need_limits();
  AgentFixture agent;
  agent.deploy("writer", function_source("limits.py"), {{"memory", "48MiB"}, {"timeout", "60s"}});
  for (const char* folder : {"/tmp", "/dev/shm"}) {
    INFO(folder);
    const Json much = doing("write", {{"folder", folder}, {"mebibytes", 60}});
    check_ending(agent.invoke("writer", much), "out_of_memory", "48MiB");
    const Json little = doing("write", {{"folder", folder}, {"mebibytes", 4}});
    CHECK(agent.invoke("writer", little).body == "4");
    REQUIRE(agent.sandboxes_of("writer").size() == 1);
    CHECK(agent.sandboxes_of("writer")[0]["memory_bytes"].get<std::uint64_t>() >= 4U << 20);
  }
}

TEST_CASE("memory: deploying with another limit takes effect") {
  need_limits();
  AgentFixture agent;
  const Json event = doing("allocate", {{"mebibytes", 100}});
  agent.deploy("f", function_source("limits.py"), {{"memory", "64MiB"}, {"timeout", "60s"}});
  check_ending(agent.invoke("f", event), "out_of_memory", "64MiB");
  agent.deploy("f", function_source("limits.py"), {{"memory", "256MiB"}, {"timeout", "60s"}});
  CHECK(agent.invoke("f", event).body == "100");
  agent.deploy("f", function_source("limits.py"), {{"memory", "48MiB"}, {"timeout", "60s"}});
  check_ending(agent.invoke("f", event), "out_of_memory", "48MiB");
}

TEST_CASE("cpu: busy processes get no more than the function's share") {
  need_limits();
  AgentFixture agent;
  Neighbour neighbour(agent);
  agent.deploy("busy", function_source("limits.py"), {{"cpu", 0.5}, {"timeout", "120s"}});
  const Invoked answer = agent.invoke("busy", doing("spin", {{"processes", 4}, {"seconds", 4}}));
  INFO(answer.body);
  REQUIRE(answer.ok());
  const Json spent = answer.json();
  const double share = spent["cpu"].get<double>() / spent["wall"].get<double>();
  CHECK(share <= 0.6);
  CHECK(share >= 0.25);
  const Json sandbox = agent.sandboxes_of("busy")[0];
  const auto stat = base::read_file(agent.cgroup_of(sandbox) + "/cpu.stat").value();
  CHECK_THAT(stat, Contains("nr_throttled ") && !Contains("nr_throttled 0\n"));
  CHECK(base::read_file(agent.cgroup_of(sandbox) + "/cpu.max").value() == "50000 100000\n");
  neighbour.check(20);

  agent.deploy("busy", function_source("limits.py"), {{"cpu", 0.1}, {"timeout", "120s"}});
  const Json less = agent.invoke("busy", doing("spin", {{"processes", 2}, {"seconds", 4}})).json();
  CHECK(less["cpu"].get<double>() / less["wall"].get<double>() <= 0.2);
}

TEST_CASE("pids: a fork that is refused ends the invocation with the limit's name") {
  need_limits();
  AgentFixture agent;
  Neighbour neighbour(agent);
  agent.deploy("forks", function_source("limits.py"), {{"pids", 20}, {"timeout", "60s"}});
  check_ending(agent.invoke("forks", doing("fork")), "pids_limit", "20");
  CHECK(soon([&] { return agent.sandboxes_of("forks").empty(); }));
  agent.deploy("forks", function_source("limits.py"), {{"pids", 10}, {"timeout", "60s"}});
  check_ending(agent.invoke("forks", doing("fork")), "pids_limit", "10");
  CHECK(agent.invoke("forks", doing("sum")).body == "499500");
  neighbour.check(5);
}

TEST_CASE("pids: a bomb that never gives up is held, and dies at its deadline") {
  need_limits();
  AgentFixture agent;
  Neighbour neighbour(agent);
  agent.deploy("bomb", function_source("limits.py"),
               {{"pids", 30}, {"cpu", 0.5}, {"timeout", "5s"}});
  auto caller = agent.invoke_later("bomb", doing("fork for ever"));
  std::size_t most = 0;
  std::vector<pid_t> inside;
  while (caller.wait_for(50ms) != std::future_status::ready) {
    if (const auto bound = agent.sandboxes_of("bomb"); !bound.empty()) {
      const auto now = agent.processes_of(bound[0]);
      inside.insert(inside.end(), now.begin(), now.end());
      most = std::max(most, now.size());
    }
  }
  check_ending(caller.get(), "timeout", "handler");
  CHECK(most <= 30);
  CHECK(most >= 20);
  CHECK(soon([&] { return agent.sandboxes_of("bomb").empty(); }));
  CHECK(soon([&] {
    return std::none_of(inside.begin(), inside.end(),
                        [](pid_t pid) { return ::kill(pid, 0) == 0; });
  }));
  neighbour.check(5);
}

}  // namespace
