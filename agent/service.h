// What the agent does, as its HTTP surface calls it. Everything runs on the one event-loop thread;
// a completion is called on that thread, once, and never before the call that took it has returned.
// Unless said otherwise a failure's `Failure::status` is the HTTP status that fits it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "agent/command.h"
#include "agent/kept_command.h"
#include "agent/types.h"
#include "base/fd.h"
#include "netns/router.h"

namespace agent {

// A refusal: `code` is a stable word of docs/openapi.yaml (not_found, invalid_argument, conflict,
// …).
struct Failure {
  int status = 500;
  std::string code = "internal";
  std::string message;
};

template <typename T>
using Completion = std::function<void(tl::expected<T, Failure>)>;

struct InvocationRequest {
  std::string function;
  std::string body;
  bool body_refused = false;  // it is over the payload limit, and has not been read
  ContentKind kind = ContentKind::json;
  std::string content_type = "application/json";
  std::int64_t received_ns = 0;  // CLOCK_MONOTONIC, when the head was parsed
  unsigned client_uid = 0;
};

// A running or queued invocation that its caller can leave: dropping interest does not stop it,
// `cancel` does (a client that hung up: a queued one is forgotten, a running one's sandbox is
// killed).
class InvocationHandle {
 public:
  virtual ~InvocationHandle() = default;
  virtual void cancel() = 0;
};

// A command that runs or waits to. `cancel`: its caller has hung up, and it is killed.
class CommandHandle {
 public:
  virtual ~CommandHandle() = default;
  virtual void cancel() = 0;
};

struct CommandStarted {
  std::string sandbox;                  // its id
  std::string command{};                // the id of one that is kept
  std::vector<base::UniqueFd> streams;  // the caller's: see CommandStreams::outside; none of one
                                        // that was started detached
  std::uint32_t process = 0;            // of an `exec`: its number in the sandbox
};
struct CommandCallbacks {
  std::function<void(CommandStarted)> started;
  std::function<void(CommandEnd)> done;
};

struct DeployRequest {
  std::string name;
  std::string code_digest;
  FunctionSettings settings;
  unsigned client_uid = 0;
};

struct Deployed {
  Function function;
  bool created = false;               // false: it replaced an earlier version
  std::vector<std::string> warnings;  // e.g. the handler's file does not compile
};

struct LayerStatus {
  Layer layer;
  std::vector<std::string> functions;  // that use it, by name
};

struct FunctionStatus {
  Function function;
  std::uint32_t instances = 0;  // bound sandboxes
  std::uint32_t running = 0;    // of those, with an invocation
  std::uint32_t queued = 0;
  std::uint64_t invocations = 0;                 // since the agent started
  std::map<std::string, std::uint64_t> endings;  // by ending_name
  std::vector<std::string> limits_not_enforced;  // "memory", "cpu", "pids", "io"
};

struct SandboxStatus {
  std::string id;
  std::string runtime;
  std::string function;        // empty: in the pool
  std::string command;         // what `brood run` started in it
  std::string name;            // of a command that is kept: its name, or else its id
  std::string state;           // starting, pool, idle, running, paused, ending
  int pid = 0;                 // pid 1 of the sandbox, as the host numbers it
  std::uint32_t host_uid = 0;  // first uid of its range
  std::int64_t age_ms = 0;
  std::uint64_t memory_bytes = 0;  // 0 where the host does not count it
  std::uint64_t cpu_us = 0;
  std::vector<std::string> addresses;  // network nat: its own, IPv4 first
  netns::PortCounters network;         // of the same; as of a second ago
};

struct RuntimeStatus {
  std::string name;
  std::string image_digest;
  std::string state;  // starting, ready, backing_off, failed
  std::string problem;
  int zygote_pid = 0;
  std::uint32_t pool_ready = 0;
  std::uint32_t pool_min = 0;
  std::uint32_t pool_max = 0;
  std::uint64_t zygote_restarts = 0;
};

struct AgentStatus {
  std::string version;
  int pid = 0;
  std::int64_t uptime_ms = 0;
  std::string limits;  // enforce or best-effort
  std::vector<std::string> limits_not_enforced;
  bool draining = false;
  std::vector<RuntimeStatus> runtimes;
  std::uint64_t functions = 0;
  std::uint64_t invocations = 0;
};

// One line of a function's or a kept command's log, as JSON lines carry it.
struct LogLine {
  std::uint64_t sequence = 0;  // rises within a log; a gap means that lines were rotated away
  std::int64_t time_ms = 0;
  std::string origin;  // a function's: the invocation, or empty while none ran; a command's:
                       // stdout or stderr
  std::string text;    // without its newline; valid UTF-8
  bool cut = false;    // the line was longer than a log line may be
};

// Receives an archive piece by piece (into a file, hashed as it comes). Dropped unfinished, it
// leaves nothing.
class Upload {
 public:
  virtual ~Upload() = default;
  // False once the limit on archives is passed; the caller then answers 413.
  virtual bool write(std::string_view bytes) = 0;
  // Unpacks in a confined child and stores the code by its digest ("sha256:" left out). A file name
  // is taken for a body that is no archive: the code is then that single file.
  virtual void finish(std::string file_name, Completion<std::string> done) = 0;
};

// The commands that are kept (agent/kept_command.h). `which`: an id, the beginning of one that no
// other id has, or a name; 404 where it is none.
class KeptCommands {
 public:
  virtual ~KeptCommands() = default;

  virtual std::vector<KeptCommand> list() const = 0;  // the oldest first
  virtual tl::expected<KeptCommand, Failure> find(std::string_view which) const = 0;
  // `done` is called with the command once it has ended, unless the token was dropped before.
  virtual tl::expected<std::shared_ptr<void>, Failure> wait(
      std::string_view which, std::function<void(const KeptCommand&)> done) = 0;
  enum class Running { refuse, kill };
  // Forgets it and its log. 409 while it runs, unless it is to be killed.
  virtual void remove(std::string_view which, Running running, Completion<KeptCommand> done) = 0;

  // Gives the caller the streams of a command that was started detached or was left: what it
  // prints goes to the caller, and not to its log. Of one without a terminal, standard input can
  // be had once. 409 where somebody has them, and where there are none. `cancel` leaves it, and
  // the command goes on.
  virtual tl::expected<std::shared_ptr<CommandHandle>, Failure> attach(
      std::string_view which, CommandCallbacks callbacks) = 0;
  // Whoever is attached to its terminal leaves, and the command goes on; 409 where nobody is.
  virtual tl::expected<void, Failure> detach(std::string_view which) = 0;

  // As the Service's of these names. `more` is also called when the command has ended.
  virtual tl::expected<std::vector<LogLine>, Failure> logs(std::string_view which, std::size_t tail,
                                                           std::uint64_t after_sequence) const = 0;
  virtual std::shared_ptr<void> follow_logs(std::string_view which, std::function<void()> more) = 0;
};

class Service {
 public:
  virtual ~Service() = default;

  virtual std::unique_ptr<Upload> begin_upload() = 0;
  virtual bool has_code(std::string_view digest) const = 0;

  virtual void deploy(DeployRequest request, Completion<Deployed> done) = 0;
  virtual void remove(std::string name, Completion<Function> done) = 0;
  // Of uploaded code (`digest`): a layer, in the place of the one of its name.
  virtual void publish_layer(std::string name, std::string digest, Completion<Layer> done) = 0;
  virtual void remove_layer(std::string name, Completion<Layer> done) = 0;
  virtual std::vector<LayerStatus> layers() const = 0;
  virtual std::vector<FunctionStatus> list() const = 0;
  virtual tl::expected<FunctionStatus, Failure> describe(std::string_view name) const = 0;

  // `done` gets an Outcome for every ending of the closed set; nothing else is a result of
  // invoking, but for a function that does not exist: then the call answers nullptr and `done` is
  // never called.
  virtual std::shared_ptr<InvocationHandle> invoke(InvocationRequest request,
                                                   std::function<void(Outcome&&)> done) = 0;
  virtual std::uint64_t payload_limit() const = 0;  // bytes

  // Refuses what cannot be asked; what goes wrong later is an ending.
  virtual tl::expected<std::shared_ptr<CommandHandle>, Failure> run(CommandRequest request,
                                                                    CommandCallbacks callbacks) = 0;
  // The rest is of a sandbox that runs a command, by its id; 404 for any other.
  // One more command in it: what the request says of image and limits does not count.
  virtual tl::expected<std::shared_ptr<CommandHandle>, Failure> execute(
      std::string_view sandbox, CommandRequest request, CommandCallbacks callbacks) = 0;
  // `sandbox`: also the id or the name of a command that is kept.
  // `process`: 0 for the command, else the number of one that was executed. `number`: 0 for the
  // signal that asks the command to end.
  virtual tl::expected<void, Failure> signal(std::string_view sandbox, std::uint32_t process,
                                             int number) = 0;
  virtual tl::expected<void, Failure> set_paused(std::string_view sandbox, bool paused) = 0;
  virtual KeptCommands& kept_commands() = 0;
  virtual const KeptCommands& kept_commands() const = 0;

  virtual std::vector<SandboxStatus> sandboxes() const = 0;
  virtual AgentStatus status() const = 0;
  virtual std::string metrics() const = 0;  // Prometheus text format

  // The last `tail` lines after `after_sequence`, oldest first; 404 for a function never known.
  virtual tl::expected<std::vector<LogLine>, Failure> logs(std::string_view name, std::size_t tail,
                                                           std::uint64_t after_sequence) const = 0;
  // Calls `more` whenever the function's log has grown, until the returned token is dropped.
  virtual std::shared_ptr<void> follow_logs(std::string_view name, std::function<void()> more) = 0;
};

}  // namespace agent
