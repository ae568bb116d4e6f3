// How long an invocation takes, as a client on the same host sees it. docs/benchmarks.md.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <functional>

#include "base/slice.h"
#include "bench/http.h"
#include "bench/machine.h"
#include "bench/measure.h"
#include "bench/modes.h"
#include "bench/report.h"

namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kUnreachable = 3;

struct Flags {
  bench::Options single;     // cold and warm
  bench::ModeOptions other;  // the rest
  bool json = false;
  bool samples = false;
};

using Answer = base::Result<std::string>;  // what to print

// --- cold and warm: one invocation at a time
// ------------------------------------------------------

struct SingleDefaults {
  bench::Mode mode;
  const char* help;
  std::size_t count;
  std::size_t warmup;
};
constexpr SingleDefaults kSingles[] = {
    {bench::Mode::cold, "each invocation binds a sandbox of the pool", 500, 10},
    {bench::Mode::warm, "each invocation finds the instance of the last", 5000, 500},
};

Answer run_single(Flags& flags, const SingleDefaults& defaults) {
  bench::Options& options = flags.single;
  options.mode = defaults.mode;
  options.count = options.count > 0 ? options.count : defaults.count;
  options.warmup = options.warmup > 0 ? options.warmup : defaults.warmup;
  options.samples = flags.samples ? bench::SamplesToo::yes : bench::SamplesToo::no;
  // The load that others make, before this adds its own.
  const bench::Machine machine = bench::this_machine();
  BROOD_TRY(bench::Measured measured, bench::measure(options));
  return flags.json ? bench::as_json(options, measured, machine)
                    : bench::as_text(options, measured, machine);
}

void add_single(CLI::App& verb, const SingleDefaults& defaults, Flags& flags) {
  bench::Options& options = flags.single;
  verb.add_flag("--samples", flags.samples, "with --json: every single time as well");
  verb.add_option("--count", options.count, "invocations that are measured")
      ->default_str(std::to_string(defaults.count))
      ->check(CLI::Range(1, 1'000'000));
  verb.add_option("--warmup", options.warmup, "invocations before them that are not")
      ->default_str(std::to_string(defaults.warmup))
      ->check(CLI::Range(1, 1'000'000));
  verb.add_option("--payload", options.payload_bytes, "bytes of each request's body")
      ->capture_default_str()
      ->check(CLI::Range(64, 6 << 20));
  if (defaults.mode == bench::Mode::cold) {
    verb.add_option("--pause-ms", options.pause_ms,
                    "milliseconds before each invocation, instead of waiting for a full pool")
        ->check(CLI::Range(0, 60'000));
  }
}

// --- the rest
// -------------------------------------------------------------------------------------

struct Other {
  const char* name;
  const char* help;
  base::Result<bench::Figures> (*measure)(const bench::ModeOptions& options);
  std::size_t clients;  // 0: it has no such flag, as below
  std::size_t count;
  std::uint32_t seconds;
};
constexpr Other kOthers[] = {
    {"rate", "warm invocations by many clients", bench::measure_rate, 16, 0, 5},
    {"burst", "cold invocations at the same moment", bench::measure_burst, 100, 10, 0},
    {"churn", "new sandboxes without a pause", bench::measure_churn, 4, 0, 8},
    {"process", "`brood invoke` as a whole process", bench::measure_process, 0, 100, 0},
    {"deploy", "deployments, each of code of its own", bench::measure_deploy, 0, 100, 0},
    {"idle", "wake-ups of an agent that has nothing to do", bench::measure_idle, 0, 0, 10},
};

Answer run_other(Flags& flags, const Other& other) {
  bench::ModeOptions& options = flags.other;
  options.socket = flags.single.socket;
  options.runtime = flags.single.runtime;
  options.images_dir = flags.single.images_dir;
  options.clients = options.clients > 0 ? options.clients : other.clients;
  options.count = options.count > 0 ? options.count : other.count;
  options.seconds = options.seconds > 0 ? options.seconds : other.seconds;
  BROOD_TRY(const bench::Figures figures, other.measure(options));
  return flags.json ? figures.dump() + "\n" : bench::as_lines(figures);
}

void add_other(CLI::App& verb, const Other& other, Flags& flags) {
  bench::ModeOptions& options = flags.other;
  if (other.clients > 0) {
    verb.add_option("--clients", options.clients, "connections that ask at once")
        ->default_str(std::to_string(other.clients))
        ->check(CLI::Range(1, 1000));
  }
  if (other.count > 0) {
    verb.add_option("--count", options.count, "how often")
        ->default_str(std::to_string(other.count))
        ->check(CLI::Range(1, 100'000));
  }
  if (other.seconds > 0) {
    verb.add_option("--seconds", options.seconds, "how long")
        ->default_str(std::to_string(other.seconds))
        ->check(CLI::Range(1, 3600));
  }
  if (other.measure == bench::measure_deploy) {
    verb.add_flag("--keep", options.keep, "leave the functions deployed");
  }
  if (other.measure == bench::measure_process) {
    verb.add_option("--brood", options.brood, "the command line program")->capture_default_str();
  }
}

// --- the command line
// -----------------------------------------------------------------------------

class Program {
 public:
  Program() {
    std::error_code code;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", code);
    flags_.other.brood = (self.parent_path() / "brood").string();
    flags_.other.seconds = 0;
    app_.set_version_flag("--version", "brood-bench " BROOD_VERSION);
    app_.footer("Needs a running agent. Exit: 0; 1 failed; 2 usage; 3 no agent answers.");
    app_.require_subcommand(1);
    for (const SingleDefaults& single : kSingles) {
      CLI::App& verb = add(bench::mode_name(single.mode), single.help);
      add_single(verb, single, flags_);
      verb.callback([&] { run_ = [&] { return run_single(flags_, single); }; });
    }
    for (const Other& other : kOthers) {
      CLI::App& verb = add(other.name, other.help);
      add_other(verb, other, flags_);
      verb.callback([&] { run_ = [&] { return run_other(flags_, other); }; });
    }
  }

  int main(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return app_.exit(error) == 0 ? 0 : kUsage;
    }
    bench::catch_interrupts();
    (void)brood_set_slice(BROOD_AGENT_SLICE_NS, 0, 0);  // as the command line program does
    if (const auto agent = bench::Connection::open(flags_.single.socket); !agent) {
      std::fprintf(stderr, "brood-bench: %s\n", agent.error().message().c_str());
      return kUnreachable;
    }
    const Answer answer = run_();
    if (!answer) {
      std::fprintf(stderr, "brood-bench: %s\n", answer.error().message().c_str());
      return kFailed;
    }
    const bool written = std::fputs(answer->c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
    return written ? 0 : kFailed;
  }

 private:
  CLI::App& add(const std::string& name, const char* help) {
    CLI::App* verb = app_.add_subcommand(name, help);
    verb->add_flag("--json", flags_.json, "one JSON object instead of text");
    verb->add_option("--runtime", flags_.single.runtime, "whose sandboxes run the handler")
        ->capture_default_str();
    verb->add_option("--images-dir", flags_.single.images_dir, "where the agent has its images")
        ->capture_default_str();
    verb->add_option("--socket", flags_.single.socket, "the agent's socket")
        ->envname("BROOD_SOCKET")
        ->capture_default_str();
    return *verb;
  }

  Flags flags_ = defaults();
  CLI::App app_{"brood-bench: how long an invocation takes, beside what it is held against."};
  std::function<Answer()> run_;

  static Flags defaults() {
    Flags flags;
    flags.single.socket = "/run/brood/brood.sock";
    flags.single.images_dir = "/var/lib/brood/images";
    return flags;
  }
};

}  // namespace

int main(int argc, char** argv) {
  return Program().main(argc, argv);
}
