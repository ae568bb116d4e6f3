// Thousands of SIGKILLs under load, to processes of every kind, at moments that a seed decides:
// each request gets one answer, its own and a true one; what is killed comes back; nothing is left.
//
// BROOD_FAULT_KILLS: how many (default 300; 1000 for a long run). BROOD_FAULT_SEED: repeats a run's
// choices, though not its interleaving.
#include <signal.h>

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <random>
#include <thread>

#include "tests/support/agent_fixture.h"
#include "tests/support/host.h"

namespace {

using namespace tests;

constexpr std::string_view kEcho = "def main(event, context):\n    return event\n";
constexpr std::string_view kRaise =
    "def main(event, context):\n    raise ValueError(event['tag'])\n";
constexpr std::string_view kNap =
    "import time\ndef main(event, context):\n    time.sleep(0.02)\n    return event\n";
constexpr int kClientsEach = 2;
constexpr std::uint32_t kPool = 4;

struct Function {
  std::string name;
  std::string_view source;
  Json settings;
  std::string ending;  // where nothing is killed
};

const std::vector<Function>& functions() {
  static const std::vector<Function> all{
      {"warm", kEcho, {{"idle", "5s"}}, "ok"},
      {"cold", kEcho, {{"reuse", false}}, "ok"},
      {"nap", kNap, {{"idle", "5s"}}, "ok"},
      {"raise", kRaise, {{"idle", "5s"}}, "handler_error"},
  };
  return all;
}

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? std::stoull(value) : otherwise;
}

enum class Victim { handler, init, zygote, runtime, agent };
constexpr std::array kVictims{"handler", "sandbox's pid 1", "zygote", "runtime's pid 1", "agent"};

// What has been answered, and what was untrue of it.
class Tally {
 public:
  void answered(const std::string& what) {
    const std::lock_guard lock(mutex_);
    ++counts_[what];
  }
  void wrong(const std::string& what) {
    const std::lock_guard lock(mutex_);
    if (wrong_.size() < 20) {
      wrong_.push_back(what);
    }
  }
  const std::map<std::string, std::uint64_t>& counts() const { return counts_; }
  const std::vector<std::string>& wrongs() const { return wrong_; }

 private:
  std::mutex mutex_;
  std::map<std::string, std::uint64_t> counts_;
  std::vector<std::string> wrong_;
};

// Clients that ask until told to stop, each on a connection that it keeps: an answer too many would
// be taken for the next request's. While the agent is down they are told so by the connection.
class Load {
 public:
  Load(const AgentFixture& agent, Tally& tally) : agent_(agent), tally_(tally) {
    for (const Function& function : functions()) {
      for (int client = 0; client < kClientsEach; ++client) {
        threads_.emplace_back([this, &function, client] { run(function, client); });
      }
    }
  }
  ~Load() {
    stop_ = true;
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  // From before an agent is killed until another serves: a connection may end without an answer.
  void agent_goes() { ++agent_changes_; }
  void agent_serves() { ++agent_changes_; }

 private:
  void run(const Function& function, int client) {
    HttpClient connection = agent_.client();
    for (int i = 0; !stop_; ++i) {
      const std::string tag =
          function.name + "-" + std::to_string(client) + "-" + std::to_string(i);
      const unsigned before = agent_changes_;
      try {
        check(function, tag,
              connection.ask("POST", "/functions/" + function.name + "/invocations",
                             Json{{"tag", tag}}.dump(), "Content-Type: application/json\r\n"));
      } catch (const std::exception& error) {
        connection = agent_.client();
        if (before % 2 == 0 && before == agent_changes_) {
          tally_.wrong(tag + ": no answer from an agent that was not killed: " + error.what());
        }
        tally_.answered("connection closed");
        std::this_thread::sleep_for(5ms);
      }
    }
  }

  void check(const Function& function, const std::string& tag, const Response& answer) {
    const std::string ending = answer.header("brood-ending");
    tally_.answered(ending);
    if (ending == "killed") {
      // By whom is said, too: nobody but this test kills.
      if (Json::parse(answer.body)["error"]["signal"] != SIGKILL) {
        tally_.wrong(tag + ": " + answer.body);
      }
    } else if (ending != function.ending) {
      tally_.wrong(tag + ": " + answer.body);
    } else if (answer.body.find("\"" + tag + "\"") == std::string::npos) {
      tally_.wrong(tag + " got the answer of another: " + answer.body.substr(0, 200));
    }
  }

  const AgentFixture& agent_;
  Tally& tally_;
  std::atomic<bool> stop_{false};
  std::atomic<unsigned> agent_changes_{0};  // odd: it is down
  std::vector<std::thread> threads_;
};

// A process of a sandbox that serves, or waits to, or has served. -1: none just now.
pid_t pick_sandbox(HttpClient& client, std::mt19937_64& random) {
  std::vector<pid_t> inits;
  for (const Json& sandbox : client.get("/sandboxes")["sandboxes"].get<std::vector<Json>>()) {
    // One that is being made stands for the runtime: three in a row tell of that.
    if (sandbox["state"] != "starting" && sandbox["pid"] > 1) {
      inits.push_back(sandbox["pid"]);
    }
  }
  return inits.empty() ? -1 : inits[random() % inits.size()];
}

pid_t pick(const AgentFixture& agent, HttpClient& client, Victim victim, std::mt19937_64& random) {
  if (victim == Victim::handler || victim == Victim::init) {
    const pid_t init = pick_sandbox(client, random);
    return victim == Victim::init || init < 0 ? init : handler_of(init);
  }
  const Json runtime = agent.runtime();
  const pid_t zygote = runtime["zygote_pid"];
  if (runtime["state"] != "ready" || zygote <= 1) {
    return -1;
  }
  return victim == Victim::zygote ? zygote : parent_of(zygote);
}

Victim choose(std::mt19937_64& random) {
  const auto share = random() % 1000;
  return share < 10    ? Victim::agent
         : share < 60  ? Victim::runtime
         : share < 120 ? Victim::zygote
         : share < 540 ? Victim::init
                       : Victim::handler;
}

void replace_agent(AgentFixture& agent, Load& load) {
  load.agent_goes();
  agent.kill();
  agent.start();
  load.agent_serves();
  for (const Function& function : functions()) {
    CHECK(agent.describe(function.name)["name"] == function.name);
  }
  const Leftovers left = leftovers_of(agent);
  INFO(left.text);
  CHECK(left.status == 0);
}

void check_serves(const AgentFixture& agent) {
  for (const Function& function : functions()) {
    const Invoked answer = agent.invoke(function.name, {{"tag", "last"}});
    CAPTURE(function.name, answer.body);
    CHECK(answer.ending == function.ending);
  }
  CHECK(soon([&] { return zombies_below(agent.pid()).empty(); }, 5s));
}

// A runtime whose zygotes die young thrice in a row refuses, as it should: each is let grow old.
class Patience {
 public:
  bool is_over(Victim victim) const {
    return (victim != Victim::zygote && victim != Victim::runtime) || Clock::now() > until_;
  }
  void killed(Victim victim) {
    if (victim == Victim::zygote || victim == Victim::runtime) {
      until_ = Clock::now() + 13s;
    }
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point until_;
};

TEST_CASE("whatever is killed under load, each request gets one true answer, its own") {
  const std::uint64_t wanted = from_environment("BROOD_FAULT_KILLS", 300);
  const std::uint64_t seed = from_environment("BROOD_FAULT_SEED", std::random_device{}());
  std::cout << "BROOD_FAULT_SEED=" << seed << "\n" << std::flush;
  std::mt19937_64 random(seed);
  AgentFixture agent({.pool_min = kPool, .pool_max = 2 * kPool});
  for (const Function& function : functions()) {
    agent.deploy(function.name, function.source, function.settings);
  }
  std::map<Victim, std::uint64_t> killed;
  Patience patience;
  Tally tally;
  const auto begin = std::chrono::steady_clock::now();
  {
    Load load(agent, tally);
    HttpClient client = agent.client();
    for (std::uint64_t kills = 0; kills < wanted;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 60));
      const Victim victim = choose(random);
      if (!patience.is_over(victim)) {
        continue;
      }
      if (victim == Victim::agent) {
        replace_agent(agent, load);
        client = agent.client();
      } else if (const pid_t pid = pick(agent, client, victim, random);
                 pid <= 1 || !signal_process(pid, SIGKILL)) {
        continue;
      }
      patience.killed(victim);
      ++killed[victim];
      ++kills;
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::cout << wanted << " kills in " << took.count() << " s:";
  for (const auto& [victim, count] : killed) {
    std::cout << " " << kVictims[static_cast<std::size_t>(victim)] << " " << count << ",";
  }
  std::cout << "\nanswers: " << Json(tally.counts()).dump() << "\n";
  CHECK(tally.wrongs() == std::vector<std::string>{});
  CHECK(tally.counts().at("ok") > wanted);
  CHECK(tally.counts().at("killed") > 0);
  CHECK(killed[Victim::zygote] + killed[Victim::runtime] > 0);
  check_serves(agent);
  agent.stop();
  const Leftovers left = leftovers_of(agent);
  INFO(left.text);
  CHECK(left.status == 0);
}

}  // namespace
