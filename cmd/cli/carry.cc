#include "cmd/cli/carry.h"

#include <sys/ioctl.h>

#include <csignal>
#include <cstdio>
#include <optional>
#include <utility>

#include "cmd/cli/io.h"
#include "cmd/cli/pump.h"
#include "cmd/cli/text.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

// On a connection of its own: the first is the command's for as long as it runs.
void send_signal(const Session& session, const Json& started, int number) {
  Client client(session.socket);
  (void)client.ask({"POST",
                    "/sandboxes/" + encode_segment(started.at("sandbox").get<std::string>()) +
                        "/signal?signal=" + std::to_string(number) +
                        "&process=" + std::to_string(started.value("process", 0U)),
                    "", ""});
}

bool leave(const Session& session, const std::string& command) {
  Client client(session.socket);
  const auto left = expect_success(
      client.ask({"POST", "/commands/" + encode_segment(command) + "/detach", "", ""}));
  return left.has_value();
}

// A program draws its screen when the size changes; to the same size, that is no change.
void draw_again(const base::UniqueFd& master) {
  const TerminalSize size = terminal_size();
  winsize wanted{};
  wanted.ws_row = static_cast<unsigned short>(size.rows + 1U);
  wanted.ws_col = size.columns;
  (void)::ioctl(master.get(), TIOCSWINSZ, &wanted);
  wanted.ws_row = size.rows;
  (void)::ioctl(master.get(), TIOCSWINSZ, &wanted);
}

Outcome<int> write_stats(const std::string& file, const Ended& ended) {
  Json stats = ended.end;
  if (ended.over_limit) {
    stats["ending"] = "output_limit";
  }
  const std::string text = stats.dump() + "\n";
  if (file == "-") {
    std::fputs(text.c_str(), stderr);
    return 0;
  }
  return write_file(file, text);
}

}  // namespace

Outcome<Ended> carry(CarryRequest asked, const Session& session, Client::Lines& lines) {
  CLI_TRY(auto first, lines.next());
  if (!first) {
    return fail(Exit::failed, "the agent answered nothing");
  }
  const Json line = Json::parse(*first);
  if (line.contains("end")) {
    return Ended{line.at("end")};
  }
  const std::string command = line.value("command", "");
  Ended ended;
  Outcome<std::optional<std::string>> last = std::optional<std::string>();
  PumpRequest request;
  request.streams = lines.take_descriptors();
  if (request.streams.size() != (asked.terminal ? 1 : 3)) {
    return fail(Exit::failed, "the agent sent no streams with its answer");
  }
  if (asked.terminal && asked.attached) {
    draw_again(request.streams[0]);
  }
  request.read_input = asked.read_input;
  request.until_fd = lines.fd();
  request.ended = [&] {
    last = lines.next();
    return true;
  };
  request.signal = [&](int number) { send_signal(session, line, number); };
  request.output_limit = asked.output_limit;
  request.over_limit = [&] {
    ended.over_limit = true;
    send_signal(session, line, SIGKILL);
  };
  if (!command.empty()) {
    request.detach_keys = std::move(asked.detach_keys);
    request.detach = [&] { return leave(session, command); };
  }
  const auto pumped = [&] {
    std::optional<RawTerminal> raw;
    if (asked.terminal) {
      raw.emplace();
    }
    return pump(std::move(request));
  }();
  if (!pumped) {
    return tl::unexpected<Failure>(pumped.error());
  }
  if (*pumped == Pumped::detached) {
    ended.left = command;
    return ended;
  }
  if (!last) {
    return tl::unexpected<Failure>(std::move(last.error()));
  }
  if (!*last) {
    return fail(Exit::failed, "the agent did not say how the command ended");
  }
  ended.end = Json::parse(**last).at("end");
  return ended;
}

Outcome<int> finish(const std::string& stats_file, const std::string& limit, const Ended& ended) {
  if (!ended.left.empty()) {
    tell("command " + ended.left + " goes on; brood attach " + ended.left + " comes back to it");
    return 0;
  }
  if (!stats_file.empty()) {
    CLI_TRY([[maybe_unused]] const int written, write_stats(stats_file, ended));
  }
  if (ended.over_limit) {
    tell("the command was killed: it printed more than " + limit);
  } else if (const std::string message = ended.end.value("message", ""); !message.empty()) {
    tell(escape_controls(message));
  }
  return ended.end.at("exit_code").get<int>();
}

}  // namespace cli
