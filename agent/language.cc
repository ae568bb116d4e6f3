#include "agent/language.h"

namespace agent {
namespace {

// Kept small: what is not needed is not compiled, and a sandbox has few processors. Warnings of
// Node's own are not the function's output.
constexpr const char* kNodeFlags[] = {"--no-warnings", "--v8-pool-size=1", "--eval"};

}  // namespace

Language language_of(std::string_view interpreter) {
  if (interpreter.empty()) {
    return Language::native;
  }
  const std::string_view name = interpreter.substr(interpreter.rfind('/') + 1);
  return name.substr(0, 4) == "node" ? Language::node : Language::python;
}

std::string fit_settings(Language language, FunctionSettings& settings) {
  if (language == Language::native) {
    return settings.handler.empty() || is_program_handler(settings.handler)
               ? std::string{}
               : "handler: a native function's is the path of a program below the code";
  }
  if (!settings.listen.empty()) {
    return "listen is for native functions; runtime '" + settings.runtime +
           "' calls a function of a module";
  }
  if (settings.handler.empty()) {
    settings.handler = "handler.main";
  }
  return is_module_handler(settings.handler)
             ? std::string{}
             : "handler must be MODULE.FUNCTION, such as handler.main";
}

std::string_view support_folder(Language language) {
  switch (language) {
    case Language::node:
      return "node";
    case Language::native:
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
  if (language == Language::native) {
    return {"/run/brood/brood-zygote", "--functions"};
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
  if (language == Language::native) {
    return {path};
  }
  if (language == Language::node) {
    return {path + ".js", path + ".mjs", path + ".cjs", path + "/index.js", path + "/index.mjs"};
  }
  return {path + ".py", path + "/__init__.py"};
}

// An ES module is linked and compiled by V8 in one piece with its imports.
bool can_prepare(Language language, std::string_view file) {
  return language != Language::native && (language != Language::node || !file.ends_with(".mjs"));
}

}  // namespace agent
