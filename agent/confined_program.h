// A small program of brood's own that the agent starts as root, that confines itself, and that is
// told by messages what to do: at most one descriptor each, on a SOCK_SEQPACKET socket. It leaves
// when the agent closes its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "base/process.h"

namespace agent {

struct ConfinedOptions {
  std::string program;
  std::string empty_dir;  // becomes its root; made where it is missing
  std::uint32_t uid = 0;  // and gid
  int netns_fd = -1;      // in which it is started; -1: the agent's own
};

struct ConfinedProgram {
  base::OwnedPid process;
  base::UniqueFd control;
};
// Blocks for as long as starting a process takes.
base::Result<ConfinedProgram> start_confined(const ConfinedOptions& options);

enum class WhenFull { wait, fail };
// `fd`: -1 for none; borrowed.
base::Status send_message(int control, const void* message, std::size_t size, int fd,
                          WhenFull when_full);

}  // namespace agent
