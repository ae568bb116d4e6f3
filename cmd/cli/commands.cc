// brood kill, stop, pause, resume: what `brood run` has started
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
  std::vector<std::string> sandboxes;
  std::string signal;
  unsigned seconds = 10;
};

// Each in turn, also when one before it could not be had; the first failure is told by the exit
// status.
template <typename Act>
Outcome<int> each(const CommandFlags& flags, const Session& session, Act act) {
  Client client(session.socket);
  std::optional<Failure> first;
  for (const std::string& sandbox : flags.sandboxes) {
    if (const Outcome<int> done = act(client, sandbox); !done) {
      if (first) {
        tell(first->message);
      }
      first = done.error();
    } else if (auto printed = write_output(sandbox + "\n"); !printed) {
      return printed;
    }
  }
  if (first) {
    return tl::unexpected<Failure>(std::move(*first));
  }
  return 0;
}

Outcome<int> post(Client& client, const std::string& sandbox, const std::string& what) {
  CLI_TRY([[maybe_unused]] const Response done,
          expect_success(
              client.ask({"POST", "/sandboxes/" + encode_segment(sandbox) + "/" + what, "", ""})));
  return 0;
}

Outcome<bool> runs(Client& client, const std::string& sandbox) {
  CLI_TRY(const Response response, expect_success(client.ask({"GET", "/sandboxes", "", ""})));
  const Json document = Json::parse(response.body);
  for (const Json& one : document.at("sandboxes")) {
    if (one.at("id") == sandbox) {
      return one.at("state") != "ending";
    }
  }
  return false;
}

// As docker has it: a wish first, and what cannot be refused when that was not heard in time.
Outcome<int> stop(Client& client, const std::string& sandbox, const CommandFlags& flags) {
  CLI_TRY([[maybe_unused]] const int sent, post(client, sandbox, "signal?signal=TERM"));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(flags.seconds);
  for (;;) {
    CLI_TRY(const bool still, runs(client, sandbox));
    if (!still) {
      return 0;
    }
    if (std::chrono::steady_clock::now() >= end) {
      break;
    }
    std::this_thread::sleep_for(kLook);
  }
  (void)post(client, sandbox, "signal?signal=KILL");  // it may have ended meanwhile
  return 0;
}

CLI::App* add(CLI::App& app, const char* name, const char* help,
              const std::shared_ptr<CommandFlags>& flags) {
  CLI::App* verb = app.add_subcommand(name, help);
  verb->add_option("sandbox", flags->sandboxes, "its id, as `brood ps` shows it")->required();
  return verb;
}

}  // namespace

void add_commands(CLI::App& app, Session& session) {
  auto flags = std::make_shared<CommandFlags>();
  CLI::App* verb = add(app, "kill", "Send a signal to what `brood run` has started", flags);
  verb->add_option("-s,--signal", flags->signal, "a name or a number; KILL where nothing is said")
      ->type_name("SIGNAL");
  verb->callback([flags, &session] {
    session.run = [flags, &session] {
      const std::string name = flags->signal.empty() ? "KILL" : flags->signal;
      return each(*flags, session, [&](Client& client, const std::string& sandbox) {
        return post(client, sandbox, "signal?signal=" + encode_segment(name));
      });
    };
  });

  auto stopping = std::make_shared<CommandFlags>();
  verb = add(app, "stop", "End what `brood run` has started: TERM, and KILL when that is not heard",
             stopping);
  verb->add_option("-t,--time", stopping->seconds, "seconds between the two")
      ->capture_default_str();
  verb->callback([stopping, &session] {
    session.run = [stopping, &session] {
      return each(*stopping, session, [&](Client& client, const std::string& sandbox) {
        return stop(client, sandbox, *stopping);
      });
    };
  });

  for (const char* name : {"pause", "resume"}) {
    auto which = std::make_shared<CommandFlags>();
    verb =
        add(app, name,
            std::string_view(name) == "pause" ? "Stop everything in a sandbox until it is resumed"
                                              : "Let a paused sandbox go on",
            which);
    verb->callback([which, name, &session] {
      session.run = [which, name, &session] {
        return each(*which, session, [&](Client& client, const std::string& sandbox) {
          return post(client, sandbox, name);
        });
      };
    });
  }
}

}  // namespace cli
