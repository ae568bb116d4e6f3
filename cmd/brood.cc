// The command line: `brood`, and `brood-local` for some of its verbs (cli/verbs.h).
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>

#include "base/slice.h"
#include "cmd/cli/io.h"
#include "cmd/cli/verbs.h"

namespace {

constexpr const char* kFooter =
    "Exit status:\n"
    "   0  it was done\n"
    "   1  it failed\n"
    "   2  the command line or brood.toml makes no sense\n"
    "   3  no agent answers on the socket\n"
    "   4  there is no such function, command or image\n"
    "   5  the agent refuses it\n"
    "  and from invoke, by how the invocation ended:\n"
    "  11  handler_error       12  init_error          13  timeout\n"
    "  14  out_of_memory       15  pids_limit          16  killed\n"
    "  17  payload_too_large   18  response_too_large  19  overloaded\n"
    "  20  protocol_error      21  internal\n";

// The first word that is no option; --socket has a value behind it.
std::string verb_of(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--socket") {
      ++i;
    } else if (word.substr(0, 1) != "-") {
      return argv[i];
    }
  }
  return {};
}

int run(int argc, char** argv) {
  CLI::App app("brood: functions in complete sandboxes, on this host.");
  app.name("brood");
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(kFooter);
  cli::Session session;
  session.arguments = argv;
  session.socket = "/run/brood/brood.sock";
  app.add_option("--socket", session.socket, "where the agent listens")
      ->type_name("PATH")
      ->envname("BROOD_SOCKET")
      ->capture_default_str();
  cli::add_local(app, session);
  cli::add_invoke(app, session);
  cli::add_run(app, session);
  cli::add_attach(app, session);
  cli::add_exec(app, session);
  cli::add_commands(app, session);
  cli::add_functions(app, session);
  cli::add_watching(app, session);
  cli::add_version(app, session);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const std::string verb = verb_of(argc, argv);
    const auto named = [&](const CLI::App* one) { return one->get_name() == verb; };
    if (!verb.empty() && app.get_subcommands(named).empty()) {
      cli::tell("there is no verb '" + verb + "'; see brood --help");
      return static_cast<int>(cli::Exit::usage);
    }
    return app.exit(error) == 0 ? 0 : static_cast<int>(cli::Exit::usage);
  }
  const auto done = session.run();
  if (!done) {
    cli::tell(done.error().message);
    return done.error().exit;
  }
  return *done;
}

}  // namespace

int main(int argc, char** argv) {
  (void)brood_set_slice(BROOD_AGENT_SLICE_NS, 0, 0);  // it waits for an answer, and works little
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    // An agent that answers with what is not in its own API, or no memory.
    cli::tell(std::string("unexpected: ") + error.what());
    return static_cast<int>(cli::Exit::failed);
  }
}
