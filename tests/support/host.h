// What a test sees of its host: processes, as the kernel lists them, and what brood has left.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/support/agent_fixture.h"

namespace tests {

std::vector<pid_t> children_of(pid_t pid);
// Children, and theirs, and so on.
std::vector<pid_t> descendants_of(pid_t pid);
pid_t parent_of(pid_t pid);  // -1: it has ended
bool is_alive(pid_t pid);    // a zombie is not
std::vector<pid_t> zombies_below(pid_t pid);

// kill(2) for one process of a test's own: refuses the numbers that stand for many (0 and below)
// and for init. False when the process has gone.
bool signal_process(pid_t pid, int signal);

// The handler's process of a sandbox whose pid 1 is `init`; -1 when it has none yet or any more.
pid_t handler_of(pid_t init);

// What scripts/leftovers says of this agent's directories: its exit status, and what it printed.
struct Leftovers {
  int status = 0;
  std::string text;
};
Leftovers leftovers_of(const AgentFixture& agent);
Leftovers run_leftovers(const std::string& arguments);

}  // namespace tests
