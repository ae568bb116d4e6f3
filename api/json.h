// The API's documents: values to JSON and back, as docs/openapi.yaml describes them. Pure. What is
// parsed here is hostile; tests/fuzz runs `parse_deploy` on arbitrary bytes. What is printed may
// hold bytes of a sandbox: text that is not UTF-8 is printed with U+FFFD in the place of bad bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/service.h"
#include "agent/types.h"
#include "base/error.h"

namespace api {

// The version that `Brood-Api-Version` carries.
constexpr std::string_view kApiVersion = "1";

// What PUT /functions/{name} says. Sizes and times may be numbers (bytes, CPUs, seconds) or text
// ("128MiB", "500m", "5s"). Refuses, naming it: a field that is unknown, given twice or of the
// wrong type, a missing `code`, nesting deeper than 8, and settings that break agent::validate.
base::Result<agent::DeployRequest> parse_deploy(std::string name, std::string_view body);

// What PUT /layers/{name} says: the digest of its code. The same rules.
base::Result<std::string> parse_layer(std::string_view body);

// What POST /commands says; the same rules, and agent::validate(CommandRequest).
base::Result<agent::CommandRequest> parse_command(std::string_view body);
// What POST /sandboxes/{sandbox}/commands says: of the same, what is not the sandbox's.
base::Result<agent::CommandRequest> parse_execution(std::string_view body);

// An error's document. `code` is a word of `error_codes`.
struct ErrorBody {
  std::string_view code;
  std::string_view message;
  const agent::Outcome* outcome = nullptr;  // an invocation's; adds what it knows
};
std::string error_json(const ErrorBody& error);
// Every code that an answer's error may carry: the endings, and the words of refusals.
const std::vector<std::string_view>& error_codes();

std::string version_json();
std::string status_json(const agent::AgentStatus& status);
std::string code_json(std::string_view digest);
std::string deployed_json(const agent::Deployed& deployed);
std::string function_json(const agent::Function& function);
std::string function_status_json(const agent::FunctionStatus& status);
std::string functions_json(const std::vector<agent::FunctionStatus>& functions);
// The two lines of a command's answer, their newlines included.
std::string command_started_json(const agent::CommandStarted& started);
std::string command_end_json(const agent::CommandEnd& end);
std::string sandboxes_json(const std::vector<agent::SandboxStatus>& sandboxes);
std::string layer_json(const agent::Layer& layer);
std::string layers_json(const std::vector<agent::LayerStatus>& layers);
std::string runtimes_json(const std::vector<agent::RuntimeStatus>& runtimes);
std::string kept_command_json(const agent::KeptCommand& command);
std::string kept_commands_json(const std::vector<agent::KeptCommand>& commands);
// One line of application/x-ndjson, its newline included. `tag`: the key of the line's.
std::string log_line_json(const agent::LogLine& line, std::string_view tag);

}  // namespace api
