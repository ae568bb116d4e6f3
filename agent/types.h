// The words of the agent as values: what a function is, what an invocation asks, and how it ended.
// Pure: no descriptor, no clock, no I/O.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/network.h"

namespace agent {

// How an invocation ended. A closed set; docs/openapi.yaml has the same names.
enum class Ending {
  ok,
  handler_error,       // the handler raised
  init_error,          // the handler's module could not be loaded
  timeout,             // the function's timeout passed
  out_of_memory,       // the kernel killed for memory.max, or the handler raised MemoryError
  pids_limit,          // the handler failed because pids.max refused it a process
  killed,              // a signal, or a system call that the seccomp filter refuses with death
  payload_too_large,   // the request's body is over the limit
  response_too_large,  // the answer is over the limit
  overloaded,          // the function's queue is full
  protocol_error,      // the sandbox broke the protocol
  internal,            // brood's own fault
};
constexpr std::size_t kEndingCount = 12;

std::string_view ending_name(Ending ending);
std::optional<Ending> ending_of(std::string_view name);
// The HTTP status that carries it: ok 200, handler_error and init_error 500, timeout 504, the rest
// of the sandbox's faults 502, payload_too_large 413, overloaded 429, internal 500.
int http_status_of(Ending ending);
// The exit status of `brood invoke`; 0 for ok, then 10 + its place in the enumeration.
int exit_code_of(Ending ending);

// The stages of an invocation, each a CLOCK_MONOTONIC time in nanoseconds; 0 means: did not happen.
// The last five are told by the sandbox, whose word is hostile: they are clamped into order before
// use.
enum class Stage {
  received,  // the request's head has been parsed
  queued,    // the body is complete; the invocation waits for an instance
  assigned,  // an instance (warm) or a pool sandbox (cold) has been taken
  attached,  // cold: the code is mounted inside
  limited,   // cold: the limits are in its cgroup
  sent,      // the request is in the sandbox's socket
  woken,     // sandbox: the request has been read
  loaded,    // sandbox: cold: the handler's module is loaded
  called,    // sandbox: the handler is about to be called
  returned,  // sandbox: the handler has returned
  encoded,   // sandbox: its answer is encoded
  answered,  // the answer is complete at the agent
};
constexpr std::size_t kStageCount = 12;
std::string_view stage_name(Stage stage);

struct StageTimes {
  std::array<std::int64_t, kStageCount> at{};
  std::int64_t& operator[](Stage stage) { return at[static_cast<std::size_t>(stage)]; }
  std::int64_t operator[](Stage stage) const { return at[static_cast<std::size_t>(stage)]; }
};

// What a function is deployed with. Every field has a bound that `validate` holds.
struct FunctionSettings {
  std::string runtime = "python3";
  // MODULE.FUNCTION; of a native runtime, the program: a path below the code. Empty: what the
  // language calls by default, or the image's own entrypoint.
  std::string handler{};
  // Native runtimes: where the program takes HTTP, a port of the sandbox's loopback or an absolute
  // path of a Unix socket; empty: a process for each invocation.
  std::string listen{};
  std::uint64_t memory_bytes = 128ULL << 20;  // 16 MiB to 64 GiB
  std::uint32_t milli_cpu = 1000;             // 10 to 1024000
  std::uint32_t pids = 64;                    // 4 to 32768; brood's own two processes count
  std::chrono::milliseconds timeout{30'000};  // 1 ms to 15 min
  std::uint32_t concurrency = 8;              // instances at once; 1 to 1000
  std::uint32_t queue = 100;                  // invocations that may wait; 0 to 10000
  bool reuse = true;                          // keep an instance for the next invocation
  std::chrono::milliseconds idle{60'000};     // how long a kept instance may idle; 0 to 24 h
  std::string network = "none";               // NetworkSettings; so are the next three
  std::vector<std::string> allow{};
  std::uint64_t network_rate = 0;
  std::uint32_t network_connections = 1024;
  std::map<std::string, std::string> environment;  // 4 KiB a value, 64 KiB together
  std::vector<std::string> layers{};  // names, at most kMostLayers; a later one lies over those
                                      // before it
};
constexpr std::size_t kMostLayers = 5;

NetworkSettings network_settings(const FunctionSettings& settings);
// The first rule that `settings` breaks, as a sentence that names the field; empty when they are
// fine.
std::string validate(const FunctionSettings& settings);
// Which of the two forms a handler has; both are false where it is neither.
bool is_module_handler(std::string_view text);   // MODULE.FUNCTION
bool is_program_handler(std::string_view text);  // bin/hello
// A function's or runtime's name: [a-z0-9] then up to 62 of [a-z0-9_-]. Empty when fine.
std::string validate_name(std::string_view name);

struct Function {
  std::string name;
  std::uint64_t version = 0;        // counts deployments of this name, from 1
  std::string code_digest;          // sha256 of the archive, 64 hexadecimal characters
  std::int64_t deployed_at_ms = 0;  // Unix time
  FunctionSettings settings;
  // What `settings.layers` stood for when it was deployed, in the same order; as code_digest.
  std::vector<std::string> layer_digests{};
  bool runtime_chosen = false;  // by brood, from the handler's imports: it was asked for "auto"
};

// A tree that functions share (agent/layers.h).
struct Layer {
  std::string name;                  // as a function's
  std::string digest;                // sha256 of the archive, as a function's code
  std::int64_t published_at_ms = 0;  // Unix time
};

enum class ContentKind : std::uint8_t { json, bytes };

// How an invocation ended, with everything that is told to the caller.
struct Outcome {
  Ending ending = Ending::internal;
  std::string message;     // one sentence; empty when ok
  std::string error_type;  // handler_error, init_error: the exception's class
  std::string trace;       // handler_error, init_error: the traceback, bounded
  std::string
      limit;       // timeout: "init" or "handler"; out_of_memory and pids_limit: the limit's value
  int signal = 0;  // killed: the signal
  std::string syscall;  // killed: the system call that was refused
  std::string body;     // ok: the answer
  std::string content_type = "application/json";
  std::string invocation_id;
  std::string sandbox;  // its id; empty where none was assigned: refused, or never made
  bool cold = false;
  StageTimes stages;
};

}  // namespace agent
