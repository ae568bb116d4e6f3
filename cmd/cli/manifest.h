// brood.toml: what a function's folder says about how it is deployed. Pure.
//
//     runtime = "python3"
//     handler = "handler.main"
//     memory = "128MiB"
//     layers = ["fonts", "common"]
//     [env]
//     GREETING = "hello"
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>

#include "cmd/cli/outcome.h"

namespace cli {

// The one that is a list.
constexpr std::string_view kListSetting = "allow";

// A setting of a deployment: its name here, as a flag and as a field of the API (which calls `env`
// `environment`), and what kind of value it is.
struct SettingName {
  std::string_view name;
  std::string_view placeholder;
  std::string_view help;
};
constexpr std::array<SettingName, 15> kSettings{{
    {"runtime", "NAME",
     "the language environment it runs in; auto: chosen from a Python handler's imports"},
    {"handler", "MODULE.FUNCTION", "what is called; of a native function, the program to run"},
    {"listen", "PORT|PATH", "native: where the program takes HTTP; else a process per invocation"},
    {"memory", "SIZE", "its memory, such as 128MiB"},
    {"cpu", "CPUS", "its share of processors, such as 0.5"},
    {"timeout", "TIME", "the longest an invocation may take, such as 5s"},
    {"pids", "N", "processes and threads at once"},
    {"concurrency", "N", "instances at once"},
    {"queue", "N", "invocations that may wait for an instance"},
    {"idle", "TIME", "how long an instance is kept for the next invocation"},
    {"network", "MODE", "none, nat, or host-loopback:PORT,…: services of this host"},
    {"allow", "RANGE[:PORT]", "network nat: this and nothing else; may be repeated"},
    {"network_rate", "SIZE", "network nat: at most this much a second, each way"},
    {"network_connections", "N", "network nat: at most this many connections at once"},
    {"reuse", "BOOL", "keep an instance for the next invocation"},
}};

// What is set, by name, each as JSON text (`"128MiB"`, `64`, `true`, `["fonts"]`).
struct Manifest {
  std::map<std::string, std::string> settings;
  std::map<std::string, std::string> environment;
  std::string env_file;  // as written; beside the manifest when it is relative
};

// Refuses, naming the file and the line, a key that it does not know and a value that is neither
// text, number nor boolean. Whether a value makes sense is for the agent to say.
Outcome<Manifest> parse_manifest(std::string_view text, const std::string& file_name);

}  // namespace cli
