// Which Python runtime fits a handler best, by what it imports. Pure.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace agent {

// `runtime` of a function that leaves the choice to brood.
constexpr std::string_view kAutoRuntime = "auto";
// What is chosen where none fits better.
constexpr std::string_view kPythonRuntime = "python3";

struct RuntimeCandidate {
  std::string name;
  std::vector<std::string> preload;  // modules that its zygote has imported
};

// The candidate whose preloads hold the most of `imports` (a module counts as held by itself and by
// any module above or below it); of several the one that preloads the fewest modules, then
// kPythonRuntime, then the first by name. Empty where there is no candidate.
std::string choose_runtime(const std::set<std::string>& imports,
                           const std::vector<RuntimeCandidate>& candidates);

// The module names of a COMPILED frame that tells of imports: one a line. It comes from a sandbox
// that has read hostile source, so what is no module's name is left out.
std::set<std::string> imports_of(std::string_view text);

}  // namespace agent
