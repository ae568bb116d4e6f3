#include "agent/verdict.h"

#include <signal.h>

#include <cstring>

#include "base/units.h"

namespace agent {
namespace {

Outcome outcome(Ending ending, std::string message) {
  Outcome result;
  result.ending = ending;
  result.message = std::move(message);
  return result;
}

Outcome timed_out(const Evidence& evidence, const FunctionSettings& settings) {
  Outcome result = outcome(Ending::timeout,
                           std::string(evidence.loading ? "loading the handler" : "the handler") +
                               " took longer than the function's timeout of " +
                               base::format_duration(settings.timeout));
  result.limit = evidence.loading ? "init" : "handler";
  return result;
}

Outcome out_of_memory(const FunctionSettings& settings) {
  Outcome result =
      outcome(Ending::out_of_memory, "the sandbox needed more than its memory limit of " +
                                         base::format_bytes(settings.memory_bytes));
  result.limit = base::format_bytes(settings.memory_bytes);
  return result;
}

Outcome pids_limit(const FunctionSettings& settings) {
  Outcome result = outcome(Ending::pids_limit, "the sandbox needed more than its limit of " +
                                                   std::to_string(settings.pids) + " processes");
  result.limit = std::to_string(settings.pids);
  return result;
}

Outcome killed_by(int signal) {
  const char* name = ::sigabbrev_np(signal);
  std::string message = "the handler's process was killed by signal " + std::to_string(signal) +
                        (name != nullptr ? std::string(" (SIG") + name + ")" : std::string{});
  if (signal == SIGSYS) {
    message += ": a system call of another ABI, which no sandbox may make";
  }
  Outcome result = outcome(Ending::killed, std::move(message));
  result.signal = signal;
  return result;
}

Outcome exited(const Evidence& evidence) {
  Outcome result = outcome(evidence.loading ? Ending::init_error : Ending::handler_error,
                           "the handler's process left with status " +
                               std::to_string(evidence.handler_status) + " instead of answering");
  result.error_type = "ProcessExit";
  return result;
}

}  // namespace

Outcome judge(const Evidence& evidence, const FunctionSettings& settings) {
  if (!evidence.own_fault.empty()) {
    return outcome(Ending::internal, evidence.own_fault);
  }
  if (evidence.cancelled) {
    Outcome result = outcome(Ending::killed, "the caller hung up before the answer");
    result.signal = SIGKILL;
    return result;
  }
  if (!evidence.refused_call.empty()) {
    Outcome result =
        outcome(Ending::killed, "the sandbox was killed for the system call " +
                                    evidence.refused_call + ", which no sandbox may make");
    result.signal = SIGSYS;
    result.syscall = evidence.refused_call;
    return result;
  }
  if (evidence.oom_kills > 0) {
    return out_of_memory(settings);
  }
  if (evidence.timed_out) {
    return timed_out(evidence, settings);
  }
  if (!evidence.broken_rule.empty()) {
    return outcome(Ending::protocol_error,
                   "the sandbox broke the protocol: " + evidence.broken_rule);
  }
  if (evidence.pids_refusals > 0) {
    return pids_limit(settings);
  }
  if (evidence.handler_ended) {
    return evidence.handler_signal != 0 ? killed_by(evidence.handler_signal) : exited(evidence);
  }
  // Nobody told: pid 1 went without a word, so the whole sandbox was killed from outside.
  return killed_by(SIGKILL);
}

Ending judge_error(bool while_loading, bool memory_error, std::uint64_t pids_refusals) {
  if (memory_error) {
    return Ending::out_of_memory;
  }
  if (pids_refusals > 0) {
    return Ending::pids_limit;
  }
  return while_loading ? Ending::init_error : Ending::handler_error;
}

}  // namespace agent
