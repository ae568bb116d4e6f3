#include "api/json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "agent/kept_command.h"
#include "api/router.h"
#include "base/units.h"

namespace api {
namespace {

using Json = nlohmann::ordered_json;
using base::Result;
using base::Status;

constexpr std::size_t kMaxDepth = 8;

// Thrown out of nlohmann's parser by the callback below, the one way to stop it early; caught in
// `parse_document`, never seen outside.
struct Unacceptable {
  std::string why;
};

// Watches a document while it is parsed: refuses nesting before it costs anything, and keys given
// twice, of which every parser keeps another one.
class Watch {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& value) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (static_cast<std::size_t>(depth) >= kMaxDepth) {
        throw Unacceptable{"the document is nested deeper than " + std::to_string(kMaxDepth)};
      }
      keys_.emplace_back();
    } else if (event == Event::object_end || event == Event::array_end) {
      keys_.pop_back();
    } else if (event == Event::key) {
      auto key = value.get<std::string>();
      if (!keys_.back().insert(key).second) {
        throw Unacceptable{"'" + key + "' is given twice"};
      }
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;
};

Result<Json> parse_document(std::string_view text) {
  Watch watch;
  try {
    Json document = Json::parse(text.begin(), text.end(),
                                [&watch](int depth, Json::parse_event_t event, Json& value) {
                                  return watch(depth, event, value);
                                });
    if (!document.is_object()) {
      return base::fail_because("the body is not a JSON object");
    }
    return document;
  } catch (const Unacceptable& refused) {
    return base::fail_because(refused.why);
  } catch (const Json::exception& error) {
    return base::fail_because(std::string("the body is not JSON: ") + error.what());
  }
}

tl::unexpected<base::Error> wrong(std::string_view wanted) {
  return base::fail_because("must be " + std::string(wanted));
}

Status take_text(const Json& value, std::string& text) {
  if (!value.is_string()) {
    return wrong("a string");
  }
  text = value.get<std::string>();
  return {};
}

template <typename Number>
Status take_count(const Json& value, Number& number) {
  if (!value.is_number_unsigned() ||
      value.get<std::uint64_t>() > std::numeric_limits<Number>::max()) {
    return wrong("a whole number, not negative");
  }
  number = value.get<Number>();
  return {};
}

Status take_flag(const Json& value, bool& flag) {
  if (!value.is_boolean()) {
    return wrong("true or false");
  }
  flag = value.get<bool>();
  return {};
}

Status take_bytes(const Json& value, std::uint64_t& bytes) {
  if (value.is_string()) {
    BROOD_TRY(bytes, base::parse_bytes(value.get_ref<const std::string&>()));
    return {};
  }
  return take_count(value, bytes);
}

Status take_cpu(const Json& value, std::uint32_t& milli_cpu) {
  if (value.is_string()) {
    BROOD_TRY(milli_cpu, base::parse_cpu(value.get_ref<const std::string&>()));
    return {};
  }
  const double cpus = value.is_number() ? value.get<double>() : -1;
  if (!(cpus >= 0.001 && cpus <= 1024)) {
    return wrong("a number of CPUs from 0.001 to 1024");
  }
  milli_cpu = static_cast<std::uint32_t>(std::lround(cpus * 1000));
  return {};
}

Status take_duration(const Json& value, std::chrono::milliseconds& span) {
  if (value.is_string()) {
    BROOD_TRY(span, base::parse_duration(value.get_ref<const std::string&>()));
    return {};
  }
  const double seconds = value.is_number() ? value.get<double>() : -1;
  if (!(seconds >= 0 && seconds <= 86'400)) {
    return wrong("a number of seconds from 0 to 86400");
  }
  span = std::chrono::milliseconds(std::llround(seconds * 1000));
  return {};
}

Status take_environment(const Json& value, std::map<std::string, std::string>& environment) {
  if (!value.is_object()) {
    return wrong("an object of strings");
  }
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) {
      return wrong("an object of strings, and '" + key + "' is none");
    }
    environment[key] = text.get<std::string>();
  }
  return {};
}

Status take_code(const Json& value, std::string& digest) {
  digest = value.is_string() ? digest_of(value.get_ref<const std::string&>()) : "";
  if (digest.empty()) {
    return wrong("sha256: and 64 lower-case hexadecimal characters, as POST /code answers them");
  }
  return {};
}

// A port may be said as a number.
Status take_listen(const Json& value, std::string& text) {
  if (value.is_number_unsigned()) {
    text = std::to_string(value.get<std::uint64_t>());
    return {};
  }
  return take_text(value, text);
}

Status take_arguments(const Json& value, std::vector<std::string>& arguments) {
  if (!value.is_array()) {
    return wrong("a list of strings");
  }
  for (const Json& one : value) {
    BROOD_CHECK(take_text(one, arguments.emplace_back()));
  }
  return {};
}

Status take_mode(const Json& value, std::uint32_t& mode) {
  const std::string text = value.is_string() ? value.get<std::string>() : "";
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  if (text.empty() || error != std::errc{} || rest != text.data() + text.size()) {
    return wrong("a mode in octal, as text");
  }
  return {};
}

template <typename Request>
struct Field {
  std::string_view name;
  Status (*take)(const Json& value, Request& request);
};

template <typename Fields, typename Asked>
Status take_field(const Fields& fields, const std::string& name, const Json& value,
                  Asked& request) {
  for (const auto& field : fields) {
    if (field.name != name) {
      continue;
    }
    if (auto taken = field.take(value, request); !taken) {
      return base::fail(std::move(taken.error()).within("'" + name + "'"));
    }
    return {};
  }
  return base::fail_because("there is no field '" + name + "'");
}

template <typename Fields, typename One>
Status take_list(const Fields& fields, const Json& value, std::vector<One>& list) {
  if (!value.is_array()) {
    return wrong("a list of objects");
  }
  for (const Json& object : value) {
    if (!object.is_object()) {
      return wrong("a list of objects");
    }
    One& one = list.emplace_back();
    for (const auto& [key, field] : object.items()) {
      BROOD_CHECK(take_field(fields, key, field, one));
    }
  }
  return {};
}

using agent::Bind;
constexpr std::array<Field<Bind>, 3> kBindFields{{
    {"target", [](const Json& v, Bind& b) { return take_text(v, b.target); }},
    {"descriptor", [](const Json& v, Bind& b) { return take_count(v, b.descriptor); }},
    {"read_only", [](const Json& v, Bind& b) { return take_flag(v, b.read_only); }},
}};
using agent::Tmpfs;
constexpr std::array<Field<Tmpfs>, 4> kTmpfsFields{{
    {"target", [](const Json& v, Tmpfs& t) { return take_text(v, t.target); }},
    {"size", [](const Json& v, Tmpfs& t) { return take_bytes(v, t.bytes); }},
    {"mode", [](const Json& v, Tmpfs& t) { return take_mode(v, t.mode); }},
    {"exec", [](const Json& v, Tmpfs& t) { return take_flag(v, t.exec); }},
}};

using Command = agent::CommandRequest;
constexpr std::array<Field<Command>, 28> kCommandFields{{
    {"image", [](const Json& v, Command& r) { return take_text(v, r.image); }},
    {"arguments", [](const Json& v, Command& r) { return take_arguments(v, r.arguments); }},
    {"entrypoint",
     [](const Json& v, Command& r) { return take_arguments(v, r.entrypoint.emplace()); }},
    {"environment", [](const Json& v, Command& r) { return take_environment(v, r.environment); }},
    {"user", [](const Json& v, Command& r) { return take_text(v, r.user); }},
    {"directory", [](const Json& v, Command& r) { return take_text(v, r.directory); }},
    {"memory", [](const Json& v, Command& r) { return take_bytes(v, r.memory_bytes); }},
    {"cpu", [](const Json& v, Command& r) { return take_cpu(v, r.milli_cpu); }},
    {"pids", [](const Json& v, Command& r) { return take_count(v, r.pids); }},
    {"timeout", [](const Json& v, Command& r) { return take_duration(v, r.timeout); }},
    {"file_size", [](const Json& v, Command& r) { return take_bytes(v, r.file_bytes); }},
    {"cpu_seconds", [](const Json& v, Command& r) { return take_count(v, r.cpu_seconds); }},
    {"binds", [](const Json& v, Command& r) { return take_list(kBindFields, v, r.binds); }},
    {"tmpfs", [](const Json& v, Command& r) { return take_list(kTmpfsFields, v, r.tmpfs); }},
    {"read_only", [](const Json& v, Command& r) { return take_flag(v, r.read_only); }},
    {"name", [](const Json& v, Command& r) { return take_text(v, r.name); }},
    {"detached", [](const Json& v, Command& r) { return take_flag(v, r.detached); }},
    {"input", [](const Json& v, Command& r) { return take_flag(v, r.input); }},
    {"keep", [](const Json& v, Command& r) { return take_flag(v, r.keep); }},
    {"stop_signal", [](const Json& v, Command& r) { return take_text(v, r.stop_signal); }},
    {"terminal", [](const Json& v, Command& r) { return take_flag(v, r.terminal); }},
    {"rows", [](const Json& v, Command& r) { return take_count(v, r.rows); }},
    {"columns", [](const Json& v, Command& r) { return take_count(v, r.columns); }},
    {"network", [](const Json& v, Command& r) { return take_text(v, r.network.mode); }},
    {"publish", [](const Json& v, Command& r) { return take_arguments(v, r.publish); }},
    {"allow", [](const Json& v, Command& r) { return take_arguments(v, r.network.allow); }},
    {"network_rate", [](const Json& v, Command& r) { return take_bytes(v, r.network.rate); }},
    {"network_connections",
     [](const Json& v, Command& r) { return take_count(v, r.network.connections); }},
}};

using Request = agent::DeployRequest;
constexpr std::array<Field<Request>, 18> kFields{{
    {"code", [](const Json& v, Request& r) { return take_code(v, r.code_digest); }},
    {"runtime", [](const Json& v, Request& r) { return take_text(v, r.settings.runtime); }},
    {"handler", [](const Json& v, Request& r) { return take_text(v, r.settings.handler); }},
    {"listen", [](const Json& v, Request& r) { return take_listen(v, r.settings.listen); }},
    {"memory", [](const Json& v, Request& r) { return take_bytes(v, r.settings.memory_bytes); }},
    {"cpu", [](const Json& v, Request& r) { return take_cpu(v, r.settings.milli_cpu); }},
    {"timeout", [](const Json& v, Request& r) { return take_duration(v, r.settings.timeout); }},
    {"pids", [](const Json& v, Request& r) { return take_count(v, r.settings.pids); }},
    {"environment",
     [](const Json& v, Request& r) { return take_environment(v, r.settings.environment); }},
    {"concurrency",
     [](const Json& v, Request& r) { return take_count(v, r.settings.concurrency); }},
    {"queue", [](const Json& v, Request& r) { return take_count(v, r.settings.queue); }},
    {"reuse", [](const Json& v, Request& r) { return take_flag(v, r.settings.reuse); }},
    {"idle", [](const Json& v, Request& r) { return take_duration(v, r.settings.idle); }},
    {"network", [](const Json& v, Request& r) { return take_text(v, r.settings.network); }},
    {"allow", [](const Json& v, Request& r) { return take_arguments(v, r.settings.allow); }},
    {"network_rate",
     [](const Json& v, Request& r) { return take_bytes(v, r.settings.network_rate); }},
    {"network_connections",
     [](const Json& v, Request& r) { return take_count(v, r.settings.network_connections); }},
    {"layers", [](const Json& v, Request& r) { return take_arguments(v, r.settings.layers); }},
}};
constexpr std::array<Field<std::string>, 1> kLayerFields{{{"code", take_code}}};

std::string print(const Json& document) {
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string digest_text(std::string_view digest) {
  return "sha256:" + std::string(digest);
}

double seconds(std::chrono::milliseconds span) {
  return static_cast<double>(span.count()) / 1000;
}

Json settings_of(const agent::FunctionSettings& settings) {
  return {
      {"runtime", settings.runtime},
      {"handler", settings.handler},
      {"listen", settings.listen},
      {"memory", settings.memory_bytes},
      {"cpu", settings.milli_cpu / 1000.0},
      {"timeout", seconds(settings.timeout)},
      {"pids", settings.pids},
      {"environment", Json(settings.environment)},
      {"concurrency", settings.concurrency},
      {"queue", settings.queue},
      {"reuse", settings.reuse},
      {"idle", seconds(settings.idle)},
      {"network", settings.network},
      {"allow", Json(settings.allow)},
      {"network_rate", settings.network_rate},
      {"network_connections", settings.network_connections},
      {"layers", settings.layers},
  };
}

// What its layers' names stood for when it was deployed.
Json layers_of(const agent::Function& function) {
  Json layers = Json::array();
  for (std::size_t i = 0; i < function.layer_digests.size(); ++i) {
    layers.push_back(
        {{"name", function.settings.layers[i]}, {"code", digest_text(function.layer_digests[i])}});
  }
  return layers;
}

Json document_of(const agent::Function& function) {
  return {
      {"name", function.name},
      {"version", function.version},
      {"code", digest_text(function.code_digest)},
      {"deployed_at", base::format_time(function.deployed_at_ms)},
      {"settings", settings_of(function.settings)},
      {"layers", layers_of(function)},
      {"runtime_chosen", function.runtime_chosen},
  };
}

Json document_of(const agent::Layer& layer) {
  return {
      {"name", layer.name},
      {"code", digest_text(layer.digest)},
      {"published_at", base::format_time(layer.published_at_ms)},
  };
}

Json document_of(const agent::LayerStatus& status) {
  Json document = document_of(status.layer);
  document["functions"] = status.functions;
  return document;
}

Json document_of(const agent::FunctionStatus& status) {
  Json document = document_of(status.function);
  document["instances"] = status.instances;
  document["running"] = status.running;
  document["queued"] = status.queued;
  document["invocations"] = status.invocations;
  document["endings"] = Json(status.endings);
  document["limits_not_enforced"] = status.limits_not_enforced;
  return document;
}

Json network_of(const agent::SandboxStatus& status) {
  return {
      {"addresses", Json(status.addresses)},
      {"sent_bytes", status.network.sent_bytes},
      {"sent_packets", status.network.sent_packets},
      {"received_bytes", status.network.received_bytes},
      {"received_packets", status.network.received_packets},
      {"denied_packets", status.network.denied_packets},
  };
}

Json document_of(const agent::SandboxStatus& status) {
  Json document{
      {"id", status.id},
      {"runtime", status.runtime},
      {"function", status.function},
      {"command", status.command},
      {"name", status.name},
      {"state", status.state},
      {"pid", status.pid},
      {"host_uid", status.host_uid},
      {"age_ms", status.age_ms},
      {"memory_bytes", status.memory_bytes},
      {"cpu_us", status.cpu_us},
  };
  if (!status.addresses.empty()) {
    document["network"] = network_of(status);
  }
  return document;
}

Json document_of(const agent::RuntimeStatus& status) {
  return {
      {"name", status.name},
      {"image_digest", status.image_digest},
      {"state", status.state},
      {"problem", status.problem},
      {"zygote_pid", status.zygote_pid},
      {"pool_ready", status.pool_ready},
      {"pool_min", status.pool_min},
      {"pool_max", status.pool_max},
      {"zygote_restarts", status.zygote_restarts},
  };
}

template <typename T>
Json list_of(const std::vector<T>& values) {
  Json list = Json::array();
  for (const T& value : values) {
    list.push_back(document_of(value));
  }
  return list;
}

void add_text(Json& document, const char* key, const std::string& text) {
  if (!text.empty()) {
    document[key] = text;
  }
}

void add_outcome(Json& document, const agent::Outcome& outcome) {
  document["ending"] = agent::ending_name(outcome.ending);
  add_text(document, "type", outcome.error_type);
  add_text(document, "trace", outcome.trace);
  add_text(document, "limit", outcome.limit);
  if (outcome.signal != 0) {
    document["signal"] = outcome.signal;
  }
  add_text(document, "syscall", outcome.syscall);
  add_text(document, "invocation", outcome.invocation_id);
}

}  // namespace

Result<agent::DeployRequest> parse_deploy(std::string name, std::string_view body) {
  BROOD_TRY(const Json document, parse_document(body));
  agent::DeployRequest request;
  request.name = std::move(name);
  for (const auto& [key, value] : document.items()) {
    BROOD_CHECK(take_field(kFields, key, value, request));
  }
  if (request.code_digest.empty()) {
    return base::fail_because("'code' is missing: upload it with POST /code");
  }
  if (std::string problem = agent::validate(request.settings); !problem.empty()) {
    return base::fail_because(std::move(problem));
  }
  return request;
}

Result<std::string> parse_layer(std::string_view body) {
  BROOD_TRY(const Json document, parse_document(body));
  std::string digest;
  for (const auto& [key, value] : document.items()) {
    BROOD_CHECK(take_field(kLayerFields, key, value, digest));
  }
  if (digest.empty()) {
    return base::fail_because("'code' is missing: upload it with POST /code");
  }
  return digest;
}

Result<agent::CommandRequest> parse_execution(std::string_view body) {
  constexpr std::array<std::string_view, 7> kOwn{"arguments", "environment", "directory", "timeout",
                                                 "terminal",  "rows",        "columns"};
  BROOD_TRY(const Json document, parse_document(body));
  for (const auto& [key, value] : document.items()) {
    if (std::find(kOwn.begin(), kOwn.end(), key) == kOwn.end()) {
      return base::fail_because("there is no field '" + key +
                                "' of one more command: the sandbox has it");
    }
  }
  BROOD_TRY(agent::CommandRequest request, parse_command(body));
  if (request.arguments.empty()) {
    return base::fail_because("arguments: there is no command");
  }
  return request;
}

Result<agent::CommandRequest> parse_command(std::string_view body) {
  BROOD_TRY(const Json document, parse_document(body));
  agent::CommandRequest request;
  for (const auto& [key, value] : document.items()) {
    BROOD_CHECK(take_field(kCommandFields, key, value, request));
  }
  if (std::string problem = agent::validate(request); !problem.empty()) {
    return base::fail_because(std::move(problem));
  }
  return request;
}

std::string error_json(const ErrorBody& error) {
  Json document{{"code", error.code}, {"message", error.message}};
  if (error.outcome != nullptr) {
    add_outcome(document, *error.outcome);
  }
  return print({{"error", std::move(document)}});
}

const std::vector<std::string_view>& error_codes() {
  static const std::vector<std::string_view> codes = [] {
    std::vector<std::string_view> all{"bad_request",
                                      "not_found",
                                      "method_not_allowed",
                                      "request_timeout",
                                      "conflict",
                                      "draining",
                                      "invalid_archive",
                                      "unsupported_media_type",
                                      "expectation_failed",
                                      "headers_too_large",
                                      "not_implemented",
                                      "unavailable",
                                      "unsupported_version",
                                      "http_version",
                                      "invalid_argument"};
    for (std::size_t i = 1; i < agent::kEndingCount; ++i) {
      all.push_back(agent::ending_name(static_cast<agent::Ending>(i)));
    }
    return all;
  }();
  return codes;
}

std::string version_json() {
  return print({{"version", BROOD_VERSION}, {"api", 1}});
}

std::string status_json(const agent::AgentStatus& status) {
  return print({
      {"version", status.version},
      {"pid", status.pid},
      {"uptime_ms", status.uptime_ms},
      {"limits", status.limits},
      {"limits_not_enforced", status.limits_not_enforced},
      {"draining", status.draining},
      {"runtimes", list_of(status.runtimes)},
      {"functions", status.functions},
      {"invocations", status.invocations},
  });
}

std::string code_json(std::string_view digest) {
  return print({{"digest", digest_text(digest)}});
}

std::string deployed_json(const agent::Deployed& deployed) {
  return print({{"function", document_of(deployed.function)},
                {"created", deployed.created},
                {"warnings", deployed.warnings}});
}

std::string function_json(const agent::Function& function) {
  return print(document_of(function));
}

std::string function_status_json(const agent::FunctionStatus& status) {
  return print(document_of(status));
}

std::string functions_json(const std::vector<agent::FunctionStatus>& functions) {
  return print({{"functions", list_of(functions)}});
}

std::string command_started_json(const agent::CommandStarted& started) {
  Json document{{"sandbox", started.sandbox}, {"streams", started.streams.size()}};
  add_text(document, "command", started.command);
  if (started.process != 0) {
    document["process"] = started.process;
  }
  return print(document) + "\n";
}

std::string command_end_json(const agent::CommandEnd& end) {
  return print({{"end", agent::document_of(end)}}) + "\n";
}

std::string kept_command_json(const agent::KeptCommand& command) {
  return print(agent::document_of(command));
}

std::string kept_commands_json(const std::vector<agent::KeptCommand>& commands) {
  return print({{"commands", list_of(commands)}});
}

std::string sandboxes_json(const std::vector<agent::SandboxStatus>& sandboxes) {
  return print({{"sandboxes", list_of(sandboxes)}});
}

std::string layer_json(const agent::Layer& layer) {
  return print(document_of(layer));
}

std::string layers_json(const std::vector<agent::LayerStatus>& layers) {
  return print({{"layers", list_of(layers)}});
}

std::string runtimes_json(const std::vector<agent::RuntimeStatus>& runtimes) {
  return print({{"runtimes", list_of(runtimes)}});
}

std::string log_line_json(const agent::LogLine& line, std::string_view tag) {
  Json document{{"sequence", line.sequence}, {"time", base::format_time(line.time_ms)}};
  add_text(document, std::string(tag).c_str(), line.origin);
  document["text"] = line.text;
  if (line.cut) {
    document["cut"] = true;
  }
  return print(document) + "\n";
}

}  // namespace api
