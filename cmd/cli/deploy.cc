// brood deploy
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cmd/cli/client.h"
#include "cmd/cli/code.h"
#include "cmd/cli/env_file.h"
#include "cmd/cli/io.h"
#include "cmd/cli/manifest.h"
#include "cmd/cli/text.h"
#include "cmd/cli/verbs.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kManifestName = "brood.toml";

struct DeployFlags {
  std::string name;
  std::string path;
  std::map<std::string, std::string> settings;  // by kSettings' names, as JSON text
  std::vector<std::string> layers;
  std::vector<std::string> env;
  std::string env_file;
  bool json = false;
};

// --- with what settings
// --------------------------------------------------------------------------------

Outcome<Manifest> manifest_of(const std::string& path) {
  if (path.empty()) {
    return Manifest{};
  }
  const fs::path file = fs::path(path) / kManifestName;
  if (!fs::is_regular_file(file)) {
    return Manifest{};
  }
  CLI_TRY(const std::string text, read_whole(file));
  CLI_TRY(Manifest manifest, parse_manifest(text, file));
  if (!manifest.env_file.empty()) {
    manifest.env_file = fs::path(path) / manifest.env_file;
  }
  return manifest;
}

Outcome<int> take_env_file(const std::string& path,
                           std::map<std::string, std::string>& environment) {
  if (path.empty()) {
    return 0;
  }
  CLI_TRY(const std::string text, read_whole(path));
  CLI_TRY(const auto parsed, parse_env_file(text, path));
  for (const auto& [key, value] : parsed) {
    environment[key] = value;
  }
  return 0;
}

// From the weakest word to the strongest: the manifest's [env], its env_file, --env-file, --env.
Outcome<std::map<std::string, std::string>> environment_of(const DeployFlags& flags,
                                                           const Manifest& manifest) {
  auto environment = manifest.environment;
  for (const std::string& file : {manifest.env_file, flags.env_file}) {
    CLI_TRY([[maybe_unused]] const int done, take_env_file(file, environment));
  }
  for (const std::string& pair : flags.env) {
    const auto equals = pair.find('=');
    if (equals == 0 || equals == std::string::npos) {
      return fail(Exit::usage, "--env takes KEY=VALUE, and '" + pair + "' is not that");
    }
    environment[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return environment;
}

// What the kernel would run.
bool is_program(const Code& code) {
  char first[4] = {};
  const auto size = ::pread(code.file.get(), first, sizeof first, 0);
  const std::string_view begins(first, size > 0 ? static_cast<std::size_t>(size) : 0);
  return begins.starts_with(
             "\x7f"
             "ELF") ||
         begins.starts_with("#!");
}

// A single file names its module itself, and its language; a program is its own handler.
void default_handler(const Code& code, Json& document) {
  if (code.file_name.empty()) {
    return;
  }
  const fs::path file(code.file_name);
  const std::string kind = file.extension();
  const bool script = kind == ".js" || kind == ".mjs" || kind == ".cjs";
  if (script && !document.contains("runtime")) {
    document["runtime"] = "node";
  }
  if ((script || kind == ".py") && !document.contains("handler")) {
    document["handler"] = file.stem().string() + (script ? ".handler" : ".main");
  }
  if (!script && kind != ".py" && is_program(code)) {
    if (!document.contains("runtime")) {
      document["runtime"] = "native";
    }
    if (!document.contains("handler")) {
      document["handler"] = code.file_name;
    }
  }
}

Outcome<Json> document_of(const DeployFlags& flags, const Code& code) {
  CLI_TRY(const Manifest manifest, manifest_of(flags.path));
  CLI_TRY(const auto environment, environment_of(flags, manifest));
  auto settings = manifest.settings;
  for (const auto& [name, value] : flags.settings) {
    settings[name] = value;
  }
  if (!flags.layers.empty()) {
    settings["layers"] = Json(flags.layers).dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  Json document = Json::object();
  for (const auto& [name, value] : settings) {
    document[name] = Json::parse(value);
  }
  if (!environment.empty()) {
    document["environment"] = environment;
  }
  default_handler(code, document);
  return document;
}

void tell_deployed(const Json& answer) {
  for (const Json& warning : answer.at("warnings")) {
    tell("warning: " + escape_controls(warning.get<std::string>()));
  }
  const Json& function = answer.at("function");
  tell("deployed " + function.at("name").get<std::string>() + ", version " +
       std::to_string(function.at("version").get<std::uint64_t>()) +
       (function.at("runtime_chosen").get<bool>()
            ? ", in runtime " + function.at("settings").at("runtime").get<std::string>()
            : ""));
}

Outcome<int> deploy(const DeployFlags& flags, const Session& session) {
  if (flags.path.empty() && !flags.settings.contains("runtime")) {
    return fail(Exit::usage, "say where the code is, or with --runtime the image that needs none");
  }
  CLI_TRY(const Code code, prepare_code(flags.path));
  CLI_TRY(Json document, document_of(flags, code));
  Client client(session.socket);
  CLI_TRY(const std::string digest, send_code(client, code));
  document["code"] = digest;
  std::string body;
  try {
    body = document.dump();
  } catch (const Json::exception&) {
    return fail(Exit::usage, "a setting or a value of the environment is not UTF-8");
  }
  CLI_TRY(const Response response,
          expect_success(client.ask({"PUT", "/functions/" + encode_segment(flags.name),
                                     std::move(body), "application/json"})));
  if (flags.json) {
    return write_output(response.body + "\n");
  }
  tell_deployed(Json::parse(response.body));
  return 0;
}

// A flag's text as JSON: a bare number of processes is a number to the agent, a size is text.
std::string json_text(std::string_view name, const std::string& text) {
  const bool counts =
      name == "pids" || name == "concurrency" || name == "queue" || name == "network_connections";
  const bool digits = !text.empty() && text.size() < 10 &&
                      text.find_first_not_of("0123456789") == std::string::npos;
  return counts && digits ? std::to_string(std::stoul(text))
                          : Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

void add_deploy(CLI::App& app, Session& session) {
  auto flags = std::make_shared<DeployFlags>();
  CLI::App* verb = app.add_subcommand(kDeploy.name, kDeploy.help);
  verb->add_option("name", flags->name, "the function")->required();
  verb->add_option("path", flags->path,
                   "its code: a folder, a file, a .zip or a .tar; none where the runtime is an "
                   "image with a program of its own");
  for (const SettingName& setting : kSettings) {
    const std::string name(setting.name);
    if (name == "reuse" || name == kListSetting) {
      continue;
    }
    std::string flag = name;
    std::replace(flag.begin(), flag.end(), '_', '-');
    verb->add_option_function<std::string>(
            "--" + flag,
            [flags, name](const std::string& text) {
              flags->settings[name] = json_text(name, text);
            },
            std::string(setting.help))
        ->type_name(std::string(setting.placeholder));
  }
  verb->add_option_function<std::vector<std::string>>(
          "--allow",
          [flags](const std::vector<std::string>& list) {
            flags->settings[std::string(kListSetting)] =
                Json(list).dump(-1, ' ', false, Json::error_handler_t::replace);
          },
          "network nat: this and nothing else; may be repeated")
      ->type_name("RANGE|NAME[:PORT]")
      ->take_all()
      ->allow_extra_args(false);
  verb->add_flag_callback(
      "--reuse", [flags] { flags->settings["reuse"] = "true"; },
      "keep an instance for the next invocation (the default)");
  verb->add_flag_callback(
      "--no-reuse", [flags] { flags->settings["reuse"] = "false"; },
      "give every invocation a sandbox of its own");
  verb->add_option("--layer", flags->layers,
                   "a layer below /opt, over those before it; may be repeated")
      ->type_name("NAME")
      ->take_all()
      ->allow_extra_args(false);
  verb->add_option("--env", flags->env, "a variable of its environment; may be repeated")
      ->type_name("KEY=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  verb->add_option("--env-file", flags->env_file, "KEY=VALUE lines")->type_name("FILE");
  verb->add_flag("--json", flags->json, "print the agent's own document");
  verb->callback(
      [flags, &session] { session.run = [flags, &session] { return deploy(*flags, session); }; });
}

}  // namespace cli
