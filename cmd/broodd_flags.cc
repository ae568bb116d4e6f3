#include "cmd/broodd_flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <string>

namespace {

constexpr int kUsage = 2;
constexpr int kOk = 0;

std::string flag_of(std::string_view key) {
  std::string flag = "--" + std::string(key);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

// The effective configuration, as a file would say it.
void print_config(const agent::AgentConfig& config) {
  for (const agent::Setting& setting : agent::settings()) {
    std::printf("%s = %s\n", std::string(setting.key).c_str(), setting.show(config).c_str());
  }
  for (const agent::RuntimeConfig& runtime : config.runtimes) {
    std::printf("\n[runtimes.%s]\nimage = \"%s\"\npreload = [", runtime.name.c_str(),
                runtime.image.c_str());
    const char* separator = "";
    for (const std::string& module : runtime.preload) {
      std::printf("%s\"%s\"", separator, module.c_str());
      separator = ", ";
    }
    std::printf("]\npool_min = %u\npool_max = %u\n", runtime.pool_min, runtime.pool_max);
  }
}

}  // namespace

std::variant<agent::AgentConfig, int> parse_broodd_flags(int argc, const char* const* argv) {
  CLI::App app("broodd: the brood agent. Runs in the foreground; SIGTERM drains and stops it.");
  app.set_version_flag("--version", "broodd " BROOD_VERSION);
  app.footer("Every flag but --config is also a key of the file, with _ for -; the flag wins.");
  agent::ConfigSources sources;
  app.add_option("--config", sources.file, "the configuration, TOML")->type_name("FILE");
  bool print = false;
  app.add_flag("--print-config", print, "print what would be used, and leave");
  std::map<std::string, std::string> given;
  for (const agent::Setting& setting : agent::settings()) {
    const std::string key(setting.key);
    app.add_option_function<std::string>(
           flag_of(key), [&given, key](const std::string& text) { given[key] = text; },
           std::string(setting.help) + " [" + setting.show({}) + "]")
        ->type_name(std::string(setting.placeholder));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  sources.flags.assign(given.begin(), given.end());
  auto config = agent::load_config(sources);
  if (!config) {
    std::fprintf(stderr, "broodd: %s\n", config.error().message().c_str());
    return kUsage;
  }
  if (print) {
    print_config(*config);
    return kOk;
  }
  return *std::move(config);
}
