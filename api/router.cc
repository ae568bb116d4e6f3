#include "api/router.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "agent/types.h"
#include "base/units.h"

namespace api {
namespace {

constexpr std::size_t kMaxTarget = 4096;
constexpr std::string_view kNameSegment = "{name}";
constexpr std::string_view kDigestSegment = "{digest}";
constexpr std::string_view kSandboxSegment = "{sandbox}";
constexpr std::string_view kCommandSegment = "{command}";

tl::unexpected<Refusal> refuse(int status, std::string code, std::string message) {
  return tl::unexpected<Refusal>(Refusal{status, std::move(code), std::move(message), {}});
}

tl::unexpected<Refusal> refuse_argument(std::string message) {
  return refuse(400, "invalid_argument", std::move(message));
}

int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

// Nothing for a broken escape, and for one that makes a byte no name may have: a decoded slash or
// NUL would mean one thing here and another to whoever uses the name.
std::optional<std::string> decode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_value(text[i + 1]);
    const int low = hex_value(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    const char byte = static_cast<char>(high * 16 + low);
    if (byte == '/' || byte == '\0') return std::nullopt;
    decoded += byte;
    i += 2;
  }
  return decoded;
}

// Takes everything up to `separator` off the front of `text`.
std::string_view take_until(std::string_view& text, char separator) {
  const auto end = text.find(separator);
  const std::string_view piece = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  return piece;
}

// What a pattern's placeholders stood for, still encoded.
struct Captures {
  std::optional<std::string_view> name;
  std::optional<std::string_view> digest;
  std::optional<std::string_view> sandbox;
  std::optional<std::string_view> command;
};

bool match(std::string_view pattern, std::string_view path, Captures& captures) {
  if (std::count(pattern.begin(), pattern.end(), '/') !=
      std::count(path.begin(), path.end(), '/')) {
    return false;
  }
  while (!pattern.empty()) {
    const std::string_view expected = take_until(pattern, '/');
    const std::string_view found = take_until(path, '/');
    if (expected == kNameSegment) {
      captures.name = found;
    } else if (expected == kDigestSegment) {
      captures.digest = found;
    } else if (expected == kSandboxSegment) {
      captures.sandbox = found;
    } else if (expected == kCommandSegment) {
      captures.command = found;
    } else if (expected != found) {
      return false;
    }
  }
  return true;
}

template <typename Number>
bool parse_number(std::string_view text, Number limit, Number& number) {
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && rest == text.data() + text.size() && number <= limit;
}

// Empty when `value` was taken, else why not.
std::string take_log_parameter(std::string_view key, std::string_view value, LogQuery& logs) {
  if (key == "tail") {
    return parse_number(value, kMaxLogTail, logs.tail)
               ? std::string()
               : "tail is a number from 0 to " + std::to_string(kMaxLogTail);
  }
  if (key == "after") {
    return parse_number(value, UINT64_MAX, logs.after) ? "" : "after is a line's sequence number";
  }
  logs.follow = value == "true";
  return value == "true" || value == "false" ? "" : "follow is true or false";
}

bool is_sandbox_id(std::string_view text) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyz0123456789._-";
  return !text.empty() && text.size() <= 128 &&
         text.find_first_not_of(kAllowed) == std::string_view::npos;
}

std::string take_parameter(std::string_view key, std::string_view value, Route& route) {
  const bool logs = route.endpoint == Endpoint::logs || route.endpoint == Endpoint::command_logs;
  if (logs && (key == "tail" || key == "after" || key == "follow")) {
    return take_log_parameter(key, value, route.logs);
  }
  if (route.endpoint == Endpoint::upload_code && key == "file") {
    route.file = value;
    return is_file_name(value) ? "" : "file is a file's name without its folder";
  }
  if (route.endpoint == Endpoint::signal && key == "signal") {
    const auto number = base::parse_signal(value);
    route.signal = value == "stop" ? 0 : number.value_or(-1);
    return route.signal >= 0 ? "" : "signal is a number from 1 to 64, a name as TERM, or stop";
  }
  if (route.endpoint == Endpoint::remove_command && key == "force") {
    route.force = value == "true";
    return value == "true" || value == "false" ? "" : "force is true or false";
  }
  if (route.endpoint == Endpoint::signal && key == "process") {
    return parse_number(value, UINT32_MAX, route.process) ? ""
                                                          : "process is the number of an execution";
  }
  return "unknown query parameter '" + std::string(key) + "'";
}

tl::expected<void, Refusal> take_query(std::string_view query, Route& route) {
  std::vector<std::string> seen;
  while (!query.empty()) {
    std::string_view pair = take_until(query, '&');
    const auto key = decode(take_until(pair, '='));
    const auto value = decode(pair);
    if (!key || !value) {
      return refuse_argument("the query has a bad percent-encoding");
    }
    if (std::find(seen.begin(), seen.end(), *key) != seen.end()) {
      return refuse_argument("query parameter '" + *key + "' is given twice");
    }
    if (std::string problem = take_parameter(*key, *value, route); !problem.empty()) {
      return refuse_argument(std::move(problem));
    }
    seen.push_back(*key);
  }
  return {};
}

tl::expected<void, Refusal> take_captures(const Captures& captures, Route& route) {
  if (captures.name) {
    auto name = decode(*captures.name);
    if (!name) {
      return refuse_argument("the path has a bad percent-encoding");
    }
    if (std::string problem = agent::validate_name(*name); !problem.empty()) {
      return refuse_argument(std::move(problem));
    }
    route.name = *std::move(name);
  }
  if (captures.digest) {
    const auto text = decode(*captures.digest);
    route.digest = digest_of(text.value_or(""));
    if (route.digest.empty()) {
      return refuse_argument("code is named by sha256: and 64 lower-case hexadecimal characters");
    }
  }
  if (captures.sandbox) {
    if (!is_sandbox_id(*captures.sandbox)) {
      return refuse_argument("a sandbox's id has letters, digits, '.', '_' and '-'");
    }
    route.sandbox = *captures.sandbox;
  }
  if (captures.command) {
    if (!is_sandbox_id(*captures.command)) {
      return refuse_argument("a command's id or name has letters, digits, '.', '_' and '-'");
    }
    route.command = *captures.command;
  }
  return {};
}

tl::unexpected<Refusal> no_such_path(std::string_view allow) {
  if (allow.empty()) {
    return refuse(404, "not_found", "there is no such path");
  }
  Refusal refusal{405, "method_not_allowed", "this path takes " + std::string(allow),
                  std::string(allow)};
  return tl::unexpected<Refusal>(std::move(refusal));
}

}  // namespace

const std::vector<RoutePattern>& route_patterns() {
  static const std::vector<RoutePattern> patterns{
      {"POST", "/functions/{name}/invocations", Endpoint::invoke},
      {"GET", "/functions/{name}/logs", Endpoint::logs},
      {"GET", "/functions/{name}", Endpoint::describe},
      {"PUT", "/functions/{name}", Endpoint::deploy},
      {"DELETE", "/functions/{name}", Endpoint::remove},
      {"GET", "/functions", Endpoint::list_functions},
      {"POST", "/code", Endpoint::upload_code},
      {"HEAD", "/code/{digest}", Endpoint::has_code},
      {"GET", "/sandboxes", Endpoint::sandboxes},
      {"POST", "/commands", Endpoint::run},
      {"GET", "/commands", Endpoint::list_commands},
      {"GET", "/commands/{command}", Endpoint::inspect_command},
      {"DELETE", "/commands/{command}", Endpoint::remove_command},
      {"GET", "/commands/{command}/wait", Endpoint::wait_command},
      {"GET", "/commands/{command}/logs", Endpoint::command_logs},
      {"POST", "/commands/{command}/attach", Endpoint::attach},
      {"POST", "/commands/{command}/detach", Endpoint::detach},
      {"POST", "/sandboxes/{sandbox}/signal", Endpoint::signal},
      {"POST", "/sandboxes/{sandbox}/commands", Endpoint::execute},
      {"POST", "/sandboxes/{sandbox}/pause", Endpoint::pause},
      {"POST", "/sandboxes/{sandbox}/resume", Endpoint::resume},
      {"GET", "/layers", Endpoint::list_layers},
      {"PUT", "/layers/{name}", Endpoint::publish_layer},
      {"DELETE", "/layers/{name}", Endpoint::remove_layer},
      {"GET", "/runtimes", Endpoint::runtimes},
      {"GET", "/version", Endpoint::version},
      {"GET", "/status", Endpoint::status},
      {"GET", "/metrics", Endpoint::metrics},
  };
  return patterns;
}

tl::expected<Route, Refusal> route(std::string_view method, std::string_view target) {
  if (target.empty() || target.front() != '/' || target.size() > kMaxTarget) {
    return refuse(400, "bad_request", "the request's target is not a path");
  }
  const std::string_view path = take_until(target, '?');
  std::string allow;
  for (const RoutePattern& pattern : route_patterns()) {
    Captures captures;
    if (!match(pattern.path, path, captures)) {
      continue;
    }
    if (pattern.method != method) {
      allow += (allow.empty() ? "" : ", ") + std::string(pattern.method);
      continue;
    }
    Route found;
    found.endpoint = pattern.endpoint;
    if (auto taken = take_captures(captures, found); !taken) {
      return tl::unexpected<Refusal>(std::move(taken.error()));
    }
    if (auto taken = take_query(target, found); !taken) {
      return tl::unexpected<Refusal>(std::move(taken.error()));
    }
    return found;
  }
  return no_such_path(allow);
}

std::string_view digest_of(std::string_view text) {
  constexpr std::string_view kPrefix = "sha256:";
  if (text.substr(0, kPrefix.size()) != kPrefix) {
    return {};
  }
  const std::string_view digits = text.substr(kPrefix.size());
  const bool fine =
      digits.size() == 64 && digits.find_first_not_of("0123456789abcdef") == std::string_view::npos;
  return fine ? digits : std::string_view{};
}

bool is_file_name(std::string_view name) {
  const auto is_control = [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '/';
  };
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), is_control);
}

}  // namespace api
