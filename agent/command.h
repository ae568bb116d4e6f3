// A command that is run once in a sandbox of its own (`brood run`), as values: what is asked, and
// how it ended. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/network.h"
#include "agent/publish.h"
#include "agent/verdict.h"
#include "base/fd.h"
#include "rootfs/image_config.h"

namespace agent {

// A folder or a file of the host, which the client has opened with its own rights.
struct Bind {
  std::string target;       // absolute; inside
  unsigned descriptor = 0;  // of those that came with the request, from 0
  bool read_only = false;
};
struct Tmpfs {
  std::string target;
  std::uint64_t bytes = 64ULL << 20;  // 4 KiB to 64 GiB
  std::uint32_t mode = 01777;         // of its root
  bool exec = false;
};

struct CommandRequest {
  std::string image = "base";
  std::vector<std::string> arguments;  // the first is looked for in PATH; 128 KiB in all
  // Instead of the image's; {""} for none, as docker has it.
  std::optional<std::vector<std::string>> entrypoint{};
  std::map<std::string, std::string> environment;  // over what every command finds; 64 KiB in all
  std::string user{};       // as docker takes it (rootfs/image_user.h); empty: the image's
  std::string directory{};  // where it starts; absolute; empty: see below
  std::uint64_t memory_bytes = 512ULL << 20;  // 4 MiB to 64 GiB
  std::uint32_t milli_cpu = 1000;             // 10 to 1024000
  std::uint32_t pids = 256;                   // 2 to 32768; brood's own pid 1 counts
  std::chrono::milliseconds timeout{0};       // 0: none; to 24 h
  std::uint64_t file_bytes = 0;               // the largest file it may write; 0: no such limit
  std::uint32_t cpu_seconds = 0;              // of processor time; 0: no such limit
  bool terminal = false;                      // its streams are one terminal, of this size
  std::uint16_t rows = 24;
  std::uint16_t columns = 80;
  std::vector<Bind> binds{};
  std::vector<Tmpfs> tmpfs{};
  bool read_only = false;  // the root; /tmp and /dev/shm stay what they are
  // How it is found again (agent/kept_command.h).
  std::string id{};           // the agent's to give: KeptCommand::id
  std::string name{};         // of its own, among all that are kept; empty: none
  bool detached = false;      // no client has its streams: what it prints goes to a log
  bool input = false;         // detached: its standard input is open, for whoever attaches
  bool keep = false;          // it is known after its end, until it is removed
  std::string stop_signal{};  // what asks it to end: a name or a number; empty: the image's
  unsigned client_uid = 0;
  unsigned client_gid = 0;
  // What came with the request (SCM_RIGHTS); at most kMostBinds.
  std::shared_ptr<const std::vector<base::UniqueFd>> descriptors{};

  NetworkSettings network{};
  std::vector<std::string> publish{};  // network nat: parse_publication; kMostPublished at most
  // The sockets of those, once they are bound.
  std::shared_ptr<std::vector<Published>> published{};

  bool has_mounts() const { return !binds.empty() || !tmpfs.empty() || read_only; }
};
// Where programs are looked for when nobody says where.
constexpr std::string_view kDefaultPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr std::size_t kMostBinds = 16;
constexpr std::size_t kMostTmpfs = 16;

// What the image says, under what is asked, as docker puts them together: its entrypoint before the
// arguments, its command where there are none, its environment under the one asked for, its
// directory where none is said (and / where it says none either). An entrypoint that is asked for
// takes the place of the image's and of its command. What comes out has no entrypoint any more.
CommandRequest resolve(CommandRequest request, const rootfs::ImageConfig& image);

// The first rule that `request` breaks, as a sentence that names the field; empty when it is fine.
// `validate` holds for what a client may ask, `validate_resolved` for what can be run.
std::string validate(const CommandRequest& request);
std::string validate_resolved(const CommandRequest& request);

// How a command ended. A closed set; docs/openapi.yaml has the same names.
enum class CommandEnding {
  exited,         // by itself, with a status
  killed,         // by a signal, or for a system call that no sandbox may make
  timeout,        // its timeout passed
  out_of_memory,  // the kernel killed in it for memory.max
  cancelled,      // whoever asked for it hung up
  internal,       // brood's own fault: it did not run, or not to its end
};
std::string_view command_ending_name(CommandEnding ending);
std::optional<CommandEnding> command_ending_of(std::string_view name);

struct CommandEnd {
  CommandEnding ending = CommandEnding::internal;
  int status = 0;       // exited
  int signal = 0;       // killed
  std::string syscall;  // killed: the system call that was refused
  std::string message;  // one sentence; empty when exited
  // What it used. The processor's time is the kernel's count of the whole sandbox.
  std::uint64_t wall_us = 0;
  std::uint64_t user_us = 0;
  std::uint64_t system_us = 0;
  std::uint64_t memory_peak_bytes = 0;  // of the sandbox; where the host does not count it, the
                                        // largest of the command's own process
  std::uint64_t pids_refusals = 0;      // forks that the limit has refused
  std::optional<netns::PortCounters> network{};  // of network nat
};

// The ending, from what was seen of a command's sandbox by the time it was gone; what it used is
// left to the caller.
CommandEnd judge_command(const Evidence& evidence, const CommandRequest& request);

// As docker and the shells have it: the command's own; 128 and the signal; 124 for a timeout, 137
// for out_of_memory, 125 for brood's own fault.
int exit_code_of(const CommandEnd& end);

// Who it is inside where neither it nor the image says (isolate::SandboxSpec).
constexpr std::uint32_t kInsideUid = 1000;

// Its arguments, each ended by NUL.
std::string command_arguments(const CommandRequest& request);

// What every command finds in its environment, under what the request says; KEY=VALUE, each ended
// by NUL.
std::string command_environment(const CommandRequest& request);

}  // namespace agent
