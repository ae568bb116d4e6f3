// The standard streams of a command: three pipes, or one terminal. The agent makes both ends, gives
// one side to the sandbox and the other to the client, and keeps neither: what a command prints
// never passes through the agent, and no descriptor of a client's ever reaches a sandbox.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace agent {

struct CommandStreams {
  std::array<base::UniqueFd, 3> inside;  // standard input, output, error
  std::vector<base::UniqueFd> outside;   // the other ends in that order; or the terminal's master
};

// `host_uid`: whom the inside ends belong to, so that the command may open them again by name
// (/dev/stdout). Needs CAP_CHOWN.
base::Result<CommandStreams> make_pipes(std::uint32_t host_uid);
base::Result<CommandStreams> make_terminal(std::uint32_t host_uid, std::uint16_t rows,
                                           std::uint16_t columns);

// Lets three descriptors go with a message; `room` has CMSG_SPACE(3 * sizeof(int)) bytes, aligned.
void attach_descriptors(msghdr& header, char* room, const std::array<base::UniqueFd, 3>& three);

}  // namespace agent
