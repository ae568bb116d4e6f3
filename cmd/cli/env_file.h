// Files of KEY=VALUE lines, as --env-file takes them. Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "cmd/cli/outcome.h"

namespace cli {

// KEY=VALUE lines; empty lines and those that begin with # say nothing. Refuses any other, naming
// the line. Quotes are part of the value.
Outcome<std::map<std::string, std::string>> parse_env_file(std::string_view text,
                                                           const std::string& file_name);

}  // namespace cli
