// A program of the host's that reads what may be hostile (an image's layers, a registry's answers),
// with as little around it as it can do with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace rootfs {

enum class ToolNetwork { none, host };

struct ToolRun {
  std::vector<std::string> arguments;  // the first is a path below /usr
  std::string work;                    // a directory of the host's, which the program has as /work
  std::string input{};                 // a file or directory of the host's: /input; empty: none
  std::string credentials{};           // a file of the host's: /credentials; empty: none
  ToolNetwork network = ToolNetwork::none;
  std::vector<int> capabilities{};  // that it keeps, of root's (CAP_…)
};

// Runs it to its end and answers what it printed on standard output (at most 8 MiB). It has a root
// of its own: the host's /usr and the parts of /etc that a program needs to start and to know
// registries by, read-only; /work, in which no device, set-id bit or executable works; a /proc of
// its own pid namespace; nothing else of the host's, no socket of anybody's and, without
// ToolNetwork::host, no network. The error of a program that fails has the end of what it said.
//
// Fails, and has killed it, when fewer than `kLeaveFree` bytes are left on the work's file system,
// and when a signal was noted (`interrupted`). Needs root. The caller has one thread.
constexpr std::uint64_t kLeaveFree = 256ULL << 20;
base::Result<std::string> run_confined(const ToolRun& run);

// From here on SIGINT, SIGTERM and SIGHUP end what runs confined, and the caller with an error
// instead of at once, so that it can tidy up behind itself.
void note_signals();
// Whether one has come.
bool interrupted();

}  // namespace rootfs
