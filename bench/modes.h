// What brood-bench measures beside single invocations: many clients, new sandboxes without a pause,
// whole processes, and deployments. Each answers with its figures as one JSON object
// (docs/benchmarks.md has the fields); latencies are in microseconds. Whatever a mode deploys it
// removes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "bench/agent_client.h"

namespace bench {

using Figures = nlohmann::ordered_json;

struct ModeOptions {
  std::string socket;
  std::string images_dir;
  std::string runtime = "python3";
  std::string brood;  // the command line program
  std::size_t clients = 0;
  std::size_t count = 0;
  std::uint32_t seconds = 5;
  std::size_t payload_bytes = 128;
  bool keep = false;  // deploy: leave the functions deployed
};

// Warm invocations by `clients` at once for `seconds`: how many a second, and how long each took.
base::Result<Figures> measure_rate(const ModeOptions& options);
// `count` times `clients` cold invocations at the same moment, on a full pool each time.
base::Result<Figures> measure_burst(const ModeOptions& options);
// Cold invocations by `clients` without a pause for `seconds`; beside it forks of the image's
// interpreter that make themselves all namespaces, import, call and end.
base::Result<Figures> measure_churn(const ModeOptions& options);
// `brood invoke`, cold, and `brood version` as processes, in turns, `count` of each, and the same
// cold invocation over a held connection.
base::Result<Figures> measure_process(const ModeOptions& options);
// `count` functions deployed one after the other, each with code of its own, and removed.
base::Result<Figures> measure_deploy(const ModeOptions& options);
// The first `seconds` of an agent that nobody asks anything: how often its threads were woken.
base::Result<Figures> measure_idle(const ModeOptions& options);

}  // namespace bench
