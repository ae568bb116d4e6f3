// Files, standard streams and terminals of the command line.
#pragma once

#include <string>
#include <string_view>

#include "cmd/cli/outcome.h"

namespace cli {

enum class Standard { input = 0, output = 1, error = 2 };
bool is_terminal(Standard stream);

// The whole of a file, or of standard input when `path` is "-".
Outcome<std::string> read_whole(const std::string& path);
// Everything, to standard output. A reader that has gone ends the process by SIGPIPE, silently.
Outcome<int> write_output(std::string_view bytes);
Outcome<int> write_error(std::string_view bytes);
Outcome<int> write_file(const std::string& path, std::string_view bytes);
// A line on stderr, behind "brood: ".
void tell(std::string_view line);

}  // namespace cli
