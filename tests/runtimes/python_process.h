// A Python process under test, and the agent's end of the sockets that it is driven by.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/protocol.h"
#include "base/fd.h"
#include "base/process.h"

namespace tests {

struct Pair {
  base::UniqueFd ours;
  base::UniqueFd theirs;
};
Pair socket_pair(int type);
Pair pipe_pair();  // ours reads, theirs writes

// Runs the host's Python with `arguments`; the descriptors become 0, 1, 2, …
base::OwnedPid start_python(const std::vector<std::string>& arguments,
                            const std::vector<int>& descriptors);
// The same to its end; `output` is what it wrote to stdout and stderr.
struct Finished {
  base::ProcessEnd end;
  std::string output;
};
Finished run_python(const std::vector<std::string>& arguments);

// A module's source as the marshalled code object that a BIND carries.
std::string marshalled(const std::string& source, const std::string& path);

// What can be read until the other end closes, or until nothing has come for a while.
std::string read_until_quiet(int fd, std::chrono::milliseconds quiet);

// The agent's end of a sandbox's stream socket. A frame that does not come in ten seconds, or that
// breaks the protocol, throws.
class Conn {
 public:
  explicit Conn(base::UniqueFd fd) : fd_(std::move(fd)) {}

  void send(agent::Gather& gather);
  agent::Frame next();
  // True when the other end has closed and nothing was left to read.
  bool closed();
  void close() { fd_.reset(); }

 private:
  bool fill();
  base::UniqueFd fd_;
  agent::FrameReader reader_{8 << 20};
};

}  // namespace tests
