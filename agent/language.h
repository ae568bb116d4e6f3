// Which of the runtimes' programs (runtimes/) serves an image, told by its interpreter. Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/types.h"

namespace agent {

enum class Language {
  python,   // a zygote that has booted the interpreter, and forks it
  node,     // brood's own zygote; each sandbox boots the interpreter by itself
  native,   // brood's own zygote; each sandbox waits for a function's program
  command,  // brood's own zygote; each sandbox waits for a command
};

Language language_of(std::string_view interpreter);  // a path inside the image; empty: native

// The runtime that is the image `base` where no image has its name.
constexpr std::string_view kNativeRuntime = "native";

// What of the settings does not fit the language, as a sentence that names the field; sets the
// handler that is called by default where none is said.
std::string fit_settings(Language language, FunctionSettings& settings);

// The folder of its programs below the agent's support directory.
std::string_view support_folder(Language language);

// How its zygote is started inside the image.
std::vector<std::string> zygote_arguments(Language language, const std::string& interpreter,
                                          std::span<const std::string> preload);

// The files, below the code's root, that may hold the module `path` ("a/b"), the likeliest first.
std::vector<std::string> module_candidates(Language language, const std::string& path);
// Whether such a file can be made ready when it is deployed.
bool can_prepare(Language language, std::string_view file);

}  // namespace agent
