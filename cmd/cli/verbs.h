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
  char** arguments = nullptr;  // main's own
  std::string socket;
  // 0, or the exit status of a verb that has told the user itself what went wrong.
  std::function<Outcome<int>()> run;
};

// What lists a verb where it is not at home.
struct VerbName {
  const char* name;
  const char* help;
};
constexpr VerbName kDeploy{"deploy",
                           "Make a function of a folder, a file or an archive; brood.toml in the "
                           "folder may say how, and flags win over it"};
constexpr VerbName kCheck{
    "check", "What this host offers, what is missing, what that costs and how it is mended"};
constexpr VerbName kRuntime{"runtime", "Language environments of one's own: add, list, remove"};
constexpr VerbName kLayer{"layer", "Trees that functions share, below /opt: publish, list, remove"};
constexpr VerbName kImage{"image", "Images: import, pull, list, inspect, export, remove, prune"};

void add_invoke(CLI::App& app, Session& session);
void add_run(CLI::App& app, Session& session);
void add_attach(CLI::App& app, Session& session);
void add_exec(CLI::App& app, Session& session);
// kill, stop, pause, resume, wait, rm, inspect
void add_commands(CLI::App& app, Session& session);
void add_functions(CLI::App& app, Session& session);  // list, describe, remove, stats
void add_watching(CLI::App& app, Session& session);   // ps, logs, runtimes
void add_version(CLI::App& app, Session& session);

// The verbs that work on this side before they ask the agent, or instead: they are linked with
// libraries whose loading would be most of the time that any other verb takes. They are at home in
// `brood-local` (local.cc), which `brood` becomes when one of them is asked for (elsewhere.cc).
void add_local(CLI::App& app, Session& session);
void add_deploy(CLI::App& app, Session& session);
void add_check(CLI::App& app, Session& session);
void add_image(CLI::App& app, Session& session);
void add_runtime(CLI::App& app, Session& session);
void add_layer(CLI::App& app, Session& session);

}  // namespace cli
