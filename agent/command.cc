#include "agent/command.h"

#include <signal.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <set>

#include "agent/kept_command.h"
#include "base/units.h"
#include "rootfs/definition.h"

namespace agent {
namespace {

constexpr std::size_t kMostArgumentBytes = 128 << 10;
constexpr std::size_t kMostEnvironmentBytes = 64 << 10;
constexpr std::chrono::milliseconds kLongestTimeout = std::chrono::hours(24);

constexpr std::array<std::string_view, 6> kEndingNames{"exited",        "killed",    "timeout",
                                                       "out_of_memory", "cancelled", "internal"};

bool has_nul(std::string_view text) {
  return text.find('\0') != std::string_view::npos;
}

std::string check_arguments(const CommandRequest& request) {
  if (!request.arguments.empty() && request.arguments.front().empty()) {
    return "arguments: there is no command";
  }
  std::size_t bytes = 0;
  for (const std::string& argument : request.arguments) {
    bytes += argument.size() + 1;
    if (has_nul(argument)) {
      return "arguments: one has a NUL in it";
    }
  }
  return bytes > kMostArgumentBytes
             ? "arguments: over " + base::format_bytes(kMostArgumentBytes) + " together"
             : "";
}

std::string check_environment(const CommandRequest& request) {
  std::size_t bytes = 0;
  for (const auto& [key, value] : request.environment) {
    bytes += key.size() + value.size() + 2;
    if (key.empty() || key.find('=') != std::string::npos || has_nul(key) || has_nul(value)) {
      return "environment: '" + key + "' is no name, or has a NUL in it or its value";
    }
  }
  return bytes > kMostEnvironmentBytes
             ? "environment: over " + base::format_bytes(kMostEnvironmentBytes) + " together"
             : "";
}

bool lies_in(std::string_view path, std::string_view folder) {
  return path.substr(0, folder.size()) == folder &&
         (path.size() == folder.size() || path[folder.size()] == '/');
}

std::string check_target(const std::string& target) {
  constexpr std::size_t kLongest = 1024;
  if (target.size() < 2 || target.front() != '/' || target.size() > kLongest || has_nul(target)) {
    return "it is mounted at an absolute path of the sandbox that is not /";
  }
  for (std::size_t at = 1; at <= target.size();) {
    const std::size_t end = std::min(target.find('/', at), target.size());
    const std::string_view part = std::string_view(target).substr(at, end - at);
    if (part.empty() || part == "." || part == "..") {
      return "'" + target + "' has an empty part, . or .. in it";
    }
    at = end + 1;
  }
  for (const char* own : {"/proc", "/dev", "/sys"}) {
    if (lies_in(target, own)) {
      return "nothing is mounted in " + std::string(own);
    }
  }
  return {};
}

std::string check_mounts(const CommandRequest& request) {
  std::set<std::string> targets;
  const auto check = [&](const char* field, const std::string& target) {
    if (auto problem = check_target(target); !problem.empty()) {
      return std::string(field) + ": " + problem;
    }
    return targets.insert(target).second
               ? ""
               : std::string(field) + ": '" + target + "' is mounted on twice";
  };
  if (request.binds.size() > kMostBinds || request.tmpfs.size() > kMostTmpfs) {
    return "binds, tmpfs: at most 16 of each";
  }
  for (const Bind& bind : request.binds) {
    if (auto problem = check("binds", bind.target); !problem.empty()) {
      return problem;
    }
  }
  for (const Tmpfs& tmpfs : request.tmpfs) {
    if (auto problem = check("tmpfs", tmpfs.target); !problem.empty()) {
      return problem;
    }
    if (tmpfs.bytes < 4096 || tmpfs.bytes > (64ULL << 30)) {
      return "tmpfs: a size from 4KiB to 64GiB";
    }
    if (tmpfs.mode > 01777) {
      return "tmpfs: a mode from 0 to 1777, in octal";
    }
  }
  return {};
}

std::string check_published(const CommandRequest& request) {
  if (request.publish.size() > kMostPublished) {
    return "publish: at most 16";
  }
  if (!request.publish.empty() && request.network.mode != "nat") {
    return "publish: it is for network nat; a sandbox without one has nothing to be reached by";
  }
  for (const std::string& text : request.publish) {
    if (const auto publication = parse_publication(text); !publication) {
      return publication.error().message();
    }
  }
  return {};
}

CommandEnd ended(CommandEnding ending, std::string message) {
  CommandEnd end;
  end.ending = ending;
  end.message = std::move(message);
  return end;
}

CommandEnd killed_by(int signal) {
  const char* name = ::sigabbrev_np(signal);
  CommandEnd end = ended(
      CommandEnding::killed,
      "the command was killed by signal " + std::to_string(signal) +
          (name != nullptr ? std::string(" (SIG") + name + ")" : std::string{}) +
          (signal == SIGSYS ? ": a system call of another ABI, which no sandbox may make" : ""));
  end.signal = signal;
  return end;
}

}  // namespace

CommandRequest resolve(CommandRequest request, const rootfs::ImageConfig& image) {
  std::vector<std::string> before = request.entrypoint.value_or(image.entrypoint);
  if (before == std::vector<std::string>{""}) {
    before.clear();
  }
  if (request.arguments.empty() && !request.entrypoint) {
    request.arguments = image.command;
  }
  request.arguments.insert(request.arguments.begin(), before.begin(), before.end());
  request.entrypoint.reset();
  for (const std::string& pair : image.environment) {
    const auto equals = pair.find('=');
    request.environment.try_emplace(pair.substr(0, equals), pair.substr(equals + 1));
  }
  if (request.user.empty()) {
    request.user = image.user;
  }
  if (request.directory.empty()) {
    request.directory = image.directory.empty() ? "/" : image.directory;
  }
  if (request.stop_signal.empty()) {
    request.stop_signal = base::parse_signal(image.stop_signal) ? image.stop_signal : "SIGTERM";
  }
  return request;
}

std::string validate(const CommandRequest& request) {
  if (!rootfs::is_image_name(request.image)) {
    return "image: that is not a name for an image";
  }
  if (auto problem = check_arguments(request); !problem.empty()) {
    return problem;
  }
  if (auto problem = check_environment(request); !problem.empty()) {
    return problem;
  }
  if (!request.directory.empty() &&
      (request.directory.front() != '/' || request.directory.size() >= 4096 ||
       has_nul(request.directory))) {
    return "directory: it is an absolute path of the sandbox";
  }
  if (request.user.size() > 128 || has_nul(request.user)) {
    return "user: at most 128 characters";
  }
  if (request.memory_bytes < (4ULL << 20) || request.memory_bytes > (64ULL << 30)) {
    return "memory: from 4MiB to 64GiB";
  }
  if (request.milli_cpu < 10 || request.milli_cpu > 1'024'000) {
    return "cpu: from 0.01 to 1024";
  }
  if (request.pids < 2 || request.pids > 32'768) {
    return "pids: from 2 to 32768";
  }
  if (request.timeout.count() < 0 || request.timeout > kLongestTimeout) {
    return "timeout: at most 24h";
  }
  if (auto problem = check_mounts(request); !problem.empty()) {
    return problem;
  }
  if (!request.name.empty()) {
    if (auto problem = check_command_name(request.name); !problem.empty()) {
      return problem;
    }
  }
  if (!request.stop_signal.empty() && !base::parse_signal(request.stop_signal)) {
    return "stop_signal: a number from 1 to 64, or a name as SIGTERM";
  }
  if (request.input && !request.detached) {
    return "input: of a detached command";
  }
  if (const auto network = network_of(request.network); !network) {
    return network.error().message();
  }
  if (auto problem = check_published(request); !problem.empty()) {
    return problem;
  }
  if (request.terminal && (request.rows == 0 || request.columns == 0)) {
    return "terminal: it has rows and columns";
  }
  return {};
}

std::string validate_resolved(const CommandRequest& request) {
  if (request.arguments.empty()) {
    return "arguments: there is no command, and image '" + request.image + "' has none of its own";
  }
  return validate(request);
}

std::string_view command_ending_name(CommandEnding ending) {
  return kEndingNames[static_cast<std::size_t>(ending)];
}

std::optional<CommandEnding> command_ending_of(std::string_view name) {
  const auto* const found = std::find(kEndingNames.begin(), kEndingNames.end(), name);
  if (found == kEndingNames.end()) {
    return std::nullopt;
  }
  return static_cast<CommandEnding>(found - kEndingNames.begin());
}

CommandEnd judge_command(const Evidence& evidence, const CommandRequest& request) {
  if (!evidence.own_fault.empty()) {
    return ended(CommandEnding::internal, evidence.own_fault);
  }
  if (evidence.cancelled) {
    return ended(CommandEnding::cancelled, "whoever asked for the command hung up");
  }
  if (!evidence.refused_call.empty()) {
    CommandEnd end =
        ended(CommandEnding::killed, "the sandbox was killed for the system call " +
                                         evidence.refused_call + ", which no sandbox may make");
    end.signal = SIGSYS;
    end.syscall = evidence.refused_call;
    return end;
  }
  if (evidence.timed_out) {
    return ended(CommandEnding::timeout, "the command took longer than its timeout of " +
                                             base::format_duration(request.timeout));
  }
  // A command may live on where the kernel has killed a child of it.
  const bool exited = evidence.handler_ended && evidence.handler_signal == 0;
  if (evidence.oom_kills > 0 && !exited) {
    return ended(CommandEnding::out_of_memory, "the sandbox needed more than its memory limit of " +
                                                   base::format_bytes(request.memory_bytes));
  }
  if (!evidence.broken_rule.empty()) {
    return ended(CommandEnding::internal,
                 "the sandbox broke the protocol: " + evidence.broken_rule);
  }
  if (!exited) {
    // Nobody told: pid 1 went without a word, so the whole sandbox was killed from outside.
    return killed_by(evidence.handler_ended ? evidence.handler_signal : SIGKILL);
  }
  CommandEnd end = ended(CommandEnding::exited, "");
  end.status = evidence.handler_status;
  return end;
}

int exit_code_of(const CommandEnd& end) {
  switch (end.ending) {
    case CommandEnding::exited:
      return end.status;
    case CommandEnding::killed:
      return 128 + end.signal;
    case CommandEnding::timeout:
      return 124;
    case CommandEnding::out_of_memory:
    case CommandEnding::cancelled:
      return 128 + SIGKILL;
    case CommandEnding::internal:
      break;
  }
  return 125;
}

std::string command_arguments(const CommandRequest& request) {
  std::string block;
  for (const std::string& argument : request.arguments) {
    block.append(argument).push_back('\0');
  }
  return block;
}

std::string command_environment(const CommandRequest& request) {
  std::map<std::string, std::string> all{{"PATH", std::string(kDefaultPath)},
                                         {"HOME", "/tmp"},
                                         {"TMPDIR", "/tmp"},
                                         {"LANG", "C.UTF-8"}};
  if (request.terminal) {
    all["TERM"] = "xterm";
  }
  for (const auto& [key, value] : request.environment) {
    all[key] = value;
  }
  std::string block;
  for (const auto& [key, value] : all) {
    block.append(key).append("=").append(value).push_back('\0');
  }
  return block;
}

}  // namespace agent
