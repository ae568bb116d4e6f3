// The agent's configuration: read once, from a file and from flags (which win), into a value with
// units. docs/configuration.md has every key.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace agent {

struct Network;  // agent/network.h

enum class LimitsMode { enforce, best_effort };

// What a runtime's sandboxes are bound to: functions, by the zygote of its image's interpreter, or
// commands, by brood's own.
enum class RuntimeKind { functions, commands };

struct RuntimeConfig {
  std::string name;
  std::string image;                 // a name in images_dir
  std::vector<std::string> preload;  // modules, beside those that the image names
  std::uint32_t pool_min = 4;        // sandboxes kept ready
  std::uint32_t pool_max = 32;       // kept ready when the pool has been found empty lately
  RuntimeKind kind = RuntimeKind::functions;
  // Who runs the handler or the command, inside, and whether Landlock lets it write beside /tmp.
  std::uint32_t uid = 1000;
  std::uint32_t gid = 1000;
  bool writable_root = false;
  bool set_id_refused = false;               // isolate::SetId
  std::shared_ptr<const Network> network{};  // none where there is none
};

struct AgentConfig {
  std::string socket = "/run/brood/brood.sock";
  std::string group = "brood";  // who may use the socket, where the group exists
  std::string state_dir = "/var/lib/brood";
  std::string run_dir = "/run/brood";
  std::string images_dir = "/var/lib/brood/images";
  // Empty: found beside the running program, as it was built or installed (cmd/broodd.cc).
  std::string support_dir;     // holds python/zygote.py, …
  std::string unpack_program;  // brood-unpack
  std::string cgroup_parent;   // empty: the agent's own cgroup
  LimitsMode limits = LimitsMode::enforce;
  std::uint32_t max_sandboxes = 512;
  std::uint32_t max_connections = 1024;
  std::uint64_t payload_limit = 6ULL << 20;  // bytes, as are all limits below
  std::uint64_t response_limit = 6ULL << 20;
  std::uint64_t archive_limit = 64ULL << 20;    // of an upload
  std::uint64_t unpacked_limit = 256ULL << 20;  // of what is in it
  std::uint32_t unpacked_files = 20'000;
  std::chrono::milliseconds drain_timeout{30'000};
  std::chrono::milliseconds command_idle{300'000};
  std::string log_level = "info";       // trace, debug, info, warn, error
  std::string log_format = "text";      // text or json
  std::vector<RuntimeConfig> runtimes;  // others: each image with an interpreter, under its name
};

// One key of the file, and the flag that wins over it: `payload_limit` is --payload-limit.
struct Setting {
  std::string_view key;
  std::string_view placeholder;  // "SIZE", for help
  std::string_view help;
  base::Status (*take)(std::string_view text, AgentConfig& config);
  std::string (*show)(const AgentConfig& config);  // as the file would say it
};
// All but [runtimes.NAME], which only a file has.
const std::vector<Setting>& settings();

struct ConfigSources {
  std::optional<std::string> file;                         // --config; its absence is an error
  std::vector<std::pair<std::string, std::string>> flags;  // key, value; in the order given
};
// Reads the file, then the flags over it, then checks the whole. Refuses what it does not know and
// what cannot be, naming the file with the line, or the flag.
base::Result<AgentConfig> load_config(const ConfigSources& sources);
// The same for a file's text. Pure.
base::Result<AgentConfig> parse_config(std::string_view text, const std::string& file_name);

}  // namespace agent
