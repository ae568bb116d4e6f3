// Many invocations, ending in every way: each gets the answer that it must get, and the agent holds
// after the last what it held after the first tenth. scripts/soak sends a million.
#include <sys/resource.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <iostream>
#include <thread>

#include "tests/soak/census.h"
#include "tests/soak/crew.h"
#include "tests/soak/mixture.h"
#include "tests/soak/options.h"
#include "tests/support/agent_fixture.h"

namespace {

using namespace tests;

constexpr std::uint32_t kPool = 4;
constexpr int kTenths = 10;

AgentOptions options() {
  return {.flags = {"--response-limit=64KiB"}, .pool_min = kPool, .pool_max = kPool};
}

// Instances that live on are made once and stay, so that a figure that grows is a leak.
void deploy_functions(AgentFixture& agent, std::size_t clients) {
  const std::string source = function_source("soak.py");
  const Json one_each = {{"reuse", false}, {"concurrency", clients}};
  const auto deploy = [&](const char* name, Json settings) {
    agent.deploy(name, source, std::move(settings));
  };
  deploy("soak-warm", {{"concurrency", clients}, {"idle", "24h"}});
  deploy("soak-full", {{"concurrency", 1}, {"queue", 0}, {"timeout", "15m"}});
  deploy("soak-cold", one_each);
  deploy("soak-late", Json{{"timeout", "50ms"}, {"reuse", false}, {"concurrency", clients}});
  deploy("soak-hungry", Json{{"memory", "32MiB"}, {"reuse", false}, {"concurrency", clients}});
}

// One warm instance for each client: from here on none of them finds none.
void make_instances(const AgentFixture& agent, std::size_t clients) {
  const bool made = soon([&] {
    std::vector<std::future<Invoked>> all;
    for (std::size_t i = 0; i < clients; ++i) {
      all.push_back(agent.invoke_later("soak-warm", {{"end", "nap"}, {"tag", "first"}}));
    }
    for (auto& one : all) {
      REQUIRE(one.get().ok());
    }
    return agent.sandboxes_of("soak-warm").size() == clients;
  });
  REQUIRE(made);
}

// Occupies the function that has room for one invocation only. When it goes, so does its caller,
// and the agent ends the sandbox.
class Occupied {
 public:
  explicit Occupied(const AgentFixture& agent) : client_(agent.socket()) {
    const std::string body = R"({"end":"sleep","tag":"occupied"})";
    client_.send(request_of("POST", "/functions/soak-full/invocations", body,
                            "Content-Type: application/json\r\n"));
    REQUIRE(soon([&] { return agent.describe("soak-full")["running"] == 1; }));
  }

 private:
  RawClient client_;
};

bool rests(const AgentFixture& agent, std::size_t clients) {
  const auto sandboxes = agent.sandboxes();
  const auto in = [&](const char* state) {
    return static_cast<std::size_t>(
        std::count_if(sandboxes.begin(), sandboxes.end(),
                      [&](const Json& sandbox) { return sandbox["state"] == state; }));
  };
  return in("pool") == kPool && in("idle") == clients && sandboxes.size() == kPool + clients;
}

// When the pool is full again, nothing runs, and what was being unmade is gone.
soak::Census census_at_rest(const AgentFixture& agent, const soak::Crew& crew) {
  const soak::Subject subject{.agent = agent.pid(),
                              .zygote = agent.runtime()["zygote_pid"].get<pid_t>(),
                              .cgroup = agent.cgroup(),
                              .state_dir = agent.state_dir()};
  CHECK(soon([&] { return rests(agent, crew.clients()); }));
  soak::Census census{.invocations = crew.answered()};
  CHECK(soon([&] {
    const soak::Counts before = soak::count(subject);
    std::this_thread::sleep_for(200ms);
    census.counts = soak::count(subject);
    return soak::same_objects(before, census.counts);
  }));
  return census;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void print_mixture(const soak::Crew& crew) {
  for (std::size_t i = 0; i < soak::kKinds; ++i) {
    const soak::Recipe& recipe = soak::kRecipes[i];
    std::cout << "  " << crew.answered(static_cast<soak::Kind>(i)) << " " << recipe.name << " -> "
              << recipe.ending << "\n";
  }
}

// What the agent itself has counted: every invocation that was sent, and nothing else.
void check_accounts(const AgentFixture& agent, const soak::Crew& crew) {
  for (const char* function : {"soak-warm", "soak-cold", "soak-late", "soak-hungry"}) {
    const Json status = agent.describe(function);
    std::uint64_t sent = 0;
    for (std::size_t i = 0; i < soak::kKinds; ++i) {
      sent += soak::kRecipes[i].function == std::string_view(function)
                  ? crew.answered(static_cast<soak::Kind>(i))
                  : 0;
    }
    CAPTURE(function, status.dump());
    CHECK(status["running"] == 0);
    CHECK(status["queued"] == 0);
    CHECK(status["invocations"].get<std::uint64_t>() >= sent);
  }
  CHECK(agent.runtime()["zygote_restarts"] == 0);
}

TEST_CASE("many invocations, ending in every way, leave the agent as it was") {
  const std::uint64_t count = soak::asked("BROOD_SOAK_COUNT", 20'000);
  const std::uint64_t clients = soak::asked("BROOD_SOAK_CLIENTS", 4);
  const std::uint64_t seed = soak::asked("BROOD_SOAK_SEED", 1);
  AgentFixture agent(options());
  deploy_functions(agent, clients);
  make_instances(agent, clients);
  soak::Crew crew(agent.socket(), clients);
  std::vector<soak::Census> censuses;
  double seconds = 0;
  for (int tenth = 0; tenth < kTenths; ++tenth) {
    const auto deck = soak::deal(count / kTenths, seed + static_cast<std::uint64_t>(tenth));
    {
      const Occupied occupied(agent);
      const auto begin = std::chrono::steady_clock::now();
      crew.send(deck);
      seconds += seconds_since(begin);
    }
    REQUIRE(crew.wrongs() == std::vector<std::string>{});
    REQUIRE(crew.answered() == deck.size() * static_cast<std::size_t>(tenth + 1));
    censuses.push_back(census_at_rest(agent, crew));
  }
  std::cout << crew.answered() << " invocations, " << clients << " clients, seed " << seed << ", "
            << seconds << " s, " << static_cast<double>(crew.answered()) / seconds << " a second\n";
  print_mixture(crew);
  std::cout << soak::table_of(censuses);
  CHECK(soak::grown(censuses.front().counts, censuses.back().counts) == std::vector<std::string>{});
  check_accounts(agent, crew);
}

}  // namespace
