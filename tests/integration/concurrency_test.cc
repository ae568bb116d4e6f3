// Full load with every kind of ending at once, and sandboxes killed at random: each request gets
// one answer, its own, out of the closed set; what the agent holds returns to what it held before.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <mutex>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "base/file.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/host.h"

namespace {

using namespace tests;
namespace fs = std::filesystem;

constexpr std::string_view kEcho = "def main(event, context):\n    return event\n";
constexpr std::string_view kRaise =
    "def main(event, context):\n    raise ValueError(event['token'])\n";
constexpr std::string_view kBadInit = "raise RuntimeError('no')\n";
constexpr std::string_view kExit = "import os\ndef main(event, context):\n    os._exit(3)\n";
constexpr std::string_view kSlow =
    "import time\ndef main(event, context):\n    time.sleep(5)\n    return event\n";
constexpr std::string_view kLarge = "def main(event, context):\n    return 'x' * 300000\n";
constexpr std::string_view kDenied =
    "import ctypes\n"
    "def main(event, context):\n"
    "    ctypes.CDLL(None).swapoff(b'/nothing')\n"
    "    return event\n";
constexpr std::string_view kPrints =
    "def main(event, context):\n"
    "    for i in range(200):\n"
    "        print(event['token'], 'x' * 500)\n"
    "    return event\n";

struct Function {
  std::string name;
  std::string_view source;
  Json settings;
  std::set<std::string> endings;  // beside "killed": any sandbox may be killed
};

std::vector<Function> functions() {
  return {
      {"warm", kEcho, {{"idle", "1s"}}, {"ok"}},
      {"cold", kEcho, {{"reuse", false}}, {"ok"}},
      {"raise", kRaise, {{"idle", "1s"}}, {"handler_error"}},
      {"bad-init", kBadInit, Json::object(), {"init_error"}},
      {"exit", kExit, Json::object(), {"handler_error"}},
      {"slow", kSlow, {{"timeout", "50ms"}}, {"timeout"}},
      {"large", kLarge, {{"idle", "1s"}}, {"response_too_large"}},
      {"denied", kDenied, Json::object(), {"killed"}},
      {"prints", kPrints, {{"idle", "1s"}}, {"ok"}},
      {"narrow", kEcho, {{"concurrency", 1}, {"queue", 0}, {"idle", "1s"}}, {"ok", "overloaded"}},
  };
}

// What is counted of every function's answers, and what went wrong.
class Tally {
 public:
  void add(const std::string& function, const std::string& ending) {
    const std::lock_guard lock(mutex_);
    ++counts_[function][ending];
  }
  void wrong(std::string what) {
    const std::lock_guard lock(mutex_);
    if (wrong_.size() < 20) {
      wrong_.push_back(std::move(what));
    }
  }
  std::map<std::string, std::uint64_t> of(const std::string& function) { return counts_[function]; }
  const std::vector<std::string>& wrongs() const { return wrong_; }

 private:
  std::mutex mutex_;
  std::map<std::string, std::map<std::string, std::uint64_t>> counts_;
  std::vector<std::string> wrong_;
};

// Asks one function again and again on one connection, so that an answer too many would be taken
// for the next request's.
void keep_asking(const AgentFixture& agent, const Function& function, int client,
                 const std::atomic<bool>& stop, Tally& tally) {
  HttpClient connection = agent.client();
  for (int i = 0; !stop; ++i) {
    const std::string token =
        function.name + "-" + std::to_string(client) + "-" + std::to_string(i);
    const std::string body = Json{{"token", token}}.dump();
    try {
      const Response answer = connection.ask("POST", "/functions/" + function.name + "/invocations",
                                             body, "Content-Type: application/json\r\n");
      const std::string ending = answer.header("brood-ending");
      tally.add(function.name, ending);
      if (ending != "killed" && function.endings.count(ending) == 0) {
        tally.wrong(token + ": " + answer.body);
      }
      if (ending == "overloaded") {
        std::this_thread::sleep_for(2ms);  // the others want their share of this host
      }
      if (ending == "ok" && answer.body != Json{{"token", token}}.dump() &&
          Json::parse(answer.body) != Json::parse(body)) {
        tally.wrong(token + " got the answer of another: " + answer.body.substr(0, 100));
      }
      if (function.name == "raise" && ending == "handler_error" &&
          Json::parse(answer.body)["error"]["message"] != token) {
        tally.wrong(token + " got the error of another: " + answer.body.substr(0, 200));
      }
    } catch (const std::exception& error) {
      tally.wrong(token + ": " + error.what());
    }
  }
}

// Kills pid 1 or the handler of some sandbox, every few milliseconds.
void keep_killing(const AgentFixture& agent, std::mt19937& random, const std::atomic<bool>& stop) {
  HttpClient connection = agent.client();
  while (!stop) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + random() % 60));
    std::vector<pid_t> inits;
    for (const Json& sandbox : connection.get("/sandboxes")["sandboxes"].get<std::vector<Json>>()) {
      // Not while they are made: a runtime whose sandboxes cannot be made tells so.
      if (sandbox["state"] != "starting" && sandbox["pid"] > 1) {
        inits.push_back(sandbox["pid"]);
      }
    }
    if (inits.empty()) {
      continue;
    }
    const pid_t init = inits[random() % inits.size()];
    const pid_t handler = random() % 2 == 0 ? handler_of(init) : -1;
    signal_process(handler > 1 ? handler : init, SIGKILL);
  }
}

void load(const AgentFixture& agent, std::chrono::milliseconds duration, std::mt19937& random,
          Tally& tally) {
  constexpr int kClientsEach = 3;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  const auto all = functions();
  for (const Function& function : all) {
    for (int client = 0; client < kClientsEach; ++client) {
      threads.emplace_back([&, client] { keep_asking(agent, function, client, stop, tally); });
    }
  }
  std::thread killer([&] { keep_killing(agent, random, stop); });
  std::this_thread::sleep_for(duration);
  stop = true;
  for (std::thread& thread : threads) {
    thread.join();
  }
  killer.join();
}

std::size_t lines_of(const std::string& path) {
  const std::string text = base::read_file(path, 16 << 20).value_or("");
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

struct Held {
  std::size_t descriptors = 0;
  std::size_t cgroups = 0;
  std::size_t mounts = 0;
  std::size_t processes = 0;
  std::size_t zombies = 0;
  std::size_t resident_kib = 0;
};

std::ostream& operator<<(std::ostream& out, const Held& held) {
  return out << held.descriptors << " descriptors, " << held.cgroups << " cgroups, " << held.mounts
             << " mounts, " << held.processes << " processes, " << held.zombies << " zombies, "
             << held.resident_kib << " KiB resident";
}

std::size_t resident_kib(pid_t pid) {
  std::istringstream status(
      base::read_file("/proc/" + std::to_string(pid) + "/status").value_or(""));
  for (std::string word; status >> word;) {
    if (word == "VmRSS:") {
      std::size_t kib = 0;
      status >> kib;
      return kib;
    }
  }
  return 0;
}

Held held_by(const AgentFixture& agent) {
  const std::string proc = "/proc/" + std::to_string(agent.pid());
  Held held;
  held.descriptors = static_cast<std::size_t>(
      std::distance(fs::directory_iterator(proc + "/fd"), fs::directory_iterator()));
  for (const auto& entry : fs::recursive_directory_iterator(agent.cgroup())) {
    held.cgroups += entry.is_directory() ? 1 : 0;
  }
  held.mounts = lines_of(proc + "/mountinfo");
  held.processes = descendants_of(agent.pid()).size();
  held.zombies = zombies_below(agent.pid()).size();
  held.resident_kib = resident_kib(agent.pid());
  return held;
}

// When nothing runs, nothing idles and the pool is full.
Held held_at_rest(const AgentFixture& agent, std::uint32_t pool) {
  const bool rests = soon([&] {
    const auto sandboxes = agent.sandboxes();
    return sandboxes.size() == pool && agent.runtime()["pool_ready"] == pool;
  });
  CHECK(rests);
  Held held;
  // What is unmade behind the last sandbox (its cgroup, its mount) follows within moments.
  (void)soon(
      [&] {
        const Held before = held_by(agent);
        std::this_thread::sleep_for(300ms);
        held = held_by(agent);
        return held.descriptors == before.descriptors && held.cgroups == before.cgroups &&
               held.mounts == before.mounts && held.processes == before.processes;
      },
      5s);
  return held;
}

void check_accounts(const AgentFixture& agent, Tally& tally) {
  for (const Function& function : functions()) {
    const Json status = agent.describe(function.name);
    CAPTURE(function.name, status.dump());
    CHECK(status["running"] == 0);
    CHECK(status["queued"] == 0);
    std::uint64_t told = 0;
    for (const auto& [ending, count] : status["endings"].items()) {
      told += count.get<std::uint64_t>();
    }
    CHECK(told == status["invocations"]);
    CHECK(Json(tally.of(function.name)) == status["endings"]);
  }
}

// AddressSanitizer does, for a while and up to 256 MiB.
bool keeps_what_it_frees(pid_t agent) {
  const std::string maps = "/proc/" + std::to_string(agent) + "/maps";
  return base::read_file(maps).value().find("libasan") != std::string::npos;
}

TEST_CASE("under full load with sandboxes killed at random, each request gets its one answer") {
  constexpr std::uint32_t kPool = 4;
  AgentFixture agent({.flags = {"--response-limit=256KiB"}, .pool_min = kPool, .pool_max = kPool});
  for (const Function& function : functions()) {
    agent.deploy(function.name, function.source, function.settings);
  }
  const auto seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  Tally tally;
  load(agent, 2s, random, tally);  // so that what is made once has been made
  const Held before = held_at_rest(agent, kPool);
  load(agent, 15s, random, tally);
  const Held after = held_at_rest(agent, kPool);
  CAPTURE(before, after);
  std::cout << "before: " << before << "\nafter:  " << after << "\n";
  CHECK(tally.wrongs() == std::vector<std::string>{});
  check_accounts(agent, tally);
  for (const Function& function : functions()) {
    for (const std::string& ending : function.endings) {
      CAPTURE(function.name, ending);
      CHECK(tally.of(function.name)[ending] > 0);
    }
    std::cout << function.name << ": " << Json(tally.of(function.name)).dump() << "\n";
  }
  CHECK(after.descriptors == before.descriptors);
  CHECK(after.cgroups == before.cgroups);
  CHECK(after.mounts == before.mounts);
  CHECK(after.processes == before.processes);
  CHECK(after.zombies == 0);
  if (!keeps_what_it_frees(agent.pid())) {
    CHECK(after.resident_kib < before.resident_kib + 16 * 1024);
  }
  CHECK(agent.runtime()["zygote_restarts"] == 0);
}

TEST_CASE("a full host still serves: an idle instance makes room for another function") {
  AgentFixture agent({.flags = {"--max-sandboxes=3"}, .pool_min = 1, .pool_max = 1});
  agent.deploy("first", kSlow, {{"timeout", "30s"}, {"idle", "1h"}, {"concurrency", 3}});
  agent.deploy("second", kEcho);
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] { (void)agent.invoke("first", {{"token", "a"}}); });
  }
  for (std::thread& caller : callers) {
    caller.join();
  }
  REQUIRE(agent.sandboxes_of("first").size() == 3);
  const auto before = std::chrono::steady_clock::now();
  const Invoked answer = agent.invoke("second", {{"token", "b"}});
  CHECK(answer.ok());
  CHECK(std::chrono::steady_clock::now() - before < 5s * slowness());
}

}  // namespace
