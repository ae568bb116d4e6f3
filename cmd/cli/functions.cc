// brood list, describe, remove, stats
#include <CLI/CLI.hpp>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cmd/cli/client.h"
#include "cmd/cli/io.h"
#include "cmd/cli/text.h"
#include "cmd/cli/verbs.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

struct NameFlags {
  std::string name;
  bool json = false;
};

std::string seconds_text(const Json& seconds) {
  return base::format_duration(
      std::chrono::milliseconds(std::llround(seconds.get<double>() * 1000)));
}

std::string cpu_text(const Json& cpus) {
  return base::format_cpu(static_cast<std::uint32_t>(std::lround(cpus.get<double>() * 1000)));
}

std::string joined(const Json& list) {
  std::string text;
  for (const Json& entry : list) {
    text += (text.empty() ? "" : ", ") + entry.get<std::string>();
  }
  return text;
}

std::string number_text(const Json& number) {
  return std::to_string(number.get<std::uint64_t>());
}

Outcome<Response> get(Client& client, const std::string& target) {
  return expect_success(client.ask({"GET", target, "", ""}));
}

Outcome<int> list(const NameFlags& flags, const Session& session) {
  Client client(session.socket);
  CLI_TRY(const Response response, get(client, "/functions"));
  if (flags.json) {
    return write_output(response.body + "\n");
  }
  Table table({"NAME", "VERSION", "RUNTIME", "MEMORY", "CPU", "TIMEOUT", "RUNNING", "INVOCATIONS",
               "DEPLOYED"});
  const Json document = Json::parse(response.body);
  for (const Json& function : document.at("functions")) {
    const Json& settings = function.at("settings");
    table.add({function.at("name"), number_text(function.at("version")), settings.at("runtime"),
               base::format_bytes(settings.at("memory")), cpu_text(settings.at("cpu")),
               seconds_text(settings.at("timeout")), number_text(function.at("running")),
               number_text(function.at("invocations")), function.at("deployed_at")});
  }
  return write_output(table.print());
}

// Two columns without a header: what it is, what it has.
Table description_of(const Json& function) {
  const Json& settings = function.at("settings");
  Table table({"name", function.at("name")});
  table.add({"version", number_text(function.at("version"))});
  table.add({"code", function.at("code")});
  table.add({"deployed", function.at("deployed_at")});
  const bool chosen = function.at("runtime_chosen").get<bool>();
  table.add({"runtime", settings.at("runtime").get<std::string>() +
                            (chosen ? " (chosen from its imports)" : "")});
  for (const char* key : {"handler", "network"}) {
    table.add({key, settings.at(key)});
  }
  for (const Json& entry : settings.at("allow")) {
    table.add({"allow", escape_controls(entry.get<std::string>())});
  }
  if (const auto rate = settings.at("network_rate").get<std::uint64_t>(); rate != 0) {
    table.add({"network rate", base::format_bytes(rate) + "/s"});
  }
  table.add({"memory", base::format_bytes(settings.at("memory"))});
  table.add({"cpu", cpu_text(settings.at("cpu"))});
  for (const char* key : {"timeout", "idle"}) {
    table.add({key, seconds_text(settings.at(key))});
  }
  for (const char* key : {"pids", "concurrency", "queue"}) {
    table.add({key, number_text(settings.at(key))});
  }
  table.add({"reuse", settings.at("reuse").get<bool>() ? "true" : "false"});
  for (const Json& layer : function.at("layers")) {
    table.add(
        {"layer", layer.at("name").get<std::string>() + " " + layer.at("code").get<std::string>()});
  }
  for (const auto& [key, value] : settings.at("environment").items()) {
    table.add({"env", key + "=" + escape_controls(value.get<std::string>())});
  }
  for (const char* key : {"instances", "running", "queued", "invocations"}) {
    table.add({key, number_text(function.at(key))});
  }
  for (const auto& [ending, count] : function.at("endings").items()) {
    table.add({"ended " + ending, number_text(count)});
  }
  const std::string loose = joined(function.at("limits_not_enforced"));
  table.add({"limits not enforced", loose.empty() ? "none" : loose});
  return table;
}

Outcome<int> describe(const NameFlags& flags, const Session& session) {
  Client client(session.socket);
  CLI_TRY(const Response response, get(client, "/functions/" + encode_segment(flags.name)));
  return write_output(flags.json ? response.body + "\n"
                                 : description_of(Json::parse(response.body)).print());
}

Outcome<int> remove(const NameFlags& flags, const Session& session) {
  Client client(session.socket);
  CLI_TRY(
      const Response response,
      expect_success(client.ask({"DELETE", "/functions/" + encode_segment(flags.name), "", ""})));
  if (flags.json) {
    return write_output(response.body + "\n");
  }
  tell("removed " + flags.name);
  return 0;
}

std::string quantile_text(const std::string& metrics, const std::string& name, double q) {
  const auto seconds = duration_quantile(metrics, name, q);
  return seconds ? rough_time(*seconds) : "-";
}

// "timeout 3, killed 1": what did not end well.
std::string failures_of(const Json& endings) {
  std::string text;
  for (const auto& [ending, count] : endings.items()) {
    if (ending != "ok" && count.get<std::uint64_t>() > 0) {
      text += (text.empty() ? "" : ", ") + ending + " " + number_text(count);
    }
  }
  return text.empty() ? "-" : text;
}

// What `stats` shows: all there is, or what is called so.
struct Watched {
  Json functions = Json::array();
  Json commands = Json::array();  // their sandboxes
};

Json sandboxes_with_commands(const Json& sandboxes) {
  Json found = Json::array();
  for (const Json& sandbox : sandboxes) {
    if (!sandbox.at("command").get<std::string>().empty()) {
      found.push_back(sandbox);
    }
  }
  return found;
}

// Each function's instances that have a network, with what it has counted.
void add_networks(const Json& sandboxes, Json& functions) {
  for (Json& function : functions) {
    Json& networks = function["networks"] = Json::array();
    for (const Json& sandbox : sandboxes) {
      if (sandbox.at("function") == function.at("name") && sandbox.contains("network")) {
        networks.push_back(sandbox.at("network"));
        networks.back()["sandbox"] = sandbox.at("id");
      }
    }
  }
}

Outcome<Watched> watched(Client& client, const Json& sandboxes, const std::string& name) {
  Watched all;
  const Json commands = sandboxes_with_commands(sandboxes);
  if (name.empty()) {
    CLI_TRY(const Response response, get(client, "/functions"));
    all.functions = Json::parse(response.body).at("functions");
    all.commands = commands;
    return all;
  }
  CLI_TRY(const Response function,
          client.ask({"GET", "/functions/" + encode_segment(name), "", ""}));
  if (function.status == 200) {
    all.functions.push_back(Json::parse(function.body));
    return all;
  }
  // An id's beginning, too, is known to the agent alone.
  CLI_TRY(const Response kept, client.ask({"GET", "/commands/" + encode_segment(name), "", ""}));
  const std::string sandbox =
      kept.status == 200 ? Json::parse(kept.body).value("sandbox", "") : name;
  for (const Json& one : commands) {
    if (one.at("id") == sandbox) {
      all.commands.push_back(one);
      return all;
    }
  }
  return kept.status == 200
             ? fail(Exit::failed, "command '" + name + "' does not run; see brood inspect " + name)
             : fail(Exit::not_found, "there is no function and no command '" + name + "'");
}

void add_durations(const std::string& metrics, Json& function) {
  for (const auto& [key, q] : {std::pair{"p50_seconds", 0.5}, {"p99_seconds", 0.99}}) {
    const auto seconds = duration_quantile(metrics, function.at("name").get<std::string>(), q);
    function[key] = seconds ? Json(*seconds) : Json();
  }
}

std::string print_functions(const Json& functions, const std::string& metrics) {
  Table table({"NAME", "INVOCATIONS", "OK", "p50", "p99", "INSTANCES", "RUNNING", "QUEUED",
               "NOT ENFORCED", "FAILED"});
  for (const Json& function : functions) {
    const std::string name = function.at("name");
    const std::string loose = joined(function.at("limits_not_enforced"));
    const Json ok = function.at("endings").value("ok", Json(0));
    table.add({name, number_text(function.at("invocations")), number_text(ok),
               quantile_text(metrics, name, 0.5), quantile_text(metrics, name, 0.99),
               number_text(function.at("instances")), number_text(function.at("running")),
               number_text(function.at("queued")), loose.empty() ? "-" : loose,
               failures_of(function.at("endings"))});
  }
  return table.print();
}

std::string print_commands(const Json& commands) {
  Table table({"ID", "NAME", "COMMAND", "STATE", "AGE", "CPU", "MEMORY"});
  for (const Json& sandbox : commands) {
    const std::string name = sandbox.at("name");
    table.add({sandbox.at("id"), name.empty() ? "-" : name,
               escape_controls(sandbox.at("command").get<std::string>()).substr(0, 40),
               sandbox.at("state"), rough_time(sandbox.at("age_ms").get<double>() / 1e3),
               rough_time(sandbox.at("cpu_us").get<double>() / 1e6),
               rough_bytes(sandbox.at("memory_bytes"))});
  }
  return table.print();
}

void add_network(const std::string& of, const Json& sandbox, const Json& network, Table& table) {
  table.add({sandbox, escape_controls(of).substr(0, 40), rough_bytes(network.at("sent_bytes")),
             rough_bytes(network.at("received_bytes")), number_text(network.at("sent_packets")),
             number_text(network.at("received_packets")),
             number_text(network.at("denied_packets"))});
}

// Empty where nobody has one.
std::string print_networks(const Watched& all) {
  Table table({"SANDBOX", "OF", "SENT", "RECEIVED", "PACKETS SENT", "PACKETS RECEIVED", "DENIED"});
  bool any = false;
  for (const Json& function : all.functions) {
    for (const Json& network : function.at("networks")) {
      add_network(function.at("name"), network.at("sandbox"), network, table);
      any = true;
    }
  }
  for (const Json& sandbox : all.commands) {
    if (sandbox.contains("network")) {
      add_network(sandbox.at("command"), sandbox.at("id"), sandbox.at("network"), table);
      any = true;
    }
  }
  return any ? "\n" + table.print() : std::string();
}

Outcome<int> stats(const NameFlags& flags, const Session& session) {
  Client client(session.socket);
  CLI_TRY(const Response listed, get(client, "/sandboxes"));
  const Json sandboxes = Json::parse(listed.body).at("sandboxes");
  CLI_TRY(Watched all, watched(client, sandboxes, flags.name));
  add_networks(sandboxes, all.functions);
  CLI_TRY(const Response metrics, get(client, "/metrics"));
  if (flags.json) {
    for (Json& function : all.functions) {
      add_durations(metrics.body, function);
    }
    return write_output(Json({{"functions", all.functions}, {"commands", all.commands}}).dump() +
                        "\n");
  }
  std::string text;
  if (!all.functions.empty() || all.commands.empty()) {
    text = print_functions(all.functions, metrics.body);
  }
  if (!all.commands.empty()) {
    text += (text.empty() ? "" : "\n") + print_commands(all.commands);
  }
  return write_output(text + print_networks(all));
}

enum class NameUse { none, optional, required };

void add_verb(CLI::App& app, Session& session, const char* name, const char* help, NameUse use,
              Outcome<int> (*run)(const NameFlags&, const Session&)) {
  auto flags = std::make_shared<NameFlags>();
  CLI::App* verb = app.add_subcommand(name, help);
  if (use != NameUse::none) {
    verb->add_option("name", flags->name, "the function")->required(use == NameUse::required);
  }
  verb->add_flag("--json", flags->json, "print the agent's own document");
  verb->callback([flags, run, &session] {
    session.run = [flags, run, &session] { return run(*flags, session); };
  });
}

}  // namespace

void add_functions(CLI::App& app, Session& session) {
  add_verb(app, session, "list", "The functions", NameUse::none, list);
  add_verb(app, session, "describe", "A function's settings and state", NameUse::required,
           describe);
  add_verb(app, session, "remove", "Remove a function; running invocations finish",
           NameUse::required, remove);
  add_verb(
      app, session, "stats",
      "How invocations ended and how long they took, what commands use, and what networks carried",
      NameUse::optional, stats);
}

}  // namespace cli
