// How long an invocation takes, as a client on the same host sees it. docs/benchmarks.md.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "bench/http.h"
#include "bench/machine.h"
#include "bench/measure.h"
#include "bench/report.h"

namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kUnreachable = 3;

constexpr std::size_t kColdCount = 500;
constexpr std::size_t kWarmCount = 5000;
constexpr std::size_t kColdWarmup = 10;
constexpr std::size_t kWarmWarmup = 500;

struct Flags {
  bench::Options measurement;
  bool json = false;
};

CLI::App* add_mode(CLI::App& app, bench::Mode mode, const char* help, Flags& flags) {
  auto* verb = app.add_subcommand(bench::mode_name(mode), help);
  const bool cold = mode == bench::Mode::cold;
  bench::Options& options = flags.measurement;
  verb->add_flag("--json", flags.json, "one JSON object instead of text");
  verb->add_option("--count", options.count, "invocations that are measured")
      ->default_str(std::to_string(cold ? kColdCount : kWarmCount))
      ->check(CLI::Range(1, 1'000'000));
  verb->add_option("--warmup", options.warmup, "invocations before them that are not")
      ->default_str(std::to_string(cold ? kColdWarmup : kWarmWarmup))
      ->check(CLI::Range(1, 1'000'000));
  verb->add_option("--payload", options.payload_bytes, "bytes of each request's body")
      ->capture_default_str()
      ->check(CLI::Range(64, 6 << 20));
  verb->add_option("--runtime", options.runtime, "whose sandboxes run the handler")
      ->capture_default_str();
  verb->add_option("--images-dir", options.images_dir, "where the agent has its images")
      ->capture_default_str();
  verb->add_option("--socket", options.socket, "the agent's socket")
      ->envname("BROOD_SOCKET")
      ->capture_default_str();
  if (cold) {
    verb->add_option("--pause-ms", options.pause_ms,
                     "milliseconds before each invocation, instead of waiting for a full pool")
        ->check(CLI::Range(0, 60'000));
  }
  return verb;
}

int report(const Flags& flags) {
  // The load that others make, before this adds its own.
  const bench::Machine machine = bench::this_machine();
  if (const auto agent = bench::Connection::open(flags.measurement.socket); !agent) {
    std::fprintf(stderr, "brood-bench: %s\n", agent.error().message().c_str());
    return kUnreachable;
  }
  auto measured = bench::measure(flags.measurement);
  if (!measured) {
    std::fprintf(stderr, "brood-bench: %s\n", measured.error().message().c_str());
    return kFailed;
  }
  const std::string text = flags.json ? bench::as_json(flags.measurement, *measured, machine)
                                      : bench::as_text(flags.measurement, *measured, machine);
  const bool written = std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
  return written ? 0 : kFailed;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  flags.measurement.socket = "/run/brood/brood.sock";
  flags.measurement.images_dir = "/var/lib/brood/images";
  CLI::App app("brood-bench: how long an invocation takes, beside what it is held against.");
  app.set_version_flag("--version", "brood-bench " BROOD_VERSION);
  app.footer("Needs a running agent. Exit: 0; 1 failed; 2 usage; 3 no agent answers.");
  app.require_subcommand(1);
  const CLI::App* cold =
      add_mode(app, bench::Mode::cold, "each invocation binds a sandbox of the pool", flags);
  add_mode(app, bench::Mode::warm, "each invocation finds the instance of the last", flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  const bool is_cold = cold->parsed();
  bench::Options& options = flags.measurement;
  options.mode = is_cold ? bench::Mode::cold : bench::Mode::warm;
  options.count = options.count > 0 ? options.count : is_cold ? kColdCount : kWarmCount;
  options.warmup = options.warmup > 0 ? options.warmup : is_cold ? kColdWarmup : kWarmWarmup;
  bench::catch_interrupts();
  return report(flags);
}
