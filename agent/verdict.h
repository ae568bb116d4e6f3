// How an invocation ended, told from what is known about its sandbox. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "agent/types.h"

namespace agent {

// Everything the agent has seen by the time the sandbox of a running invocation is gone (or has
// broken the protocol). The first that applies, in this order, is the ending: what the agent did
// itself, what the kernel counted, what pid 1 told, and last what was merely seen.
struct Evidence {
  bool cancelled = false;           // the agent killed it because its caller hung up
  bool timed_out = false;           // the agent killed it at its deadline
  bool loading = false;             // cold, and the handler's module was not loaded yet
  std::string refused_call{};       // the seccomp filter told the agent of this call
  std::string broken_rule{};        // what was wrong with a frame
  std::uint64_t oom_kills = 0;      // memory.events, during this invocation
  std::uint64_t pids_refusals = 0;  // pids.events, during this invocation
  bool handler_ended = false;       // pid 1 told how the handler's process ended:
  int handler_signal = 0;           //   by this signal, or
  int handler_status = 0;           //   with this exit status
  std::string own_fault{};          // brood could not begin, or not go on; says why
  std::uint64_t user_us = 0;        // pid 1's word, as far as it waited: of the handler's process
  std::uint64_t system_us = 0;
  std::uint64_t max_rss_kib = 0;
};

// The settings give the limits that are named in the outcome.
Outcome judge(const Evidence& evidence, const FunctionSettings& settings);

// What becomes of the handler's own error (an exception, told in a RESULT frame) in the light of
// the counters: MemoryError is out_of_memory, and an error after a refused fork is pids_limit.
Ending judge_error(bool while_loading, bool memory_error, std::uint64_t pids_refusals);

}  // namespace agent
