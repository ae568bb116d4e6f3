// Carries bytes between this process's standard streams and a command's, and hands on what concerns
// the command: signals, the size of the terminal.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "cmd/cli/outcome.h"

namespace cli {

struct PumpRequest {
  std::vector<base::UniqueFd> streams;     // three pipes' ends, or a terminal's master
  bool read_input = true;                  // else the command's standard input is empty
  int until_fd = -1;                       // readable: the command has ended, or is about to
  std::function<bool()> ended;             // called then; true: it has, and what is left is drained
  std::function<void(int signal)> signal;  // one that this process was sent
  std::uint64_t output_limit = 0;          // bytes that it may print; 0: no such limit
  std::function<void()> over_limit;        // called once, when it prints more
  std::string detach_keys;                 // a terminal's; see DetachKeys
  std::function<bool()> detach;            // they were typed; true: the command goes on without us
};

enum class Pumped {
  ended,     // the command has, and all that it printed is out
  detached,  // it goes on
};
// A failure is of this side
// alone: the command goes on.
Outcome<Pumped> pump(PumpRequest request);

// The terminal on standard input as a program wants it that hands everything on, for as long as
// this lives; put back also where a signal ends the process.
class RawTerminal {
 public:
  RawTerminal();
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
};

struct TerminalSize {
  std::uint16_t rows = 24;
  std::uint16_t columns = 80;
};
TerminalSize terminal_size();

}  // namespace cli
