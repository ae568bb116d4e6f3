// One sandbox attacks, another function's latency is measured: in windows that take turns with
// quiet ones, so that whatever else the machine does meets both.
#include <catch2/catch.hpp>
#include <cstdio>
#include <iostream>

#include "bench/clock.h"
#include "bench/http.h"
#include "bench/samples.h"
#include "tests/soak/attack.h"
#include "tests/soak/options.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/skip.h"

namespace {

using namespace tests;

constexpr double kPromise = 2;
constexpr int kLeastPairs = 3;
// A window's p99 is that of its few worst samples: one that met a hiccup of the host says little,
// and the median of more windows says more. So a ratio over the promise is looked at for longer.
constexpr int kMostPairs = 9;
constexpr std::int64_t kWindowNs = 1'000'000'000;  // at least, with …
constexpr std::size_t kWindowSamples = 200;        // … as many, unless they take …
constexpr std::int64_t kLongestNs = 8'000'000'000;
constexpr std::int64_t kPauseUs = 2000;  // between invocations: a client that has its own work

struct Latency {
  bench::Samples p50;  // one of each window
  bench::Samples p99;
  std::size_t samples = 0;
};

struct Row {
  Latency quiet;
  Latency noisy;
  double ratio() { return noisy.p99.p50_us() / quiet.p99.p50_us(); }
};

class Neighbour {
 public:
  explicit Neighbour(AgentFixture& agent)
      : connection_(bench::Connection::open(agent.socket()).value()) {
    agent.deploy("neighbour", function_source("limits.py"), {{"timeout", "60s"}});
    (void)invoke();  // cold
  }

  void measure(Latency& into) {
    bench::Samples samples;
    const std::int64_t begin = bench::monotonic_ns();
    for (std::int64_t now = begin;
         now - begin < kLongestNs && (now - begin < kWindowNs || samples.count() < kWindowSamples);
         now = bench::monotonic_ns()) {
      samples.add(invoke());
      bench::sleep_us(kPauseUs);
    }
    into.samples += samples.count();
    into.p50.add(static_cast<std::int64_t>(samples.p50_us() * 1000));
    into.p99.add(static_cast<std::int64_t>(samples.quantile_us(0.99) * 1000));
  }

 private:
  std::int64_t invoke() {
    static const std::string request =
        bench::request_of("POST", "/functions/neighbour/invocations", R"({"do":"sum"})",
                          "Content-Type: application/json\r\n");
    const auto answer = connection_.ask(request);
    REQUIRE(answer);
    REQUIRE(answer->body == "499500");
    return answer->took_ns;
  }

  bench::Connection connection_;
};

void measure_pair(const AgentFixture& agent, Neighbour& neighbour, const soak::Attack& attack,
                  Row& row) {
  neighbour.measure(row.quiet);
  soak::Attacker attacker(attack, agent.socket());
  std::this_thread::sleep_for(300ms);
  neighbour.measure(row.noisy);
  attacker.stop();
  CHECK(attacker.problem() == "");
  CHECK(attacker.done() > 0);
  // What its end leaves to be put away is no part of the quiet that follows.
  CHECK(agent.pool_has(2));
  std::this_thread::sleep_for(300ms);
}

void print_head() {
  std::printf("%-26s %10s %10s %10s %10s %7s %8s\n", "attack (times in us)", "quiet p50",
              "noisy p50", "quiet p99", "noisy p99", "ratio", "samples");
}

void print(const soak::Attack& attack, Row& row) {
  std::printf("%-26s %10.0f %10.0f %10.0f %10.0f %7.2f %8zu\n", attack.name, row.quiet.p50.p50_us(),
              row.noisy.p50.p50_us(), row.quiet.p99.p50_us(), row.noisy.p99.p50_us(), row.ratio(),
              row.quiet.samples + row.noisy.samples);
  std::fflush(stdout);
}

Row judge(const AgentFixture& agent, Neighbour& neighbour, const soak::Attack& attack) {
  Row row;
  for (int pair = 0; pair < kMostPairs; ++pair) {
    if (pair >= kLeastPairs && row.ratio() <= kPromise) {
      break;
    }
    measure_pair(agent, neighbour, attack, row);
  }
  return row;
}

// An attacker has half a processor: with all of them, whoever shares the machine waits.
void deploy_attackers(AgentFixture& agent) {
  const Json limits = {{"memory", "64MiB"}, {"cpu", 0.5}, {"pids", 64}, {"timeout", "60s"}};
  agent.deploy(soak::kNoise, function_source("noise.py"), limits);
  Json cold = limits;
  cold["reuse"] = false;
  agent.deploy(soak::kColdNoise, function_source("noise.py"), cold);
}

TEST_CASE("an attack on any resource leaves another function's p99 within twice the quiet one") {
  const bool only_print = soak::asked("BROOD_NEIGHBOUR_PRINT", 0) != 0;
  if (!only_print) {
    need_limits();
  }
  const char* wanted = std::getenv("BROOD_NEIGHBOUR_ATTACK");
  AgentFixture agent({.pool_min = 2, .pool_max = 4});
  deploy_attackers(agent);
  Neighbour neighbour(agent);
  print_head();
  for (const soak::Attack& attack : soak::kAttacks) {
    if ((attack.needs == soak::Needs::limits && !agent.enforces_limits()) ||
        (wanted != nullptr && std::string_view(attack.name).find(wanted) == std::string::npos)) {
      continue;
    }
    INFO(attack.name);
    Row row = judge(agent, neighbour, attack);
    print(attack, row);
    if (!only_print && attack.promise == soak::Promise::held) {
      CHECK(row.ratio() <= kPromise);
    }
  }
}

}  // namespace
