// The local verbs as `brood` has them: the program that is theirs takes its place.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <climits>

#include "base/error.h"
#include "cmd/cli/standalone.h"
#include "cmd/cli/verbs.h"

namespace cli {
namespace {

std::string own_directory() {
  char path[PATH_MAX];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof path);
  const std::string whole(path, size > 0 ? static_cast<std::size_t>(size) : 0);
  return whole.substr(0, whole.rfind('/'));
}

// Installed (PREFIX/bin beside PREFIX/lib/brood), or as it was built.
Outcome<int> become_local(char** arguments) {
  const std::string directory = own_directory();
  for (const char* place : {"/../lib/brood/brood-local", "/brood-local"}) {
    ::execv((directory + place).c_str(), arguments);
    if (errno != ENOENT) {
      break;
    }
  }
  return fail(Exit::failed,
              std::string("this verb's own program, brood-local, cannot be run from ") + directory +
                  " or its ../lib/brood: " + base::Error::from_errno("execve").message() +
                  "; install brood again");
}

}  // namespace

Outcome<std::string> run_standalone(StandaloneRequest request) {
  CLI_TRY([[maybe_unused]] const int never, become_local(request.arguments));
  return std::string();
}

void add_local(CLI::App& app, Session& session) {
  for (const VerbName& one : {kDeploy, kCheck, kImage, kRuntime}) {
    CLI::App* verb = app.add_subcommand(one.name, one.help);
    verb->allow_extras()
        ->fallthrough(false)
        ->set_help_flag();  // its arguments are not ours to judge
    verb->callback(
        [&session] { session.run = [&session] { return become_local(session.arguments); }; });
  }
}

}  // namespace cli
