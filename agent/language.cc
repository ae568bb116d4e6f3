#include "agent/language.h"

namespace agent {
namespace {

// Kept small: what is not needed is not compiled, and a sandbox has few processors. Warnings of
// Node's own are not the function's output.
constexpr const char* kNodeFlags[] = {"--no-warnings", "--v8-pool-size=1", "--eval"};

}  // namespace

Language language_of(std::string_view interpreter) {
  const std::string_view name = interpreter.substr(interpreter.rfind('/') + 1);
  return name.substr(0, 4) == "node" ? Language::node : Language::python;
}

std::string_view support_folder(Language language) {
  switch (language) {
    case Language::node:
      return "node";
    case Language::command:
      return "native";
    case Language::python:
      break;
  }
  return "python";
}

std::vector<std::string> zygote_arguments(Language language, const std::string& interpreter,
                                          std::span<const std::string> preload) {
  if (language == Language::command) {
    return {"/run/brood/brood-zygote"};
  }
  if (language == Language::node) {
    std::vector<std::string> arguments{"/run/brood/brood-zygote", "/run/brood/sandbox.js",
                                       interpreter};
    arguments.insert(arguments.end(), std::begin(kNodeFlags), std::end(kNodeFlags));
    return arguments;
  }
  // -I: nothing of the environment or of the working directory; -B: no byte code is written.
  std::vector<std::string> arguments{interpreter, "-I", "-B", "/run/brood/zygote.py"};
  for (const std::string& module : preload) {
    arguments.insert(arguments.end(), {"--preload", module});
  }
  return arguments;
}

std::vector<std::string> module_candidates(Language language, const std::string& path) {
  if (language == Language::node) {
    return {path + ".js", path + ".mjs", path + ".cjs", path + "/index.js", path + "/index.mjs"};
  }
  return {path + ".py", path + "/__init__.py"};
}

// An ES module is linked and compiled by V8 in one piece with its imports.
bool can_prepare(Language language, std::string_view file) {
  return language != Language::node || !file.ends_with(".mjs");
}

}  // namespace agent
