// brood ps, logs, runtimes
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

struct WatchFlags {
  std::string name;
  unsigned tail = 100;
  bool follow = false;
  bool timestamps = false;
  bool all = false;
  bool json = false;
};

std::string number_text(const Json& number) {
  return std::to_string(number.get<std::int64_t>());
}

std::string or_dash(const std::string& text) {
  return text.empty() ? "-" : text;
}

Outcome<Response> get(const Session& session, const std::string& target) {
  Client client(session.socket);
  return expect_success(client.ask({"GET", target, "", ""}));
}

std::string shown(const Json& text) {
  return escape_controls(text.get<std::string>()).substr(0, 40);
}

// What does not run: its sandbox is gone, or not there yet.
void add_ended(const Json& command, Table& table) {
  std::string words;
  for (const Json& argument : command.at("arguments")) {
    words += (words.empty() ? "" : " ") + argument.get<std::string>();
  }
  std::string state = command.at("state");
  if (command.contains("end")) {
    const Json& end = command.at("end");
    state = end.at("ending").get<std::string>() + " (" + number_text(end.at("exit_code")) + ")";
  }
  table.add({command.at("id"), or_dash(command.at("name")), command.at("image"), shown(words),
             state, "-", "-", "-", "-", "-"});
}

Outcome<int> ps(const WatchFlags& flags, const Session& session) {
  CLI_TRY(const Response response, get(session, "/sandboxes"));
  Json document = Json::parse(response.body);
  if (flags.all) {
    CLI_TRY(const Response commands, get(session, "/commands"));
    document["commands"] = Json::parse(commands.body).at("commands");
  }
  if (flags.json) {
    return write_output(document.dump() + "\n");
  }
  Table table({"ID", "NAME", "RUNTIME", "FUNCTION OR COMMAND", "STATE", "PID", "UID", "AGE",
               "MEMORY", "CPU"});
  for (const Json& sandbox : document.at("sandboxes")) {
    const std::string command = shown(sandbox.at("command"));
    table.add({sandbox.at("id"), or_dash(sandbox.at("name")), sandbox.at("runtime"),
               command.empty() ? or_dash(sandbox.at("function")) : command, sandbox.at("state"),
               number_text(sandbox.at("pid")), number_text(sandbox.at("host_uid")),
               rough_time(sandbox.at("age_ms").get<double>() / 1e3),
               rough_bytes(sandbox.at("memory_bytes")),
               rough_time(sandbox.at("cpu_us").get<double>() / 1e6)});
  }
  for (const Json& command : document.value("commands", Json::array())) {
    if (command.at("state") != "running") {
      add_ended(command, table);
    }
  }
  return write_output(table.print());
}

Outcome<int> runtimes(const WatchFlags& flags, const Session& session) {
  CLI_TRY(const Response response, get(session, "/runtimes"));
  if (flags.json) {
    return write_output(response.body + "\n");
  }
  Table table({"NAME", "STATE", "POOL", "MIN", "MAX", "ZYGOTE", "RESTARTS", "IMAGE", "PROBLEM"});
  const Json document = Json::parse(response.body);
  for (const Json& runtime : document.at("runtimes")) {
    table.add({runtime.at("name"), runtime.at("state"), number_text(runtime.at("pool_ready")),
               number_text(runtime.at("pool_min")), number_text(runtime.at("pool_max")),
               number_text(runtime.at("zygote_pid")), number_text(runtime.at("zygote_restarts")),
               runtime.at("image_digest").get<std::string>().substr(0, 19),
               or_dash(escape_controls(runtime.at("problem").get<std::string>()))});
  }
  return write_output(table.print());
}

// Text goes to a file as the handler printed it; a terminal is shown, not driven.
std::string log_text(const Json& line) {
  std::string text = line.at("text");
  if (is_terminal(Standard::output)) {
    text = escape_controls(text);
  }
  return line.at("time").get<std::string>() + " " + or_dash(line.value("invocation", "")) + " " +
         text + (line.value("cut", false) ? " [cut]\n" : "\n");
}

// As the command printed it, to the stream to which it did.
Outcome<int> print_line(const Json& line, const WatchFlags& flags) {
  std::string text = line.at("text").get<std::string>() + "\n";
  const bool error = line.value("stream", "") == "stderr";
  if (is_terminal(error ? Standard::error : Standard::output)) {
    if (text.size() > 1 && text[text.size() - 2] == '\r') {  // a terminal's line
      text.erase(text.size() - 2, 1);
    }
    text.pop_back();
    text = escape_controls(text) + "\n";
  }
  if (flags.timestamps) {
    text.insert(0, line.at("time").get<std::string>() + " ");
  }
  return error ? write_error(text) : write_output(text);
}

Outcome<Response> follow_log(const std::string& target, const WatchFlags& flags,
                             const Session& session) {
  Client client(session.socket);
  Request request;
  request.target =
      target + "/logs?tail=" + std::to_string(flags.tail) + (flags.follow ? "&follow=true" : "");
  Outcome<int> written = 0;
  auto response = expect_success(client.follow(request, [&](std::string_view text) {
    if (!written) {
      return;
    }
    const Json line = Json::parse(text);
    written = flags.json                ? write_output(std::string(text) + "\n")
              : line.contains("stream") ? print_line(line, flags)
                                        : write_output(log_text(line));
  }));
  if (response && !written) {
    return tl::unexpected<Failure>(std::move(written.error()));
  }
  return response;
}

// A function's, or else a command's.
Outcome<int> logs(const WatchFlags& flags, const Session& session) {
  const std::string name = encode_segment(flags.name);
  auto response = follow_log("/functions/" + name, flags, session);
  const bool function = response || response.error().exit != static_cast<int>(Exit::not_found);
  if (function && response && flags.follow) {
    return fail(Exit::failed, "the agent is stopping and has ended the log");
  }
  if (!function) {
    response = follow_log("/commands/" + name, flags, session);
  }
  if (!response) {
    const bool unknown = response.error().exit == static_cast<int>(Exit::not_found);
    return unknown
               ? fail(Exit::not_found, "there is no function and no command '" + flags.name + "'")
               : tl::unexpected<Failure>(std::move(response.error()));
  }
  return 0;
}

using Run = Outcome<int> (*)(const WatchFlags&, const Session&);

CLI::App* add_verb(CLI::App& app, Session& session, const char* name, const char* help,
                   const std::shared_ptr<WatchFlags>& flags, Run run) {
  CLI::App* verb = app.add_subcommand(name, help);
  verb->add_flag("--json", flags->json, "print the agent's own documents");
  verb->callback([flags, run, &session] {
    session.run = [flags, run, &session] { return run(*flags, session); };
  });
  return verb;
}

}  // namespace

void add_watching(CLI::App& app, Session& session) {
  const auto new_flags = [] { return std::make_shared<WatchFlags>(); };
  auto all = new_flags();
  add_verb(app, session, "ps", "The sandboxes there are", all, ps)
      ->add_flag("-a,--all", all->all, "and the commands that are kept and do not run");
  add_verb(app, session, "runtimes", "The runtimes, their zygotes and pools", new_flags(),
           runtimes);
  const auto flags = new_flags();
  CLI::App* verb =
      add_verb(app, session, "logs", "What a function or a detached command printed", flags, logs);
  verb->add_option("name", flags->name, "the function, or the command's id or name")->required();
  verb->add_flag("-t,--timestamps", flags->timestamps, "when it did; of a function always");
  verb->add_flag("-f,--follow", flags->follow, "go on with what is printed from now on");
  verb->add_option("-n,--tail", flags->tail, "the last N lines [100]")
      ->type_name("N")
      ->check(CLI::Range(0, 10'000));
}

}  // namespace cli
