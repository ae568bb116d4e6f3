// From the answer that a command runs to the exit status of whoever asked for it: `brood run`,
// `exec` and `attach`.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "cmd/cli/client.h"
#include "cmd/cli/outcome.h"
#include "cmd/cli/verbs.h"

namespace cli {

struct CarryRequest {
  bool terminal = false;
  bool read_input = true;
  std::uint64_t output_limit = 0;  // as PumpRequest's
  std::string detach_keys{};       // a terminal's
  bool attached = false;           // it has run before: its terminal is drawn again
};

struct Ended {
  nlohmann::ordered_json end;  // as docs/openapi.yaml has it
  bool over_limit = false;     // it was killed for what it printed
  std::string left{};          // it goes on, and this is its id; there is no end
};

// `lines`: the answer to what has asked for the command. Comes back when the command has ended, or
// was left by the detach keys.
Outcome<Ended> carry(CarryRequest request, const Session& session, Client::Lines& lines);

// Tells what the user should know, writes the statistics to `stats_file` ("-": standard error;
// empty: nowhere), and gives the command's exit status. `limit`: the output's, as it was said.
Outcome<int> finish(const std::string& stats_file, const std::string& limit, const Ended& ended);

}  // namespace cli
