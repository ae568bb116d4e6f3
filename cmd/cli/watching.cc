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

Outcome<int> ps(const WatchFlags& flags, const Session& session) {
  CLI_TRY(const Response response, get(session, "/sandboxes"));
  if (flags.json) {
    return write_output(response.body + "\n");
  }
  Table table(
      {"ID", "RUNTIME", "FUNCTION OR COMMAND", "STATE", "PID", "UID", "AGE", "MEMORY", "CPU"});
  const Json document = Json::parse(response.body);
  for (const Json& sandbox : document.at("sandboxes")) {
    const std::string command = escape_controls(sandbox.value("command", ""));
    table.add({sandbox.at("id"), sandbox.at("runtime"),
               command.empty() ? or_dash(sandbox.at("function")) : command.substr(0, 40),
               sandbox.at("state"), number_text(sandbox.at("pid")),
               number_text(sandbox.at("host_uid")),
               rough_time(sandbox.at("age_ms").get<double>() / 1e3),
               rough_bytes(sandbox.at("memory_bytes")),
               rough_time(sandbox.at("cpu_us").get<double>() / 1e6)});
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

Outcome<int> logs(const WatchFlags& flags, const Session& session) {
  Client client(session.socket);
  Request request;
  request.target = "/functions/" + encode_segment(flags.name) +
                   "/logs?tail=" + std::to_string(flags.tail) +
                   (flags.follow ? "&follow=true" : "");
  Outcome<int> written = 0;
  auto response = expect_success(client.follow(request, [&](std::string_view line) {
    if (written) {
      written = write_output(flags.json ? std::string(line) + "\n" : log_text(Json::parse(line)));
    }
  }));
  if (!response) {
    return tl::unexpected<Failure>(std::move(response.error()));
  }
  if (written && flags.follow) {
    return fail(Exit::failed, "the agent is stopping and has ended the log");
  }
  return written;
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
  add_verb(app, session, "ps", "The sandboxes there are", new_flags(), ps);
  add_verb(app, session, "runtimes", "The runtimes, their zygotes and pools", new_flags(),
           runtimes);
  const auto flags = new_flags();
  CLI::App* verb = add_verb(app, session, "logs", "What a function printed", flags, logs);
  verb->add_option("name", flags->name, "the function")->required();
  verb->add_flag("-f,--follow", flags->follow, "go on with what is printed from now on");
  verb->add_option("-n,--tail", flags->tail, "the last N lines [100]")
      ->type_name("N")
      ->check(CLI::Range(0, 10'000));
}

}  // namespace cli
