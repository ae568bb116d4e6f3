// A measurement as one JSON object or as text for people. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "bench/machine.h"
#include "bench/measure.h"

namespace bench {

// Sorts the samples, and leaves them otherwise as they are.
std::string as_json(const Options& options, Measured& measured, const Machine& machine);
std::string as_text(const Options& options, Measured& measured, const Machine& machine);
// A line for each of the figures of bench/modes.h.
std::string as_lines(const nlohmann::ordered_json& figures);

}  // namespace bench
