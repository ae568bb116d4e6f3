#include "api/handlers.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "api/json.h"

namespace api {
namespace {

constexpr std::string_view kFormEncoded = "application/x-www-form-urlencoded";

// "Application/JSON; charset=utf-8" -> "application/json"
std::string media_type(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  type.erase(type.find_last_not_of(" \t") + 1);
  std::transform(type.begin(), type.end(), type.begin(), [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  return type;
}

bool is_json(std::string_view type) {
  constexpr std::string_view kSuffix = "+json";
  return type.empty() || type == "application/json" || type == kFormEncoded ||
         (type.size() > kSuffix.size() && type.substr(type.size() - kSuffix.size()) == kSuffix);
}

bool is_archive(std::string_view type) {
  constexpr std::array<std::string_view, 8> kTypes{"",
                                                   "application/x-tar",
                                                   "application/gzip",
                                                   "application/x-gzip",
                                                   "application/zstd",
                                                   "application/zip",
                                                   "application/octet-stream",
                                                   kFormEncoded};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

Reply json_reply(std::string body, int status = 200) {
  Reply reply;
  reply.status = status;
  reply.body = std::move(body);
  return reply;
}

Reply describe(std::string_view name, const agent::Service& service) {
  const auto status = service.describe(name);
  return status ? json_reply(function_status_json(*status)) : reply_of(status.error());
}

Reply code_presence(std::string_view digest, const agent::Service& service) {
  if (service.has_code(digest)) {
    return json_reply(code_json(digest));
  }
  return reply_of(agent::Failure{404, "not_found", "there is no such code"});
}

Reply metrics(const agent::Service& service) {
  Reply reply = json_reply(service.metrics());
  reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
  return reply;
}

}  // namespace

BodyUse body_use(Endpoint endpoint) {
  switch (endpoint) {
    case Endpoint::invoke:
      return BodyUse::payload;
    case Endpoint::deploy:
    case Endpoint::publish_layer:
    case Endpoint::run:
    case Endpoint::execute:
      return BodyUse::document;
    case Endpoint::upload_code:
      return BodyUse::archive;
    default:
      return BodyUse::none;
  }
}

bool accepts(BodyUse use, std::string_view content_type) {
  switch (use) {
    case BodyUse::document:
      return is_json(media_type(content_type));
    case BodyUse::archive:
      return is_archive(media_type(content_type));
    default:
      return true;
  }
}

agent::ContentKind payload_kind(std::string_view content_type) {
  // The common case, without a copy.
  if (content_type.empty() || content_type == "application/json") {
    return agent::ContentKind::json;
  }
  return is_json(media_type(content_type)) ? agent::ContentKind::json : agent::ContentKind::bytes;
}

Reply answer(const Route& route, const agent::Service& service) {
  switch (route.endpoint) {
    case Endpoint::version:
      return json_reply(version_json());
    case Endpoint::status:
      return json_reply(status_json(service.status()));
    case Endpoint::metrics:
      return metrics(service);
    case Endpoint::has_code:
      return code_presence(route.digest, service);
    case Endpoint::list_functions:
      return json_reply(functions_json(service.list()));
    case Endpoint::describe:
      return describe(route.name, service);
    case Endpoint::sandboxes:
      return json_reply(sandboxes_json(service.sandboxes()));
    case Endpoint::list_commands:
      return json_reply(kept_commands_json(service.kept_commands().list()));
    case Endpoint::inspect_command:
      return command_reply(service.kept_commands().find(route.command));
    case Endpoint::list_layers:
      return json_reply(layers_json(service.layers()));
    case Endpoint::runtimes:
      return json_reply(runtimes_json(service.status().runtimes));
    default:
      return reply_of(agent::Failure{});
  }
}

Reply uninvoked_reply(std::string_view name, const agent::Service& service) {
  const auto found = service.describe(name);
  return reply_of(found ? agent::Failure{503, "draining", "the agent is stopping"} : found.error());
}

Reply uploaded_reply(tl::expected<std::string, agent::Failure>&& digest) {
  return digest ? json_reply(code_json(*digest), 201) : reply_of(digest.error());
}

Reply deployed_reply(const tl::expected<agent::Deployed, agent::Failure>& deployed) {
  if (!deployed) {
    return reply_of(deployed.error());
  }
  return json_reply(deployed_json(*deployed), deployed->created ? 201 : 200);
}

Reply layer_reply(const tl::expected<agent::Layer, agent::Failure>& layer) {
  return layer ? json_reply(layer_json(*layer)) : reply_of(layer.error());
}

Reply done_reply(const tl::expected<void, agent::Failure>& done) {
  return done ? json_reply("{}") : reply_of(done.error());
}

Reply removed_reply(const tl::expected<agent::Function, agent::Failure>& removed) {
  return removed ? json_reply(function_json(*removed)) : reply_of(removed.error());
}

Reply command_reply(const tl::expected<agent::KeptCommand, agent::Failure>& command, int status) {
  return command ? json_reply(kept_command_json(*command), status) : reply_of(command.error());
}

LogReader::LogReader(agent::Service& service, const Route& route)
    : service_(service),
      of_command_(route.endpoint == Endpoint::command_logs),
      name_(of_command_ ? route.command : route.name),
      query_(route.logs),
      last_(route.logs.after) {}

tl::expected<std::vector<agent::LogLine>, agent::Failure> LogReader::read(
    std::size_t tail, std::uint64_t after) const {
  return of_command_ ? service_.kept_commands().logs(name_, tail, after)
                     : service_.logs(name_, tail, after);
}

tl::expected<std::string, agent::Failure> LogReader::first() {
  // Following from the end still has to know where the end is.
  auto lines = read(std::max<std::size_t>(query_.tail, 1), query_.after);
  if (!lines) {
    return tl::unexpected<agent::Failure>(std::move(lines.error()));
  }
  std::string text = print(*lines);
  return query_.tail == 0 ? std::string() : text;
}

std::string LogReader::next() {
  const auto lines = read(kMaxLogTail, last_);
  return lines ? print(*lines) : std::string();
}

std::shared_ptr<void> LogReader::follow(std::function<void()> more) {
  return of_command_ ? service_.kept_commands().follow_logs(name_, std::move(more))
                     : service_.follow_logs(name_, std::move(more));
}

bool LogReader::ended() const {
  if (!of_command_) {
    return false;
  }
  const auto command = service_.kept_commands().find(name_);
  return !command || command->state == agent::KeptCommand::State::ended;
}

std::string LogReader::print(const std::vector<agent::LogLine>& lines) {
  std::string text;
  for (const agent::LogLine& line : lines) {
    text += log_line_json(line, of_command_ ? "stream" : "invocation");
    last_ = std::max(last_, line.sequence);
  }
  return text;
}

}  // namespace api
