// brood version
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "cmd/cli/client.h"
#include "cmd/cli/io.h"
#include "cmd/cli/text.h"
#include "cmd/cli/verbs.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

Outcome<int> version(bool json, const Session& session) {
  Client client(session.socket);
  auto response = expect_success(client.ask({"GET", "/version", "", ""}));
  const Json agent = response ? Json::parse(response->body) : Json();
  std::string text = "client " BROOD_VERSION "\n";
  if (response) {
    text += "agent  " + agent.value("version", "") + " (API " +
            std::to_string(agent.value("api", 0)) + ")\n";
  }
  CLI_TRY([[maybe_unused]] const int done,
          write_output(json ? Json({{"client", BROOD_VERSION}, {"agent", agent}}).dump() + "\n"
                            : text));
  if (!response) {
    return tl::unexpected<Failure>(std::move(response.error()));
  }
  return 0;
}

}  // namespace

void add_version(CLI::App& app, Session& session) {
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = app.add_subcommand("version", "The versions of this program and of the agent");
  verb->add_flag("--json", *json, "print them as JSON");
  verb->callback(
      [json, &session] { session.run = [json, &session] { return version(*json, session); }; });
}

}  // namespace cli
