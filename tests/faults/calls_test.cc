// The kernel refuses what the agent asks for, one call at a time: whoever waits is told `internal`
// and why, the agent holds what it held before, and the next invocation works.
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "base/file.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/host.h"

namespace {

using namespace tests;
namespace fs = std::filesystem;

constexpr std::string_view kEcho = "def main(event, context):\n    return event\n";
// None that these calls give by themselves.
constexpr int kErrno = ENOTNAM;
constexpr unsigned kMostCalls = 100;

std::size_t descriptors_of(pid_t pid) {
  const fs::path list = "/proc/" + std::to_string(pid) + "/fd";
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(list), fs::directory_iterator()));
}

std::size_t mounts_of(pid_t pid) {
  const auto text =
      base::read_file("/proc/" + std::to_string(pid) + "/mountinfo", 16 << 20).value_or("");
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

// An agent whose next calls can be made to fail.
class Faulty {
 public:
  Faulty()
      : agent({.pool_min = 0,
               .pool_max = 1,
               .program = Program::seam,
               .environment = {{"BROOD_SEAM_CALLS", orders_.path() + "/order"}}}) {}

  void order(const std::string& scope, unsigned nth) const {
    fs::remove(order_path() + ".told");
    std::ofstream(order_path()) << scope << " " << nth << " " << kErrno << "\n";
  }
  // Ends the order; the call that has failed, empty where there was none.
  std::string withdraw() const {
    fs::remove(order_path());
    std::string told;
    if (fs::exists(order_path() + ".told")) {  // and may be being written
      CHECK(soon([&] {
        told = base::read_file(order_path() + ".told").value_or("");
        return told.find('\n') != told.npos;
      }));
    }
    return told.substr(0, told.find('\n'));
  }

 private:
  std::string order_path() const { return orders_.path() + "/order"; }
  ScratchDirectory orders_;

 public:
  AgentFixture agent;
};

void check_serves(const AgentFixture& agent, const Json& event) {
  const Invoked answer = agent.invoke("echo", event);
  INFO(answer.body);
  CHECK(answer.ok());
  CHECK(answer.json() == event);
}

void check_told(const Invoked& answer) {
  CHECK(answer.ending == "internal");
  CHECK(answer.status == 500);
  CHECK(answer.body.find("(ENOTNAM)") != std::string::npos);
}

// Nothing runs, and the pool's one sandbox is ready.
bool rests(const AgentFixture& agent) {
  return soon([&] { return agent.sandboxes().size() == 1 && agent.runtime()["pool_ready"] == 1; });
}

// Takes the ready one away, so that the next invocation needs another.
void empty_pool(const AgentFixture& agent) {
  for (const Json& sandbox : agent.sandboxes()) {
    if (const pid_t pid = sandbox["pid"]; pid > 1) {
      signal_process(pid, SIGKILL);
      CHECK(soon([&] { return !is_alive(pid); }));
    }
  }
}

// What the agent holds at rest.
struct Held {
  std::size_t descriptors = 0;
  std::size_t mounts = 0;
  std::vector<std::string> cgroups;
  bool operator==(const Held&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Held& held) {
  out << held.descriptors << " descriptors, " << held.mounts << " mounts, cgroups:";
  for (const std::string& one : held.cgroups) {
    out << " " << one;
  }
  return out;
}

Held held_by(const AgentFixture& agent) {
  Held held;
  held.descriptors = descriptors_of(agent.pid());
  held.mounts = mounts_of(agent.pid());
  for (const auto& entry : fs::recursive_directory_iterator(agent.cgroup())) {
    // Each sandbox has a number, and so has each start of a zygote.
    if (const std::string name = entry.path().filename(); entry.is_directory()) {
      held.cgroups.push_back(name.substr(0, name.find_last_not_of("0123456789") + 1));
    }
  }
  std::sort(held.cgroups.begin(), held.cgroups.end());
  return held;
}

// Once what the test itself had open is closed: connections end a moment after their client.
Held held_at_rest(const AgentFixture& agent) {
  CHECK(rests(agent));
  Held last;
  int same = 0;
  CHECK(soon([&] {
    const Held now = held_by(agent);
    same = now == last ? same + 1 : 0;
    last = now;
    return same == 5;
  }));
  return last;
}

void check_holds(const AgentFixture& agent, const Held& before) {
  CHECK(rests(agent));
  Held now;
  CHECK(soon([&] { return (now = held_by(agent)) == before; }, 5s));
  CAPTURE(before, now);
  CHECK(now == before);
}

// Lets each kernel call of `scope` fail in turn, until there is none left; `use` is an invocation
// that needs them.
void fail_each_call(const Faulty& faulty, const std::string& scope,
                    const std::function<Invoked(unsigned nth)>& use) {
  const AgentFixture& agent = faulty.agent;
  check_serves(agent, "before");
  const Held before = held_at_rest(agent);
  std::string met;
  for (unsigned nth = 1;; ++nth) {
    REQUIRE(nth < kMostCalls);
    CAPTURE(scope, nth);
    faulty.order(scope, nth);
    const Invoked answer = use(nth);
    const std::string call = faulty.withdraw();
    CAPTURE(call, answer.body);
    if (call.empty()) {
      CHECK(answer.ok());
      break;
    }
    met += " " + call;
    check_told(answer);
    CHECK(rests(agent));  // a runtime that could not start tries again after a pause
    check_serves(agent, nth);
    check_holds(agent, before);
  }
  std::cout << scope << ":" << met << "\n";
  CHECK(std::count(met.begin(), met.end(), ' ') >= 2);
}

TEST_CASE("each call that makes a sandbox's parts fails in turn") {
  Faulty faulty;
  faulty.agent.deploy("echo", kEcho, {{"reuse", false}});
  fail_each_call(faulty, "parts", [&](unsigned nth) {
    empty_pool(faulty.agent);
    return faulty.agent.invoke("echo", nth);
  });
}

TEST_CASE("each call that attaches a function's code fails in turn") {
  Faulty faulty;
  faulty.agent.deploy("echo", kEcho, {{"reuse", false}});
  fail_each_call(faulty, "attach", [&](unsigned nth) { return faulty.agent.invoke("echo", nth); });
}

TEST_CASE("each call that starts a zygote fails in turn") {
  Faulty faulty;
  faulty.agent.deploy("echo", kEcho, {{"reuse", false}});
  fail_each_call(faulty, "zygote", [&](unsigned nth) {
    const pid_t zygote = faulty.agent.runtime()["zygote_pid"];
    const std::vector<Json> forked = faulty.agent.sandboxes();
    REQUIRE(signal_process(parent_of(zygote), SIGKILL));  // and with it what it has forked
    CHECK(soon([&] { return faulty.agent.runtime()["zygote_pid"] != zygote; }));
    for (const Json& sandbox : forked) {
      CHECK(soon([&] { return !is_alive(sandbox["pid"]); }));
    }
    return faulty.agent.invoke("echo", nth);
  });
}

TEST_CASE("each call that mounts a function's code fails in turn, and nothing is deployed") {
  Faulty faulty;
  AgentFixture& agent = faulty.agent;
  agent.deploy("echo", kEcho, {{"reuse", false}});
  const std::string digest = agent.describe("echo")["code"];
  check_serves(agent, "before");
  const Held before = held_at_rest(agent);
  const Json functions = agent.client().get("/functions");
  unsigned nth = 1;
  for (;; ++nth) {
    REQUIRE(nth < kMostCalls);
    faulty.order("code", nth);
    const Response answer =
        agent.put("other", digest, {{"runtime", "python3"}, {"handler", "handler.main"}});
    const std::string call = faulty.withdraw();
    CAPTURE(nth, call, answer.body);
    if (call.empty()) {
      CHECK(answer.status == 201);
      break;
    }
    CHECK(answer.status == 500);
    CHECK(answer.body.find("(ENOTNAM)") != std::string::npos);
    CHECK(agent.client().get("/functions") == functions);
    check_holds(agent, before);
  }
  CHECK(nth > 3);
}

// A real refusal: the kernel counts the processes of the zygote's uid.
TEST_CASE("a zygote that may fork no more is told with EAGAIN, and serves when it may again") {
  AgentFixture agent({.pool_min = 0, .pool_max = 1});
  agent.deploy("echo", kEcho, {{"reuse", false}});
  check_serves(agent, "before");
  CHECK(rests(agent));
  const pid_t zygote = agent.runtime()["zygote_pid"];
  rlimit before{};
  REQUIRE(::prlimit(zygote, RLIMIT_NPROC, nullptr, &before) == 0);
  const rlimit none{0, before.rlim_max};
  REQUIRE(::prlimit(zygote, RLIMIT_NPROC, &none, nullptr) == 0);
  empty_pool(agent);
  const Invoked refused = agent.invoke("echo", "refused");
  REQUIRE(::prlimit(zygote, RLIMIT_NPROC, &before, nullptr) == 0);
  INFO(refused.body);
  CHECK(refused.ending == "internal");
  CHECK(refused.body.find("(EAGAIN)") != std::string::npos);
  check_serves(agent, "after");
  CHECK(agent.runtime()["zygote_pid"] == zygote);
}

}  // namespace
