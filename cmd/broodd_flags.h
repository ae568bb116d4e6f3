// broodd's command line: flags over the configuration file.
#pragma once

#include <variant>

#include "agent/config.h"

// The configuration to run with, or, when the process has nothing more to do (help, version, a
// printed configuration, or a mistake that has been told on stderr), its exit status.
std::variant<agent::AgentConfig, int> parse_broodd_flags(int argc, const char* const* argv);
