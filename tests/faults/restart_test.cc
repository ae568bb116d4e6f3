// What an agent that starts again finds, and how soon it serves.
#include <signal.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <random>
#include <thread>

#include "base/file.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/host.h"

namespace {

using namespace tests;
using Clock = std::chrono::steady_clock;

constexpr std::string_view kEcho = "def main(event, context):\n    return event\n";
constexpr int kFunctions = 500;

bool is_emulated() {
  const char* machine = std::getenv("BROOD_TEST_MACHINE");
  return machine != nullptr && std::string_view(machine) == "emulated";
}

std::string upload(AgentFixture& agent, const std::string& text) {
  const Response uploaded = agent.upload(text, "handler.py");
  INFO(uploaded.body);
  REQUIRE(uploaded.status == 201);
  return Json::parse(uploaded.body)["digest"];
}

Json settings_of(const std::string& digest) {
  return {{"code", digest}, {"runtime", "python3"}, {"handler", "handler.main"}};
}

// Seconds from the agent's start until its socket answers, and until `name` has answered.
struct Restart {
  double serving = 0;
  double answer = 0;
};

Restart restart(AgentFixture& agent, const std::string& name) {
  agent.stop();
  const auto begin = Clock::now();
  const auto since = [begin] {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  Restart took;
  agent.start();
  took.serving = since();
  const Invoked answer = agent.invoke(name, 1);
  took.answer = since();
  INFO(answer.body);
  CHECK(answer.ok());
  return took;
}

Restart best_restart(AgentFixture& agent, const std::string& name) {
  Restart best = restart(agent, name);
  for (int round = 1; round < 5; ++round) {
    const Restart took = restart(agent, name);
    best.serving = std::min(best.serving, took.serving);
    best.answer = std::min(best.answer, took.answer);
  }
  return best;
}

TEST_CASE("an agent with 500 functions serves within a second of its start") {
  AgentFixture agent;
  agent.deploy("f0", kEcho);
  const Restart one = best_restart(agent, "f0");
  for (int i = 1; i < kFunctions; ++i) {
    // Code of its own for each, as different functions have.
    agent.deploy("f" + std::to_string(i), "# " + std::to_string(i) + "\n" + std::string(kEcho));
  }
  const Restart all = best_restart(agent, "f250");
  std::cout << "from its start to serving " << all.serving << " s, to an answer " << all.answer
            << " s, with " << kFunctions << " functions; with one " << one.serving << " s and "
            << one.answer << " s\n";
  CHECK(agent.status()["functions"] == kFunctions);
  if (!is_emulated()) {
    CHECK(all.serving < 1.0);
  }
}

// Deploys versions of `name` one after another until the agent is gone; the last one acknowledged.
std::uint64_t deploy_until_killed(const AgentFixture& agent, const std::string& name,
                                  const std::vector<std::string>& digests) {
  std::uint64_t acknowledged = 0;
  HttpClient client = agent.client();
  for (std::size_t i = 0;; ++i) {
    Response answer;
    try {
      answer =
          client.ask("PUT", "/functions/" + name, settings_of(digests[i % digests.size()]).dump(),
                     "Content-Type: application/json\r\n");
    } catch (const std::exception&) {
      return acknowledged;  // the agent is gone
    }
    if (answer.status == 200 || answer.status == 201) {
      acknowledged = Json::parse(answer.body).at("function").at("version");
    }
  }
}

TEST_CASE("an agent killed amid deploys keeps each that it has acknowledged") {
  AgentFixture agent;
  std::vector<std::string> digests;
  for (int i = 0; i < 4; ++i) {
    const std::string text = "def main(event, context):\n    return " + std::to_string(i) + "\n";
    digests.push_back(upload(agent, text));
    agent.deploy("f0", text);  // compiled once, so that deploying it again is quick
  }
  std::uint64_t told = 0;
  const auto seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  constexpr int kRounds = 8;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::future<std::uint64_t>> deployers;
    for (int i = 0; i < 3; ++i) {
      deployers.push_back(std::async(std::launch::async, deploy_until_killed, std::cref(agent),
                                     "f" + std::to_string(i), std::cref(digests)));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100 + random() % 400));
    agent.kill();
    std::vector<std::uint64_t> acknowledged;
    for (auto& deployer : deployers) {
      acknowledged.push_back(deployer.get());
      told += acknowledged.back() > 0 ? 1 : 0;
    }
    agent.start();
    for (int i = 0; i < 3; ++i) {
      const std::string name = "f" + std::to_string(i);
      const Response found = agent.client().ask("GET", "/functions/" + name);
      CAPTURE(round, name, acknowledged[static_cast<std::size_t>(i)], found.body);
      if (acknowledged[static_cast<std::size_t>(i)] == 0 && found.status == 404) {
        continue;
      }
      REQUIRE(found.status == 200);
      const Json function = Json::parse(found.body);
      const std::uint64_t version = function["version"];
      // One more may have been stored, and not been told of.
      if (const auto last = acknowledged[static_cast<std::size_t>(i)]; last > 0) {
        CHECK((version == last || version == last + 1));
      }
      const auto which = std::find(digests.begin(), digests.end(), function["code"]);
      REQUIRE(which != digests.end());
      const Invoked answer = agent.invoke(name);
      CHECK(answer.body == std::to_string(which - digests.begin()));
    }
  }
  CHECK(told > kRounds);
}

TEST_CASE("a damaged registry keeps the agent from starting, and is not touched") {
  AgentFixture agent;
  agent.deploy("echo", kEcho);
  agent.stop();
  const std::string path = agent.state_dir() + "/registry.db";
  const std::string sound = base::read_file(path, 64 << 20).value();
  std::string damaged = sound;
  std::fill(damaged.begin(), damaged.begin() + 4096, 'x');
  std::ofstream(path, std::ios::binary) << damaged;
  const auto [status, said] = agent.start_in_vain();
  INFO(said);
  CHECK(status == 1);
  CHECK(said.find(path) != std::string::npos);
  CHECK(said.find("restore it from a backup, or move it") != std::string::npos);
  CHECK(base::read_file(path, 64 << 20).value() == damaged);
  CHECK(agent.leftovers() == std::vector<std::string>{});
  std::ofstream(path, std::ios::binary) << sound;
  agent.start();
  CHECK(agent.invoke("echo", 1).ok());
}

}  // namespace
