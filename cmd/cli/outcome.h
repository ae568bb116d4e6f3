// How a verb of the command line ends: a value, or a message and an exit status. The statuses are
// promised: scripts branch on them.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace cli {

enum class Exit : int {
  ok = 0,
  failed = 1,       // the agent or this program could not do it
  usage = 2,        // the command line makes no sense
  unreachable = 3,  // no agent answers on the socket
  not_found = 4,    // no such function
  refused = 5,      // the agent refuses it: what was sent is invalid, or too large
  // 10 and over: `brood invoke`, by how the invocation ended (agent::exit_code_of)
};

struct Failure {
  int exit = static_cast<int>(Exit::failed);
  std::string message;
};

template <typename T>
using Outcome = tl::expected<T, Failure>;

inline tl::unexpected<Failure> fail(Exit exit, std::string message) {
  return tl::unexpected<Failure>(Failure{static_cast<int>(exit), std::move(message)});
}

}  // namespace cli

// As BROOD_TRY and BROOD_CHECK, for an Outcome.
#define CLI_CONCAT_(a, b) a##b
#define CLI_CONCAT(a, b) CLI_CONCAT_(a, b)
#define CLI_TRY_(name, target, expression)                                       \
  auto name = (expression);                                                      \
  if (!(name)) return tl::unexpected<::cli::Failure>(std::move((name).error())); \
  target = std::move(*(name))
#define CLI_TRY(target, expression) CLI_TRY_(CLI_CONCAT(cli_try_, __LINE__), target, expression)
