// brood.toml, as somebody else's folder may have it. Aborts when a promise of cmd/cli/manifest.h
// does not hold.
#include "cmd/cli/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/fuzz/promise.h"

using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto manifest = cli::parse_manifest(fuzz::text_of(data, size), "brood.toml");
  if (!manifest) {
    require(manifest.error().message.rfind("brood.toml, line ", 0) == 0);
    return 0;
  }
  for (const auto& [name, value] : manifest->settings) {
    require(
        std::any_of(cli::kSettings.begin(), cli::kSettings.end(),
                    [&name = name](const cli::SettingName& known) { return known.name == name; }));
    const auto json = nlohmann::json::parse(value, nullptr, /*allow_exceptions=*/false);
    require(!json.is_discarded() && json.is_primitive());
  }
  return 0;
}
