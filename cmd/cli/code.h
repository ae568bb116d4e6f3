// What is deployed as it is sent: a folder, a file or an archive as one body, and its upload.
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "cmd/cli/client.h"
#include "cmd/cli/outcome.h"

namespace cli {

struct Code {
  base::UniqueFd file;
  std::uint64_t size = 0;
  std::string digest;
  std::string file_name;  // a single file's; empty for an archive
};

// Empty: code of which there is none, for an image that has its own program.
Outcome<Code> prepare_code(const std::string& path);

// Its digest, as the agent has stored it; uploads what the agent has not.
Outcome<std::string> send_code(Client& client, const Code& code);

}  // namespace cli
