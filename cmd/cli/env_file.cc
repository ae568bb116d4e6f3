#include "cmd/cli/env_file.h"

#include <algorithm>

namespace cli {

Outcome<std::map<std::string, std::string>> parse_env_file(std::string_view text,
                                                           const std::string& file_name) {
  std::map<std::string, std::string> environment;
  for (int number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && line.back() == '\r') {
      line.remove_suffix(1);
    }
    if (line.empty() || line.front() == '#') {
      continue;
    }
    const auto equals = line.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return fail(Exit::usage, file_name + ", line " + std::to_string(number) + ": not KEY=VALUE");
    }
    environment[std::string(line.substr(0, equals))] = line.substr(equals + 1);
  }
  return environment;
}

}  // namespace cli
