// The measurement: invocations one at a time over one connection, and between them, so that the
// machine's moods meet all alike, the baselines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bench/agent_client.h"
#include "bench/samples.h"

namespace bench {

enum class Mode { cold, warm };
std::string mode_name(Mode mode);

enum class SamplesToo { no, yes };

struct Options {
  Mode mode = Mode::warm;
  std::string socket;
  std::string runtime = "python3";
  std::string images_dir;
  std::size_t count = 0;
  std::size_t warmup = 0;
  std::size_t payload_bytes = 128;
  SamplesToo samples = SamplesToo::no;  // in the JSON report
  // Cold: the pause before each invocation; without one, for as long as the pool needs to be full.
  std::optional<std::uint32_t> pause_ms;
};

struct Measured {
  AgentState agent;
  RuntimeState runtime;
  Samples invocations;
  // Cold, of these: how many had to wait for a sandbox to be made, the pool being empty.
  std::size_t exhausted = 0;
  Samples unix_echo;
  Samples two_hops;                   // the echo again, through a process that passes it on
  std::vector<std::string> in_force;  // of the isolation, as a sandbox of the same pool saw it
  Samples fork_import;
  std::string fork_import_problem;  // why there is none
  // Each stage's own time, in the order of agent::Stage; last, "outside": what the client waited
  // beyond what the agent saw.
  std::vector<std::pair<std::string, Samples>> stages;
};

base::Result<Measured> measure(const Options& options);

}  // namespace bench
