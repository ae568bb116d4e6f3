#include "agent/kept_command.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/units.h"

namespace agent {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kIdLength = 12;
constexpr std::array<std::string_view, 3> kStates{"created", "running", "ended"};
constexpr std::string_view kHexDigits = "0123456789abcdef";

std::string mode_text(std::uint32_t mode) {
  char text[8];
  std::snprintf(text, sizeof text, "%04o", mode & 07777U);
  return text;
}

void add_limits(const CommandRequest& request, Json& document) {
  document["memory"] = request.memory_bytes;
  document["cpu"] = request.milli_cpu / 1000.0;
  document["pids"] = request.pids;
  document["timeout"] = static_cast<double>(request.timeout.count()) / 1000;
  document["file_size"] = request.file_bytes;
  document["cpu_seconds"] = request.cpu_seconds;
}

void add_mounts(const CommandRequest& request, Json& document) {
  document["binds"] = Json::array();
  for (const Bind& bind : request.binds) {
    document["binds"].push_back({{"target", bind.target}, {"read_only", bind.read_only}});
  }
  document["tmpfs"] = Json::array();
  for (const Tmpfs& tmpfs : request.tmpfs) {
    document["tmpfs"].push_back({{"target", tmpfs.target},
                                 {"size", tmpfs.bytes},
                                 {"mode", mode_text(tmpfs.mode)},
                                 {"exec", tmpfs.exec}});
  }
  document["read_only"] = request.read_only;
}

void add_network(const CommandRequest& request, Json& document) {
  document["network"] = request.network.mode;
  document["allow"] = request.network.allow;
  document["network_rate"] = request.network.rate;
  document["network_connections"] = request.network.connections;
  document["publish"] = request.publish;
}

void add_time(Json& document, const char* key, std::int64_t unix_ms) {
  if (unix_ms != 0) {
    document[key] = base::format_time(unix_ms);
  }
}

void read_limits(const Json& document, CommandRequest& request) {
  document.at("memory").get_to(request.memory_bytes);
  request.milli_cpu =
      static_cast<std::uint32_t>(std::lround(document.at("cpu").get<double>() * 1000));
  document.at("pids").get_to(request.pids);
  request.timeout =
      std::chrono::milliseconds(std::llround(document.at("timeout").get<double>() * 1000));
  document.at("file_size").get_to(request.file_bytes);
  document.at("cpu_seconds").get_to(request.cpu_seconds);
}

void read_mounts(const Json& document, CommandRequest& request) {
  for (const Json& bind : document.at("binds")) {
    request.binds.push_back(
        {.target = bind.at("target"), .read_only = bind.at("read_only").get<bool>()});
  }
  for (const Json& tmpfs : document.at("tmpfs")) {
    const auto mode = tmpfs.at("mode").get<std::string>();
    request.tmpfs.push_back(
        {.target = tmpfs.at("target"),
         .bytes = tmpfs.at("size"),
         .mode = static_cast<std::uint32_t>(std::strtoul(mode.c_str(), nullptr, 8)),
         .exec = tmpfs.at("exec")});
  }
  document.at("read_only").get_to(request.read_only);
}

void read_network(const Json& document, CommandRequest& request) {
  document.at("network").get_to(request.network.mode);
  document.at("allow").get_to(request.network.allow);
  document.at("network_rate").get_to(request.network.rate);
  document.at("network_connections").get_to(request.network.connections);
  document.at("publish").get_to(request.publish);
}

std::int64_t read_time(const Json& document, const char* key) {
  return document.contains(key) ? base::parse_time(document.at(key).get<std::string>()).value_or(0)
                                : 0;
}

netns::PortCounters read_counters(const Json& document) {
  netns::PortCounters counters;
  document.at("sent_bytes").get_to(counters.sent_bytes);
  document.at("sent_packets").get_to(counters.sent_packets);
  document.at("received_bytes").get_to(counters.received_bytes);
  document.at("received_packets").get_to(counters.received_packets);
  document.at("denied_packets").get_to(counters.denied_packets);
  return counters;
}

CommandEnd read_end(const Json& document) {
  CommandEnd end;
  end.ending =
      command_ending_of(document.at("ending").get<std::string>()).value_or(CommandEnding::internal);
  end.status = end.ending == CommandEnding::exited ? document.at("exit_code").get<int>() : 0;
  end.signal = document.value("signal", 0);
  end.syscall = document.value("syscall", "");
  end.message = document.value("message", "");
  document.at("wall_us").get_to(end.wall_us);
  document.at("user_us").get_to(end.user_us);
  document.at("system_us").get_to(end.system_us);
  document.at("memory_peak_bytes").get_to(end.memory_peak_bytes);
  document.at("pids_refusals").get_to(end.pids_refusals);
  if (const auto network = document.find("network"); network != document.end()) {
    end.network = read_counters(*network);
  }
  return end;
}

KeptCommand read(const Json& document) {
  KeptCommand command;
  CommandRequest& request = command.request;
  document.at("id").get_to(command.id);
  document.at("name").get_to(request.name);
  document.at("image").get_to(request.image);
  document.at("arguments").get_to(request.arguments);
  document.at("environment").get_to(request.environment);
  document.at("user").get_to(request.user);
  document.at("directory").get_to(request.directory);
  read_limits(document, request);
  read_mounts(document, request);
  read_network(document, request);
  document.at("terminal").get_to(request.terminal);
  document.at("detached").get_to(request.detached);
  document.at("input").get_to(request.input);
  document.at("keep").get_to(request.keep);
  document.at("stop_signal").get_to(request.stop_signal);
  const auto state = std::find(kStates.begin(), kStates.end(), document.at("state"));
  command.state = static_cast<KeptCommand::State>(state - kStates.begin());
  command.sandbox = document.value("sandbox", "");
  command.created_ms = read_time(document, "created_at");
  command.started_ms = read_time(document, "started_at");
  command.ended_ms = read_time(document, "ended_at");
  if (command.state == KeptCommand::State::ended) {
    command.end = read_end(document.at("end"));
  }
  return command;
}

}  // namespace

bool is_kept(const CommandRequest& request) {
  return request.keep || request.detached || request.terminal || !request.name.empty();
}

std::string new_command_id() {
  std::array<unsigned char, kIdLength / 2> random{};
  // So few bytes come whole, and from the same source as all keys of this host.
  while (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
  }
  std::string id;
  for (const unsigned char byte : random) {
    id.push_back(kHexDigits[byte >> 4U]);
    id.push_back(kHexDigits[byte & 15U]);
  }
  return id;
}

bool is_command_id(std::string_view text) {
  return text.size() == kIdLength && text.find_first_not_of(kHexDigits) == std::string_view::npos;
}

std::string check_command_name(std::string_view name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyz0123456789._-";
  if (name.empty() || name.size() > 63 || std::string_view("._-").find(name[0]) != name.npos ||
      name.find_first_not_of(kAllowed) != std::string_view::npos) {
    return "name: 1 to 63 of a-z, 0-9, '.', '_' and '-', and begins with a letter or a digit";
  }
  if (is_command_id(name)) {
    return "name: 12 hexadecimal digits are an id";
  }
  return {};
}

Json document_of(const netns::PortCounters& counters) {
  return {{"sent_bytes", counters.sent_bytes},
          {"sent_packets", counters.sent_packets},
          {"received_bytes", counters.received_bytes},
          {"received_packets", counters.received_packets},
          {"denied_packets", counters.denied_packets}};
}

Json document_of(const CommandEnd& end) {
  Json document{{"ending", command_ending_name(end.ending)}, {"exit_code", exit_code_of(end)}};
  if (end.signal != 0) {
    document["signal"] = end.signal;
  }
  if (!end.syscall.empty()) {
    document["syscall"] = end.syscall;
  }
  if (!end.message.empty()) {
    document["message"] = end.message;
  }
  document["wall_us"] = end.wall_us;
  document["user_us"] = end.user_us;
  document["system_us"] = end.system_us;
  document["memory_peak_bytes"] = end.memory_peak_bytes;
  document["pids_refusals"] = end.pids_refusals;
  if (end.network) {
    document["network"] = document_of(*end.network);
  }
  return document;
}

Json document_of(const KeptCommand& command) {
  const CommandRequest& request = command.request;
  Json document{{"id", command.id},
                {"name", request.name},
                {"image", request.image},
                {"arguments", request.arguments},
                {"environment", request.environment},
                {"user", request.user},
                {"directory", request.directory}};
  add_limits(request, document);
  add_mounts(request, document);
  add_network(request, document);
  document["terminal"] = request.terminal;
  document["detached"] = request.detached;
  document["input"] = request.input;
  document["keep"] = request.keep;
  document["stop_signal"] = request.stop_signal;
  document["state"] = kStates[static_cast<std::size_t>(command.state)];
  document["attached"] = command.attached;
  if (!command.sandbox.empty()) {
    document["sandbox"] = command.sandbox;
  }
  add_time(document, "created_at", command.created_ms);
  add_time(document, "started_at", command.started_ms);
  add_time(document, "ended_at", command.ended_ms);
  if (command.end) {
    document["end"] = document_of(*command.end);
  }
  return document;
}

base::Result<KeptCommand> kept_command_of(const std::string& text) {
  try {
    const Json document = Json::parse(text);
    KeptCommand command = read(document);
    if (!is_command_id(command.id) || command.state > KeptCommand::State::ended) {
      return base::fail_because("the record of a command has no id or no state");
    }
    return command;
  } catch (const Json::exception& error) {
    return base::fail_because(std::string("the record of a command: ") + error.what());
  }
}

std::string text_of(const Json& document) {
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace agent
