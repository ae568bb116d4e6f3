#include "agent/config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "agent/types.h"
#include "base/file.h"
#include "base/toml.h"
#include "base/units.h"

namespace agent {
namespace {

using base::Result;
using base::Status;

constexpr std::uint64_t kMostBytes = 1ULL << 40;

Status take_count(std::string_view text, std::uint32_t least, std::uint32_t most,
                  std::uint32_t& count) {
  std::uint32_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || rest != text.data() + text.size() || value < least || value > most) {
    return base::fail_because("'" + std::string(text) + "' is not a number from " +
                              std::to_string(least) + " to " + std::to_string(most));
  }
  count = value;
  return {};
}

Status take_size(std::string_view text, std::uint64_t most, std::uint64_t& size) {
  BROOD_TRY(const std::uint64_t value, base::parse_bytes(text));
  if (value == 0 || value > most) {
    return base::fail_because("'" + std::string(text) + "' is not between 1B and " +
                              base::format_bytes(most));
  }
  size = value;
  return {};
}

Status take_path(std::string_view text, std::string& path) {
  if (text.empty() || text.front() != '/' || text.find('\0') != std::string_view::npos) {
    return base::fail_because("'" + std::string(text) + "' is not an absolute path");
  }
  path = text;
  return {};
}

// Empty: found or chosen when the agent starts.
Status take_optional_path(std::string_view text, std::string& path) {
  if (text.empty()) {
    path.clear();
    return {};
  }
  return take_path(text, path);
}

Status take_choice(std::string_view text, std::initializer_list<std::string_view> choices,
                   std::string& choice) {
  if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
    std::string all;
    for (const std::string_view each : choices) {
      all += (all.empty() ? "" : ", ") + std::string(each);
    }
    return base::fail_because("'" + std::string(text) + "' is none of " + all);
  }
  choice = text;
  return {};
}

Status take_limits_mode(std::string_view text, AgentConfig& config) {
  std::string choice;
  BROOD_CHECK(take_choice(text, {"enforce", "best-effort"}, choice));
  config.limits = choice == "enforce" ? LimitsMode::enforce : LimitsMode::best_effort;
  return {};
}

Status take_group(std::string_view text, AgentConfig& config) {
  if (text.empty()) {
    return base::fail_because("a group has a name");
  }
  config.group = text;
  return {};
}

std::string quoted(const std::string& text) {
  return "\"" + text + "\"";
}
std::string shown(std::uint64_t bytes) {
  return quoted(base::format_bytes(bytes));
}

using Config = AgentConfig;
constexpr std::uint32_t kMostSandboxes = 30'000;

std::vector<Setting> all_settings() {
  return {
      {"socket", "PATH", "where clients find the agent",
       [](std::string_view t, Config& c) { return take_path(t, c.socket); },
       [](const Config& c) { return quoted(c.socket); }},
      {"group", "NAME", "the group whose members may use the socket, where the host has it",
       take_group, [](const Config& c) { return quoted(c.group); }},
      {"state_dir", "DIR", "what survives a restart: the registry, code, logs",
       [](std::string_view t, Config& c) { return take_path(t, c.state_dir); },
       [](const Config& c) { return quoted(c.state_dir); }},
      {"run_dir", "DIR", "what does not: what is shared by all agents of a host",
       [](std::string_view t, Config& c) { return take_path(t, c.run_dir); },
       [](const Config& c) { return quoted(c.run_dir); }},
      {"images_dir", "DIR", "the images, one folder each",
       [](std::string_view t, Config& c) { return take_path(t, c.images_dir); },
       [](const Config& c) { return quoted(c.images_dir); }},
      {"support_dir", "DIR",
       "the zygote programs, one folder for each language; empty: those that came with broodd",
       [](std::string_view t, Config& c) { return take_optional_path(t, c.support_dir); },
       [](const Config& c) { return quoted(c.support_dir); }},
      {"unpack_program", "PATH",
       "the program that unpacks archives, confined; empty: the one that came with broodd",
       [](std::string_view t, Config& c) { return take_optional_path(t, c.unpack_program); },
       [](const Config& c) { return quoted(c.unpack_program); }},
      {"cgroup_parent", "PATH",
       "the cgroup below which the agent makes its own; empty: where it runs",
       [](std::string_view t, Config& c) { return take_optional_path(t, c.cgroup_parent); },
       [](const Config& c) { return quoted(c.cgroup_parent); }},
      {"limits", "MODE",
       "enforce: do not start on a host that cannot hold functions to their limits; best-effort: "
       "start, and say which are not held",
       take_limits_mode,
       [](const Config& c) {
         return quoted(c.limits == LimitsMode::enforce ? "enforce" : "best-effort");
       }},
      {"max_sandboxes", "N", "sandboxes at once, those in pools included",
       [](std::string_view t, Config& c) {
         return take_count(t, 1, kMostSandboxes, c.max_sandboxes);
       },
       [](const Config& c) { return std::to_string(c.max_sandboxes); }},
      {"max_connections", "N", "clients at once; beyond it the longest idle one is closed",
       [](std::string_view t, Config& c) { return take_count(t, 1, 100'000, c.max_connections); },
       [](const Config& c) { return std::to_string(c.max_connections); }},
      {"payload_limit", "SIZE", "of an invocation's payload",
       [](std::string_view t, Config& c) { return take_size(t, 1ULL << 30, c.payload_limit); },
       [](const Config& c) { return shown(c.payload_limit); }},
      {"response_limit", "SIZE", "of a handler's answer",
       [](std::string_view t, Config& c) { return take_size(t, 1ULL << 30, c.response_limit); },
       [](const Config& c) { return shown(c.response_limit); }},
      {"archive_limit", "SIZE", "of an upload of code",
       [](std::string_view t, Config& c) { return take_size(t, kMostBytes, c.archive_limit); },
       [](const Config& c) { return shown(c.archive_limit); }},
      {"unpacked_limit", "SIZE", "of all files in an upload together",
       [](std::string_view t, Config& c) { return take_size(t, kMostBytes, c.unpacked_limit); },
       [](const Config& c) { return shown(c.unpacked_limit); }},
      {"unpacked_files", "N", "files in an upload",
       [](std::string_view t, Config& c) { return take_count(t, 1, 10'000'000, c.unpacked_files); },
       [](const Config& c) { return std::to_string(c.unpacked_files); }},
      {"drain_timeout", "TIME", "how long a stopping agent waits for running invocations",
       [](std::string_view t, Config& c) -> Status {
         BROOD_TRY(c.drain_timeout, base::parse_duration(t));
         return {};
       },
       [](const Config& c) { return quoted(base::format_duration(c.drain_timeout)); }},
      {"command_idle", "TIME",
       "how long an image that `brood run` has used is kept ready for the next one",
       [](std::string_view t, Config& c) -> Status {
         BROOD_TRY(c.command_idle, base::parse_duration(t));
         return {};
       },
       [](const Config& c) { return quoted(base::format_duration(c.command_idle)); }},
      {"log_level", "LEVEL", "trace, debug, info, warn or error",
       [](std::string_view t, Config& c) {
         return take_choice(t, {"trace", "debug", "info", "warn", "error"}, c.log_level);
       },
       [](const Config& c) { return quoted(c.log_level); }},
      {"log_format", "FORMAT", "text, or json: one object a line",
       [](std::string_view t, Config& c) {
         return take_choice(t, {"text", "json"}, c.log_format);
       },
       [](const Config& c) { return quoted(c.log_format); }},
  };
}

const Setting* find_setting(std::string_view key) {
  const auto& all = settings();
  const auto found = std::find_if(all.begin(), all.end(),
                                  [key](const Setting& setting) { return setting.key == key; });
  return found == all.end() ? nullptr : &*found;
}

// --- the file ------------------------------------------------------------------------------------

std::string place_of(const std::string& file, const toml::source_region& source) {
  return file + ", line " + std::to_string(source.begin.line);
}

// A value as the text that a flag would have: a number means what the same digits mean there.
Result<std::string> text_of(const toml::node& node) {
  if (const auto text = node.value_exact<std::string>()) {
    return *text;
  }
  if (const auto number = node.value_exact<std::int64_t>()) {
    return std::to_string(*number);
  }
  return base::fail_because("is neither a string nor a whole number");
}

Status take_modules(const toml::node& node, std::vector<std::string>& modules) {
  const toml::array* list = node.as_array();
  if (list == nullptr) {
    return base::fail_because("is not a list of modules");
  }
  for (const toml::node& entry : *list) {
    const auto module = entry.value_exact<std::string>();
    const auto fine = [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.';
    };
    if (!module || module->empty() || !std::all_of(module->begin(), module->end(), fine)) {
      return base::fail_because("has an entry that is not a module's name");
    }
    modules.push_back(*module);
  }
  return {};
}

constexpr std::uint32_t kMostPooled = 4096;

Status take_runtime_key(std::string_view key, const toml::node& node, RuntimeConfig& runtime) {
  if (key == "preload") {
    return take_modules(node, runtime.preload);
  }
  if (key != "image" && key != "pool_min" && key != "pool_max") {
    return base::fail_because(
        "is not a key of a runtime; those are image, preload, pool_min and "
        "pool_max");
  }
  BROOD_TRY(const std::string text, text_of(node));
  if (key == "pool_min") {
    return take_count(text, 0, kMostPooled, runtime.pool_min);
  }
  if (key == "pool_max") {
    return take_count(text, 1, kMostPooled, runtime.pool_max);
  }
  runtime.image = text;
  return {};
}

tl::unexpected<base::Error> refuse_key(const std::string& file, std::string_view key,
                                       const toml::source_region& source, base::Error error) {
  return base::fail(
      std::move(error).within(place_of(file, source) + ": '" + std::string(key) + "'"));
}

Result<RuntimeConfig> parse_runtime(std::string_view name, const toml::node& node,
                                    const std::string& file) {
  const toml::table* table = node.as_table();
  if (std::string problem = validate_name(name); table == nullptr || !problem.empty()) {
    return refuse_key(file, name, node.source(),
                      base::Error::because(table == nullptr ? "is not a table" : problem));
  }
  RuntimeConfig runtime;
  runtime.name = name;
  runtime.image = name;
  for (const auto& [key, value] : *table) {
    if (auto taken = take_runtime_key(key.str(), value, runtime); !taken) {
      return refuse_key(file, key.str(), key.source(), std::move(taken.error()));
    }
  }
  if (runtime.pool_min > runtime.pool_max) {
    return refuse_key(file, name, node.source(),
                      base::Error::because("pool_min is over pool_max (which is " +
                                           std::to_string(runtime.pool_max) + ")"));
  }
  return runtime;
}

Status take_runtimes(const toml::node& node, const std::string& file, AgentConfig& config) {
  const toml::table* table = node.as_table();
  if (table == nullptr) {
    return refuse_key(file, "runtimes", node.source(), base::Error::because("is not a table"));
  }
  for (const auto& [name, value] : *table) {
    BROOD_TRY(RuntimeConfig runtime, parse_runtime(name.str(), value, file));
    config.runtimes.push_back(std::move(runtime));
  }
  return {};
}

Status take_setting(std::string_view key, const toml::node& node, AgentConfig& config) {
  const Setting* setting = find_setting(key);
  if (setting == nullptr) {
    return base::fail_because("is not a key of the configuration");
  }
  BROOD_TRY(const std::string text, text_of(node));
  return setting->take(text, config);
}

Status take_file(std::string_view text, const std::string& file, AgentConfig& config) {
  toml::table document;
  try {
    document = base::parse_toml(text, file);
  } catch (const toml::parse_error& error) {
    return base::fail_because(place_of(file, error.source()) + ": " +
                              std::string(error.description()));
  }
  for (const auto& [key, value] : document) {
    if (key.str() == "runtimes") {
      BROOD_CHECK(take_runtimes(value, file, config));
    } else if (auto taken = take_setting(key.str(), value, config); !taken) {
      return refuse_key(file, key.str(), key.source(), std::move(taken.error()));
    }
  }
  return {};
}

// --- the flags, and the whole
// ------------------------------------------------------------------------

std::string flag_of(std::string_view key) {
  std::string flag = "--" + std::string(key);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

Status take_flags(const ConfigSources& sources, AgentConfig& config) {
  for (const auto& [key, text] : sources.flags) {
    const Setting* setting = find_setting(key);
    if (setting == nullptr) {
      return base::fail_because(flag_of(key) + " is not a flag");
    }
    if (auto taken = setting->take(text, config); !taken) {
      return base::fail(std::move(taken.error()).within(flag_of(key)));
    }
  }
  return {};
}

// What no single key can know.
Status check_whole(const AgentConfig& config) {
  for (const RuntimeConfig& runtime : config.runtimes) {
    if (runtime.pool_min > config.max_sandboxes) {
      return base::fail_because(
          "runtime " + runtime.name + " is to keep " + std::to_string(runtime.pool_min) +
              " sandboxes ready, but max_sandboxes is " + std::to_string(config.max_sandboxes),
          "lower its pool_min or raise max_sandboxes");
    }
  }
  return {};
}

}  // namespace

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = all_settings();
  return all;
}

Result<AgentConfig> parse_config(std::string_view text, const std::string& file_name) {
  AgentConfig config;
  BROOD_CHECK(take_file(text, file_name, config));
  BROOD_CHECK(check_whole(config));
  return config;
}

Result<AgentConfig> load_config(const ConfigSources& sources) {
  AgentConfig config;
  if (sources.file) {
    BROOD_TRY(const std::string text, base::read_file(*sources.file));
    BROOD_CHECK(take_file(text, *sources.file, config));
  }
  BROOD_CHECK(take_flags(sources, config));
  BROOD_CHECK(check_whole(config));
  return config;
}

}  // namespace agent
