// broodd.toml. Aborts when a promise of agent/config.h does not hold: what was taken can be shown,
// and is taken again as the same.
#include "agent/config.h"

#include "agent/types.h"
#include "tests/fuzz/promise.h"

using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto config = agent::parse_config(fuzz::text_of(data, size), "broodd.toml");
  if (!config) {
    require(!config.error().message().empty());
    return 0;
  }
  for (const agent::RuntimeConfig& runtime : config->runtimes) {
    require(agent::validate_name(runtime.name).empty());
    require(runtime.pool_min <= runtime.pool_max);
    require(runtime.pool_min <= config->max_sandboxes);
  }
  for (const agent::Setting& setting : agent::settings()) {
    std::string shown = setting.show(*config);
    if (shown.size() >= 2 && shown.front() == '"') {
      shown = shown.substr(1, shown.size() - 2);
    }
    agent::AgentConfig again;
    require(setting.take(shown, again).has_value());
    require(setting.show(again) == setting.show(*config));
  }
  return 0;
}
