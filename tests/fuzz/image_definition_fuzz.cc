// rootfs/images/NAME.toml, derived from itself where it says so. Aborts when a promise of
// rootfs/definition.h does not hold: nothing in it means anything to a shell.
#include "rootfs/definition.h"

#include "tests/fuzz/promise.h"

using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(fuzz::text_of(data, size));
  constexpr std::string_view kForShells = " \t\n\"'`$;&|<>()\\*?[]{}!#~=%";
  const auto is_harmless = [&](const std::string& word) {
    return word.find_first_of(kForShells) == std::string::npos;
  };
  if (const auto definition = rootfs::parse_definition("image", text)) {
    require(is_harmless(definition->from) && is_harmless(definition->suite));
    require(is_harmless(definition->interpreter));
    for (const std::string& package : definition->packages) {
      require(is_harmless(package) && package.front() != '-');
    }
    for (const std::string& module : definition->preload) {
      require(is_harmless(module) && module.front() != '-');
    }
  }
  const auto resolved = rootfs::resolve_definition(
      "image", [&](const std::string&) -> base::Result<std::string> { return text; });
  require(!resolved || resolved->from.empty());
  return 0;
}
