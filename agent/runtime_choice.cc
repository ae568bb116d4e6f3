#include "agent/runtime_choice.h"

#include <algorithm>
#include <tuple>

#include "rootfs/definition.h"

namespace agent {
namespace {

bool is_below(std::string_view module, std::string_view above) {
  return module.size() > above.size() && module.starts_with(above) && module[above.size()] == '.';
}

std::ptrdiff_t held(const std::set<std::string>& imports, const std::vector<std::string>& preload) {
  return std::count_if(imports.begin(), imports.end(), [&](const std::string& wanted) {
    return std::any_of(preload.begin(), preload.end(), [&](const std::string& loaded) {
      return wanted == loaded || is_below(wanted, loaded) || is_below(loaded, wanted);
    });
  });
}

}  // namespace

std::string choose_runtime(const std::set<std::string>& imports,
                           const std::vector<RuntimeCandidate>& candidates) {
  const auto rank = [&](const RuntimeCandidate& one) {
    return std::tuple(-held(imports, one.preload), one.preload.size(), one.name != kPythonRuntime,
                      std::string_view(one.name));
  };
  const auto best =
      std::min_element(candidates.begin(), candidates.end(),
                       [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  return best == candidates.end() ? std::string() : best->name;
}

std::set<std::string> imports_of(std::string_view text) {
  std::set<std::string> imports;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (rootfs::is_module_name(line)) {
      imports.emplace(line);
    }
  }
  return imports;
}

}  // namespace agent
