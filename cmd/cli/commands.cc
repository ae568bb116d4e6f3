// brood kill, stop, pause, resume, wait, rm, inspect: commands that run, or have run
#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "cmd/cli/client.h"
#include "cmd/cli/io.h"
#include "cmd/cli/text.h"
#include "cmd/cli/verbs.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr auto kLook = std::chrono::milliseconds(50);

struct CommandFlags {
  std::vector<std::string> names;
  std::string signal = "KILL";
  unsigned seconds = 10;
  bool force = false;
  bool json = false;
};

// Each in turn, also when one before it could not be had; the first failure is told by the exit
// status.
template <typename Act>
Outcome<int> each(const CommandFlags& flags, const Session& session, Act act) {
  Client client(session.socket);
  std::optional<Failure> first;
  for (const std::string& name : flags.names) {
    if (const Outcome<std::string> done = act(client, name); !done) {
      if (first) {
        tell(first->message);
      }
      first = done.error();
    } else if (auto printed = write_output(*done + "\n"); !printed) {
      return printed;
    }
  }
  if (first) {
    return tl::unexpected<Failure>(std::move(*first));
  }
  return 0;
}

std::string command_path(const std::string& name) {
  return "/commands/" + encode_segment(name);
}

Outcome<std::string> post(Client& client, const std::string& name, const std::string& what) {
  CLI_TRY([[maybe_unused]] const Response done,
          expect_success(
              client.ask({"POST", "/sandboxes/" + encode_segment(name) + "/" + what, "", ""})));
  return name;
}

// The id of the sandbox that a name or a command's id stands for; what is none stands for itself.
Outcome<std::string> sandbox_of(Client& client, const std::string& name) {
  CLI_TRY(const Response known, client.ask({"GET", command_path(name), "", ""}));
  return known.status == 200 ? Json::parse(known.body).value("sandbox", name) : name;
}

Outcome<std::optional<Json>> find_sandbox(Client& client, const std::string& id) {
  CLI_TRY(const Response response, expect_success(client.ask({"GET", "/sandboxes", "", ""})));
  const Json document = Json::parse(response.body);
  for (const Json& one : document.at("sandboxes")) {
    if (one.at("id") == id) {
      return one;
    }
  }
  return std::nullopt;
}

// As docker has it: a wish first, and what cannot be refused when that was not heard in time.
Outcome<std::string> stop(Client& client, const std::string& name, const CommandFlags& flags) {
  CLI_TRY(const std::string sandbox, sandbox_of(client, name));
  CLI_TRY([[maybe_unused]] const std::string sent, post(client, sandbox, "signal?signal=stop"));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(flags.seconds);
  for (;;) {
    CLI_TRY(const auto found, find_sandbox(client, sandbox));
    if (!found || found->at("state") == "ending") {
      return name;
    }
    if (std::chrono::steady_clock::now() >= end) {
      break;
    }
    std::this_thread::sleep_for(kLook);
  }
  (void)post(client, sandbox, "signal?signal=KILL");  // it may have ended meanwhile
  return name;
}

Outcome<std::string> kill(Client& client, const std::string& name, const CommandFlags& flags) {
  return post(client, name, "signal?signal=" + encode_segment(flags.signal));
}
Outcome<std::string> pause(Client& client, const std::string& name, const CommandFlags& /*flags*/) {
  return post(client, name, "pause");
}
Outcome<std::string> resume(Client& client, const std::string& name,
                            const CommandFlags& /*flags*/) {
  return post(client, name, "resume");
}

Outcome<std::string> wait(Client& client, const std::string& name, const CommandFlags& flags) {
  CLI_TRY(const Response ended,
          expect_success(client.ask({"GET", command_path(name) + "/wait", "", ""})));
  return flags.json ? ended.body
                    : std::to_string(Json::parse(ended.body).at("end").at("exit_code").get<int>());
}

Outcome<std::string> remove(Client& client, const std::string& name, const CommandFlags& flags) {
  CLI_TRY([[maybe_unused]] const Response gone,
          expect_success(client.ask(
              {"DELETE", command_path(name) + (flags.force ? "?force=true" : ""), "", ""})));
  return name;
}

// A list of documents, as docker prints them.
Outcome<int> inspect(const CommandFlags& flags, const Session& session) {
  Client client(session.socket);
  Json all = Json::array();
  std::optional<Failure> missing;
  for (const std::string& name : flags.names) {
    auto known = expect_success(client.ask({"GET", command_path(name), "", ""}));
    if (known) {
      all.push_back(Json::parse(known->body));
      continue;
    }
    CLI_TRY(auto sandbox, find_sandbox(client, name));
    if (sandbox) {
      all.push_back(std::move(*sandbox));
    } else if (!missing) {
      missing = known.error();
    }
  }
  CLI_TRY([[maybe_unused]] const int printed,
          write_output(all.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"));
  if (missing) {
    return tl::unexpected<Failure>(std::move(*missing));
  }
  return 0;
}

using Act = Outcome<std::string> (*)(Client&, const std::string&, const CommandFlags&);

CLI::App* add(CLI::App& app, Session& session, const char* name, const char* help,
              const std::shared_ptr<CommandFlags>& flags, Act act) {
  CLI::App* verb = app.add_subcommand(name, help);
  verb->add_option("command", flags->names, "an id, its beginning, or a name; see brood ps")
      ->required();
  verb->callback([flags, act, &session] {
    session.run = [flags, act, &session] {
      return each(*flags, session, [&](Client& client, const std::string& which) {
        return act(client, which, *flags);
      });
    };
  });
  return verb;
}

}  // namespace

void add_commands(CLI::App& app, Session& session) {
  const auto flags = [] { return std::make_shared<CommandFlags>(); };
  auto own = flags();
  add(app, session, "kill", "Send a signal to what `brood run` has started", own, kill)
      ->add_option("-s,--signal", own->signal, "a name or a number")
      ->type_name("SIGNAL")
      ->capture_default_str();
  own = flags();
  add(app, session, "stop",
      "End what `brood run` has started: by its stop signal, and KILL when that is not heard", own,
      stop)
      ->add_option("-t,--time", own->seconds, "seconds between the two")
      ->capture_default_str();
  add(app, session, "pause", "Stop everything in a sandbox until it is resumed", flags(), pause);
  add(app, session, "resume", "Let a paused sandbox go on", flags(), resume);
  own = flags();
  add(app, session, "wait", "Wait until a command has ended and print its exit status", own, wait)
      ->add_flag("--json", own->json, "print how it ended and what it used");
  own = flags();
  add(app, session, "rm", "Forget a command that has ended, and what it printed", own, remove)
      ->add_flag("-f,--force", own->force, "kill it where it runs");
  own = flags();
  CLI::App* verb = app.add_subcommand("inspect", "All that is known of a command, as JSON");
  verb->add_option("command", own->names, "an id, its beginning, or a name; or a sandbox's id")
      ->required();
  verb->callback(
      [own, &session] { session.run = [own, &session] { return inspect(*own, session); }; });
}

}  // namespace cli
