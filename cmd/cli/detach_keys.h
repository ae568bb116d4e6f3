// The keys by which whoever sits at a command's terminal leaves it. Pure.
#pragma once

#include <string>
#include <string_view>

#include "cmd/cli/outcome.h"

namespace cli {

// "ctrl-p,ctrl-q", as docker writes them: keys with commas between, each a character, or ctrl- and
// one of a-z, [, \, ], ^ and _. Empty: none.
Outcome<std::string> parse_detach_keys(std::string_view text);

class DetachKeys {
 public:
  explicit DetachKeys(std::string keys = {}) : keys_(std::move(keys)) {}

  // Takes what was typed. What goes on to the command is left in `typed`: a beginning of the keys
  // is kept back until it is known whether they follow. True when they were typed; what came
  // before them is left in `typed`, and what came behind is dropped.
  bool take(std::string& typed);

 private:
  std::string keys_;
  std::size_t seen_ = 0;  // of them, at the end of what was typed so far
};

}  // namespace cli
