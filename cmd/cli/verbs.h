// The verbs of `brood`. Each `add_…` puts its verbs and their flags into the command line; parsing
// then chooses one, by setting `Session::run`.
#pragma once

#include <functional>
#include <string>

#include "cmd/cli/outcome.h"

namespace CLI {
class App;
}

namespace cli {

// What is common to all verbs, and the one that was chosen.
struct Session {
  std::string socket;
  // 0, or the exit status of a verb that has told the user itself what went wrong.
  std::function<Outcome<int>()> run;
};

void add_deploy(CLI::App& app, Session& session);
void add_invoke(CLI::App& app, Session& session);
void add_functions(CLI::App& app, Session& session);  // list, describe, remove, stats
void add_watching(CLI::App& app, Session& session);   // ps, logs, runtimes
void add_host(CLI::App& app, Session& session);       // version, check

}  // namespace cli
