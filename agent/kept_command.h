// A command that is known by an id and, if it likes, a name: also while nobody is attached to it,
// and after its end until it is removed. Pure.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "agent/command.h"
#include "base/error.h"

namespace agent {

struct KeptCommand {
  enum class State {
    created,  // it waits for a sandbox
    running,
    ended,
  };
  std::string id;          // 12 hexadecimal digits, of a random number
  CommandRequest request;  // resolved; without what came with it
  State state = State::created;
  bool attached = false;  // a client has its streams
  std::string sandbox;    // its id; empty until it runs
  std::int64_t created_ms = 0;
  std::int64_t started_ms = 0;    // 0: it has not begun
  std::int64_t ended_ms = 0;      // 0: it has not ended
  std::optional<CommandEnd> end;  // there when it has
};

// Whether a request is one for a command that is kept: it is to be found again by a name, after its
// end, without a client, or by one that comes back to its terminal.
bool is_kept(const CommandRequest& request);

std::string new_command_id();
bool is_command_id(std::string_view text);
// The rule that a name breaks, as a sentence; empty when it is fine.
std::string check_command_name(std::string_view name);

// As docs/openapi.yaml has them, which is also how the registry keeps them. What is not UTF-8 is
// printed with U+FFFD in its place.
nlohmann::ordered_json document_of(const CommandEnd& end);
nlohmann::ordered_json document_of(const KeptCommand& command);
base::Result<KeptCommand> kept_command_of(const std::string& text);
std::string text_of(const nlohmann::ordered_json& document);

}  // namespace agent
