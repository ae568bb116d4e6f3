// brood layer …: trees that functions share, below /opt.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "cmd/cli/client.h"
#include "cmd/cli/code.h"
#include "cmd/cli/io.h"
#include "cmd/cli/text.h"
#include "cmd/cli/verbs.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

struct LayerFlags {
  std::string name;
  std::string path;
  bool json = false;
};

Outcome<int> publish(const LayerFlags& flags, const Session& session) {
  CLI_TRY(const Code code, prepare_code(flags.path));
  if (!code.file_name.empty()) {
    return fail(Exit::usage, "'" + escape_controls(flags.path) +
                                 "' is neither a folder nor an archive (.zip, .tar, .tar.gz, "
                                 ".tgz, .tar.zst)");
  }
  Client client(session.socket);
  CLI_TRY(const std::string digest, send_code(client, code));
  CLI_TRY(const Response response,
          expect_success(client.ask({"PUT", "/layers/" + encode_segment(flags.name),
                                     Json({{"code", digest}}).dump(), "application/json"})));
  if (flags.json) {
    return write_output(response.body + "\n");
  }
  tell("published layer " + flags.name + "; functions take it when they are deployed");
  return 0;
}

std::string joined(const Json& names) {
  std::string text;
  for (const Json& name : names) {
    text += (text.empty() ? "" : ", ") + name.get<std::string>();
  }
  return text.empty() ? "-" : text;
}

Outcome<int> list(const LayerFlags& flags, const Session& session) {
  Client client(session.socket);
  CLI_TRY(const Response response, expect_success(client.ask({"GET", "/layers", "", ""})));
  if (flags.json) {
    return write_output(response.body + "\n");
  }
  Table table({"NAME", "CODE", "PUBLISHED", "FUNCTIONS"});
  const Json document = Json::parse(response.body);
  constexpr std::size_t kShown = 19;  // "sha256:" and twelve digits
  for (const Json& layer : document.at("layers")) {
    table.add({layer.at("name"), layer.at("code").get<std::string>().substr(0, kShown),
               layer.at("published_at"), joined(layer.at("functions"))});
  }
  return write_output(table.print());
}

Outcome<int> remove(const LayerFlags& flags, const Session& session) {
  Client client(session.socket);
  CLI_TRY(const Response response,
          expect_success(client.ask({"DELETE", "/layers/" + encode_segment(flags.name), "", ""})));
  if (flags.json) {
    return write_output(response.body + "\n");
  }
  tell("removed layer " + flags.name);
  return 0;
}

using Verb = Outcome<int> (*)(const LayerFlags&, const Session&);

CLI::App* add_verb(CLI::App& group, Session& session, const std::shared_ptr<LayerFlags>& flags,
                   const char* name, const char* help, Verb verb) {
  CLI::App* added = group.add_subcommand(name, help);
  added->add_flag("--json", flags->json, "print the agent's own document");
  added->callback([flags, verb, &session] {
    session.run = [flags, verb, &session] { return verb(*flags, session); };
  });
  return added;
}

}  // namespace

void add_layer(CLI::App& app, Session& session) {
  CLI::App* group = app.add_subcommand(kLayer.name, kLayer.help);
  group->require_subcommand(1);
  const auto flags = std::make_shared<LayerFlags>();

  CLI::App* verb = add_verb(
      *group, session, flags, "publish",
      "Make a layer of a folder or an archive; under a name that there is, its successor", publish);
  verb->add_option("name", flags->name, "what it is called")->required();
  verb->add_option("path", flags->path, "what goes below /opt: a folder, a .zip or a .tar")
      ->required();

  add_verb(*group, session, flags, "list", "The layers, and who uses them", list)->alias("ls");

  verb =
      add_verb(*group, session, flags, "remove", "Take a layer away that no function uses", remove);
  verb->alias("rm");
  verb->add_option("name", flags->name)->required();
}

}  // namespace cli
