// What a command's request wants mounted beside its sandbox's root.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "agent/command.h"
#include "base/error.h"
#include "base/fd.h"

namespace agent {

struct CommandMounts {
  CommandRequest request;
  base::UniqueFd pidfd;   // of the sandbox's pid 1
  std::uint32_t uid = 0;  // who the command is, in the host's numbers
  std::uint32_t gid = 0;
  int host_mounts = -1;                                                           // borrowed
  std::function<void(const std::string& text)> warn = [](const std::string&) {};  // on any thread
};

// Makes them, in the order of their paths. Blocks, for as long as the file systems of the client's
// folders do, and 5 seconds at most. An error names the target; the sandbox is then of no use.
base::Status make_mounts(const CommandMounts& wanted);

}  // namespace agent
