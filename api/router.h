// From a request line to what it asks for. Pure: no socket, no service; every byte of the target is
// hostile. tests/fuzz runs it on arbitrary bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

namespace api {

// One per operation of docs/openapi.yaml.
enum class Endpoint {
  version,
  status,
  metrics,
  upload_code,
  has_code,
  list_functions,
  deploy,
  describe,
  remove,
  invoke,
  logs,
  sandboxes,
  runtimes,
  run,
  signal,
  pause,
  resume,
  execute,
  list_commands,
  inspect_command,
  wait_command,
  command_logs,
  remove_command,
  attach,
  detach,
  list_layers,
  publish_layer,
  remove_layer,
};

// GET /functions/{name}/logs?tail=N&after=SEQUENCE&follow=true, and /commands/{command}/logs
struct LogQuery {
  std::size_t tail = 100;  // 0 to kMaxLogTail
  std::uint64_t after = 0;
  bool follow = false;
};
constexpr std::size_t kMaxLogTail = 10'000;

struct Route {
  Endpoint endpoint = Endpoint::version;
  std::string name;    // a function's or a layer's, as agent::validate_name allows it
  std::string digest;  // 64 lower-case hexadecimal characters, "sha256:" left out
  std::string file;    // upload_code: a file name without a slash; empty: the body is an archive
  LogQuery logs;
  std::string sandbox;        // an id: [a-z0-9._-], at most 128; or what `command` may be
  std::string command;        // of one that is kept: an id, its beginning, or a name; as `sandbox`
  bool force = false;         // DELETE /commands/{command}?force=true
  std::uint32_t process = 0;  // signal: of an execution; 0: the command's
  // POST /sandboxes/{sandbox}/signal?signal=N: 1 to 64, or a name as "TERM"; 0, for "stop": the one
  // that asks this command to end.
  int signal = 15;
};

// Why a request is refused before anything is asked of the service.
struct Refusal {
  int status = 400;
  std::string code;  // a word of docs/openapi.yaml
  std::string message;
  std::string allow;  // 405: the methods that the path has
};

// `target` is in origin form. Only exact paths are known: no "//", no dot segments, no trailing
// slash; percent-encoding is decoded once, inside a segment, and may not make a slash or a NUL. An
// unknown or repeated query parameter is refused by name.
tl::expected<Route, Refusal> route(std::string_view method, std::string_view target);

// "sha256:" and 64 lower-case hexadecimal characters. Gives the latter; empty when it is not that.
std::string_view digest_of(std::string_view text);

// A single path segment that can name a file: not empty, not "." or "..", no slash, no control
// character, at most 255 bytes.
bool is_file_name(std::string_view name);

struct RoutePattern {
  std::string_view method;
  std::string_view path;  // as docs/openapi.yaml writes it: "/functions/{name}"
  Endpoint endpoint;
};
const std::vector<RoutePattern>& route_patterns();

}  // namespace api
