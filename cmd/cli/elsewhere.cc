// The local verbs as `brood` has them: the program that is theirs takes its place.
#include <CLI/CLI.hpp>

#include "cmd/cli/other_program.h"
#include "cmd/cli/verbs.h"

namespace cli {

void add_local(CLI::App& app, Session& session) {
  for (const VerbName& one : {kDeploy, kCheck, kImage, kRuntime, kLayer}) {
    CLI::App* verb = app.add_subcommand(one.name, one.help);
    verb->allow_extras()
        ->fallthrough(false)
        ->set_help_flag();  // its arguments are not ours to judge
    verb->callback([&session] {
      session.run = [&session] { return become_program("brood-local", session.arguments); };
    });
  }
}

}  // namespace cli
