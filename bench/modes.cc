#include "bench/modes.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <utility>

#include "base/file.h"
#include "bench/baselines.h"
#include "bench/clock.h"
#include "bench/crowd.h"
#include "bench/image.h"
#include "bench/isolation.h"
#include "bench/process_runs.h"
#include "bench/programs.h"
#include "bench/samples.h"

namespace bench {
namespace {

constexpr char kFunction[] = "brood-bench-load";
constexpr std::chrono::seconds kPoolPatience{120};
constexpr std::int64_t kSettleUs = 3000;
constexpr std::uint32_t kMostInstances = 1000;  // docs/specification.md

double rounded(double value) {
  return std::round(value * 10) / 10;
}

Figures latencies(Samples& samples) {
  return {{"count", samples.count()},
          {"p50_us", rounded(samples.p50_us())},
          {"p90_us", rounded(samples.quantile_us(0.9))},
          {"p99_us", rounded(samples.quantile_us(0.99))},
          {"max_us", rounded(samples.max_us())}};
}

double per_second(std::size_t count, std::int64_t span_ns) {
  return rounded(static_cast<double>(count) * 1e9 / static_cast<double>(span_ns));
}

base::Result<DeployedFunction> deploy(const ModeOptions& options, Reuse reuse,
                                      std::size_t instances) {
  return DeployedFunction::deploy(options.socket,
                                  {.name = kFunction,
                                   .runtime = options.runtime,
                                   .source = std::string(kHandlerSource),
                                   .reuse = reuse,
                                   .concurrency = static_cast<std::uint32_t>(
                                       std::clamp<std::size_t>(instances, 1, kMostInstances))});
}

// A full pool is not yet a calm one: what the last invocations left is still being cleared away.
base::Status settle(const ModeOptions& options) {
  BROOD_TRY(Connection agent, Connection::open(options.socket));
  BROOD_CHECK(wait_for_pool(agent, options.runtime, kPoolPatience));
  sleep_us(kSettleUs);
  return {};
}

// Voluntary and involuntary context switches of every thread of a process.
base::Result<std::uint64_t> switches_of(int pid) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  std::error_code code;
  std::uint64_t sum = 0;
  for (const auto& task : std::filesystem::directory_iterator(tasks, code)) {
    BROOD_TRY(const std::string status, base::read_file(task.path().string() + "/status"));
    const auto at = status.find("\nvoluntary_ctxt_switches:\t");
    sum += at == std::string::npos ? 0 : std::stoull(status.substr(status.find('\t', at)));
  }
  if (code) {
    return base::fail(base::Error("list", code.value(), tasks));
  }
  return sum;
}

}  // namespace

base::Result<Figures> measure_rate(const ModeOptions& options) {
  BROOD_TRY(const DeployedFunction deployed, deploy(options, Reuse::yes, options.clients));
  BROOD_TRY(Crowd crowd,
            Crowd::connect(options.socket, kFunction, options.clients, options.payload_bytes));
  BROOD_TRY(const CrowdRun warm_up, crowd.keep_asking(1));
  BROOD_TRY(CrowdRun run, crowd.keep_asking(options.seconds));
  BROOD_TRY(UnixEcho echo, UnixEcho::start(UnixEcho::Hops::two));
  Samples two_hops;
  for (int i = 0; i < 2000; ++i) {
    BROOD_TRY(const std::int64_t took, echo.round_trip());
    two_hops.add(took);
  }
  Figures figures = {{"mode", "rate"},
                     {"clients", options.clients},
                     {"per_second", per_second(run.invocations.count(), run.span_ns)}};
  figures.update(latencies(run.invocations));
  figures["cold"] = run.cold;
  figures["payload_bytes"] = options.payload_bytes;
  figures["two_hops_p50_us"] = rounded(two_hops.p50_us());
  return figures;
}

base::Result<Figures> measure_burst(const ModeOptions& options) {
  BROOD_TRY(const DeployedFunction deployed, deploy(options, Reuse::no, options.clients));
  BROOD_TRY(Crowd crowd,
            Crowd::connect(options.socket, kFunction, options.clients, options.payload_bytes));
  BROOD_TRY(const CrowdRun warm_up, crowd.burst());
  Samples all;
  Samples slowest;
  for (std::size_t round = 0; round < options.count; ++round) {
    BROOD_CHECK(settle(options));
    BROOD_TRY(CrowdRun run, crowd.burst());
    if (run.cold != options.clients) {
      return base::fail_because(std::to_string(options.clients - run.cold) +
                                " invocations of a burst found an instance that was there");
    }
    slowest.add(static_cast<std::int64_t>(run.invocations.max_us() * 1000));
    all.append(run.invocations);
  }
  BROOD_TRY(Connection agent, Connection::open(options.socket));
  BROOD_TRY(const RuntimeState runtime, runtime_state(agent, options.runtime));
  Figures figures = {{"mode", "burst"},
                     {"clients", options.clients},
                     {"pool_min", runtime.pool_min},
                     {"rounds", options.count},
                     {"slowest_p50_us", rounded(slowest.p50_us())},
                     {"slowest_max_us", rounded(slowest.max_us())}};
  figures.update(latencies(all));
  return figures;
}

base::Result<Figures> measure_churn(const ModeOptions& options) {
  BROOD_TRY(const std::vector<std::string> in_force,
            isolation_in_force(options.socket, options.runtime, Reuse::no));
  BROOD_TRY(const DeployedFunction deployed, deploy(options, Reuse::no, options.clients));
  BROOD_TRY(Crowd crowd,
            Crowd::connect(options.socket, kFunction, options.clients, options.payload_bytes));
  BROOD_TRY(ForkImport fork_import, start_fork_import(options.images_dir, options.runtime));
  BROOD_TRY(const CrowdRun warm_up, crowd.keep_asking(1));
  // In turns, so that the machine's moods meet both.
  constexpr std::uint32_t kTurns = 4;
  const std::uint32_t turn = std::max(1U, options.seconds / kTurns);
  Samples all;
  double sandboxes = 0;
  double forks = 0;
  for (std::uint32_t i = 0; i < kTurns; ++i) {
    BROOD_TRY(CrowdRun run, crowd.keep_asking(turn));
    sandboxes += per_second(run.invocations.count(), run.span_ns) / kTurns;
    all.append(run.invocations);
    BROOD_CHECK(settle(options));
    BROOD_TRY(const double rate, fork_import.churn(turn, static_cast<unsigned>(options.clients)));
    forks += rate / kTurns;
  }
  Figures figures = {{"mode", "churn"},
                     {"clients", options.clients},
                     {"per_second", rounded(sandboxes)},
                     {"fork_with_namespaces_per_second", rounded(forks)},
                     {"ratio", std::round(sandboxes / forks * 100) / 100},
                     {"in_force", in_force}};
  figures.update(latencies(all));
  return figures;
}

base::Result<Figures> measure_process(const ModeOptions& options) {
  BROOD_TRY(const DeployedFunction deployed, deploy(options, Reuse::no, 8));
  BROOD_TRY(Connection held, Connection::open(options.socket));
  const Events events(options.payload_bytes);
  const std::string event = events.event(Events::kFirst);
  const std::string request =
      request_of("POST", std::string("/functions/") + kFunction + "/invocations", event,
                 "Content-Type: application/json\r\n");
  Samples version;
  Samples invoke;
  Samples over_connection;
  for (std::size_t i = 0; i < options.count; ++i) {
    BROOD_TRY(const std::int64_t bare,
              run_process({options.brood, "--socket", options.socket, "version"}, ""));
    version.add(bare);
    BROOD_CHECK(settle(options));
    BROOD_TRY(const Answer answer, held.ask(request));
    over_connection.add(answer.took_ns);
    BROOD_CHECK(settle(options));
    BROOD_TRY(const std::int64_t whole, run_process({options.brood, "--socket", options.socket,
                                                     "invoke", kFunction, "--data", event},
                                                    ""));
    invoke.add(whole);
  }
  Figures figures = {{"mode", "process"},
                     {"version_p50_us", rounded(version.p50_us())},
                     {"cold_p50_us", rounded(over_connection.p50_us())}};
  figures.update(latencies(invoke));
  const double beyond = invoke.p50_us() - over_connection.p50_us();
  figures["beyond_cold_to_version"] = std::round(beyond / version.p50_us() * 100) / 100;
  return figures;
}

base::Result<Figures> measure_deploy(const ModeOptions& options) {
  std::vector<DeployedFunction> deployed;
  deployed.reserve(options.count);
  Samples times;
  for (std::size_t i = 0; i < options.count; ++i) {
    const std::int64_t began = monotonic_ns();
    BROOD_TRY(DeployedFunction one,
              DeployedFunction::deploy(
                  options.socket,
                  {.name = "brood-bench-many-" + std::to_string(i),
                   .runtime = options.runtime,
                   .source = std::string(kHandlerSource) + "# " + std::to_string(i) + "\n"}));
    times.add(monotonic_ns() - began);
    deployed.push_back(std::move(one));
    if (interrupted()) {
      return base::fail_because("interrupted");
    }
  }
  if (options.keep) {
    std::for_each(deployed.begin(), deployed.end(), [](DeployedFunction& one) { one.keep(); });
  }
  Figures figures = {{"mode", "deploy"}};
  figures.update(latencies(times));
  return figures;
}

base::Result<Figures> measure_idle(const ModeOptions& options) {
  AgentState state;
  {
    BROOD_TRY(Connection agent, Connection::open(options.socket));
    BROOD_TRY(state, agent_state(agent));
  }  // a client that holds a connection is looked after
  sleep_us(kSettleUs * 1000);
  BROOD_TRY(const std::uint64_t before, switches_of(state.pid));
  sleep_us(options.seconds * 1'000'000LL);
  BROOD_TRY(const std::uint64_t after, switches_of(state.pid));
  return Figures{{"mode", "idle"}, {"seconds", options.seconds}, {"wake_ups", after - before}};
}

}  // namespace bench
