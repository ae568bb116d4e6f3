// A file of KEY=VALUE lines. Aborts when a promise of parse_env_file (cmd/cli/env_file.h) does not
// hold.
#include "cmd/cli/env_file.h"
#include "tests/fuzz/promise.h"

using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto environment = cli::parse_env_file(fuzz::text_of(data, size), ".env");
  if (!environment) {
    require(environment.error().message.rfind(".env, line ", 0) == 0);
    return 0;
  }
  std::string written;
  for (const auto& [key, value] : *environment) {
    require(!key.empty() && key.find_first_of("=\n") == std::string::npos);
    require(value.find('\n') == std::string::npos);
    written.append(key).append("=").append(value).append("\r\n");
  }
  const auto again = cli::parse_env_file(written, ".env");
  require(again && *again == *environment);
  return 0;
}
