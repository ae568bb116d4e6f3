#include "bench/measure.h"

#include <charconv>
#include "bench/baselines.h"
#include "bench/clock.h"
#include "bench/events.h"
#include "bench/http.h"
#include "bench/image.h"
#include "bench/isolation.h"
#include "bench/programs.h"

namespace bench {
namespace {

constexpr std::size_t kWarmBlock = 50;         // invocations between two looks at the baselines
constexpr std::size_t kForksInWarmBlock = 2;   // a fork costs as much as twenty warm invocations
constexpr std::size_t kEchosInColdBlock = 10;  // a round trip costs next to nothing
constexpr std::chrono::seconds kPoolPatience{30};
// A full pool is not yet a calm one: what the last invocation left is still being cleared away.
constexpr std::int64_t kSettleUs = 3000;
// From `queued` to `assigned` are two lines of the agent's code, if there is a sandbox.
constexpr double kWaitedUs = 1000;

// "queued=1.2,assigned=3.4": name and microseconds since the head was read.
std::vector<std::pair<std::string_view, double>> parse_trace(std::string_view trace) {
  std::vector<std::pair<std::string_view, double>> stages;
  while (!trace.empty()) {
    const std::string_view one = trace.substr(0, trace.find(','));
    trace.remove_prefix(std::min(one.size() + 1, trace.size()));
    const auto equals = one.find('=');
    double us = 0;
    if (equals != std::string_view::npos &&
        std::from_chars(one.data() + equals + 1, one.data() + one.size(), us).ec == std::errc()) {
      stages.emplace_back(one.substr(0, equals), us);
    }
  }
  return stages;
}

std::int64_t ns_of_us(double us) {
  return static_cast<std::int64_t>(us * 1000);
}

// --- the run -------------------------------------------------------------------------------------

class Run {
 public:
  Run(const Options& options, Connection agent)
      : options_(options), agent_(std::move(agent)), events_(options.payload_bytes) {}

  base::Result<Measured> go();

 private:
  base::Status start_baselines();
  base::Status warm_up();
  base::Status cold_rounds();
  base::Status warm_rounds();
  base::Status pace();
  base::Status invoke();
  base::Status invoke_and_record();
  base::Status check(const Answer& answer, std::string_view expected) const;
  base::Status check_start(std::string_view start) const;
  void record_stages(std::string_view trace, std::int64_t took_ns);
  Samples& stage(std::string_view name);
  base::Status echo(std::size_t times);
  base::Status fork_and_import(std::size_t times);

  std::string function() const { return "brood-bench-" + mode_name(options_.mode); }

  const Options& options_;
  Connection agent_;
  Events events_;
  Measured measured_;
  std::optional<UnixEcho> unix_echo_;
  std::optional<UnixEcho> two_hops_;
  std::optional<ForkImport> fork_import_;
  std::size_t next_number_ = Events::kFirst;
  std::optional<Answer> answer_;
};

base::Result<Measured> Run::go() {
  BROOD_TRY(measured_.agent, agent_state(agent_));
  const Reuse reuse = options_.mode == Mode::warm ? Reuse::yes : Reuse::no;
  BROOD_TRY(measured_.in_force, isolation_in_force(options_.socket, options_.runtime, reuse));
  BROOD_TRY(const DeployedFunction deployed,
            DeployedFunction::deploy(options_.socket, {.name = function(),
                                                       .runtime = options_.runtime,
                                                       .source = std::string(kHandlerSource),
                                                       .reuse = reuse}));
  // The agent starts a runtime when a function first needs it.
  BROOD_CHECK(warm_up());
  BROOD_TRY(measured_.runtime, runtime_state(agent_, options_.runtime));
  BROOD_CHECK(start_baselines());
  measured_.invocations.reserve(options_.count);
  BROOD_CHECK(options_.mode == Mode::cold ? cold_rounds() : warm_rounds());
  return std::move(measured_);
}

// The agent's figures are worth something without the second one, which not every user may start.
base::Status Run::start_baselines() {
  BROOD_TRY(unix_echo_, UnixEcho::start(UnixEcho::Hops::one));
  BROOD_TRY(two_hops_, UnixEcho::start(UnixEcho::Hops::two));
  auto fork_import =
      start_fork_import(options_.images_dir, options_.runtime, measured_.runtime.image_digest);
  if (fork_import) {
    fork_import_ = *std::move(fork_import);
  } else {
    measured_.fork_import_problem = fork_import.error().message();
  }
  return {};
}

base::Status Run::warm_up() {
  for (std::size_t i = 0; i < options_.warmup; ++i) {
    BROOD_CHECK(invoke());
  }
  return {};
}

base::Status Run::cold_rounds() {
  for (std::size_t i = 0; i < options_.count; ++i) {
    BROOD_CHECK(pace());
    BROOD_CHECK(fork_and_import(1));
    BROOD_CHECK(echo(kEchosInColdBlock));
    BROOD_CHECK(invoke_and_record());
  }
  return {};
}

base::Status Run::warm_rounds() {
  while (measured_.invocations.count() < options_.count) {
    BROOD_CHECK(fork_and_import(kForksInWarmBlock));
    BROOD_CHECK(invoke());  // what another process did in between is not this one's latency
    const std::size_t left = options_.count - measured_.invocations.count();
    for (std::size_t i = 0; i < std::min(kWarmBlock, left); ++i) {
      BROOD_CHECK(invoke_and_record());
    }
    BROOD_CHECK(echo(kWarmBlock));
  }
  return {};
}

// What is wanted is the latency of a request that finds a pool sandbox, not how fast a pool
// refills.
base::Status Run::pace() {
  if (options_.pause_ms) {
    sleep_us(*options_.pause_ms * 1000LL);
    return {};
  }
  BROOD_CHECK(wait_for_pool(agent_, options_.runtime, kPoolPatience));
  sleep_us(kSettleUs);
  return {};
}

base::Status Run::invoke() {
  if (interrupted()) {
    return base::fail_because("interrupted");
  }
  const std::size_t number = next_number_++;
  const std::string request =
      request_of("POST", "/functions/" + function() + "/invocations", events_.event(number),
                 "Content-Type: application/json\r\n");
  BROOD_TRY(answer_, agent_.ask(request));
  return check(*answer_, events_.answer(number));
}

base::Status Run::check(const Answer& answer, std::string_view expected) const {
  if (answer.status != 200 || answer.body != expected) {
    return base::fail_because("an invocation of " + function() + " was answered with status " +
                              std::to_string(answer.status) + " and '" + std::string(answer.body) +
                              "' instead of '" + std::string(expected) + "'");
  }
  return {};
}

base::Status Run::check_start(std::string_view start) const {
  if (start != mode_name(options_.mode)) {
    return base::fail_because("an invocation of " + function() + " had a " + std::string(start) +
                                  " start: these figures would not be " + mode_name(options_.mode) +
                                  " ones",
                              "is another client invoking the same function?");
  }
  return {};
}

base::Status Run::invoke_and_record() {
  BROOD_CHECK(invoke());
  BROOD_CHECK(check_start(answer_->header("Brood-Start")));
  measured_.invocations.add(answer_->took_ns);
  record_stages(answer_->header("Brood-Trace"), answer_->took_ns);
  return {};
}

void Run::record_stages(std::string_view trace, std::int64_t took_ns) {
  double before = 0;
  for (const auto& [name, us] : parse_trace(trace)) {
    if (name == "assigned" && us - before > kWaitedUs) {
      ++measured_.exhausted;
    }
    stage(name).add(ns_of_us(us - before));
    before = us;
  }
  stage("outside").add(took_ns - ns_of_us(before));
}

Samples& Run::stage(std::string_view name) {
  auto& stages = measured_.stages;
  const auto found = std::find_if(stages.begin(), stages.end(),
                                  [&](const auto& one) { return one.first == name; });
  return found != stages.end() ? found->second
                               : stages.emplace_back(std::string(name), Samples()).second;
}

base::Status Run::echo(std::size_t times) {
  for (std::size_t i = 0; i < times; ++i) {
    BROOD_TRY(const std::int64_t took, unix_echo_->round_trip());
    measured_.unix_echo.add(took);
    BROOD_TRY(const std::int64_t took_over_two, two_hops_->round_trip());
    measured_.two_hops.add(took_over_two);
  }
  return {};
}

base::Status Run::fork_and_import(std::size_t times) {
  for (std::size_t i = 0; fork_import_ && i < times; ++i) {
    BROOD_TRY(const std::int64_t took,
              fork_import_->call(events_.event(Events::kFirst), events_.answer(Events::kFirst)));
    measured_.fork_import.add(took);
  }
  return {};
}

}  // namespace

std::string mode_name(Mode mode) {
  return mode == Mode::cold ? "cold" : "warm";
}

base::Result<Measured> measure(const Options& options) {
  BROOD_TRY(Connection agent, Connection::open(options.socket));
  return Run(options, std::move(agent)).go();
}

}  // namespace bench
