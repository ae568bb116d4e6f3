#include "agent/command_runner.h"

#include <fcntl.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <csignal>
#include <utility>

#include "agent/clock.h"
#include "agent/command_mounts.h"
#include "agent/command_streams.h"
#include "base/units.h"

namespace agent {
namespace {

constexpr std::size_t kShownCommand = 200;

std::string shown(const std::vector<std::string>& arguments) {
  std::string text;
  for (const std::string& argument : arguments) {
    text += (text.empty() ? "" : " ") + argument;
  }
  return printable(text, kShownCommand);
}

}  // namespace

CommandRunner::CommandRunner(CommandContext context, SandboxSource& source, CommandRequest request,
                             CommandCallbacks callbacks)
    : context_(std::move(context)),
      source_(source),
      request_(std::move(request)),
      callbacks_(std::move(callbacks)),
      timeout_(context_.loop) {}

void CommandRunner::start() {
  self_ = shared_from_this();
  context_.count_running(1);
  boost::asio::post(context_.loop, [self = self_] { self->take_sandbox(); });
}

void CommandRunner::take_sandbox() {
  if (self_ == nullptr) {
    return;
  }
  if (const auto sandbox = source_.take(this)) {
    (void)offer(sandbox);
  } else {
    source_.claim(weak_from_this());
  }
}

bool CommandRunner::offer(const std::shared_ptr<Sandbox>& sandbox) {
  if (self_ == nullptr) {
    return false;  // cancelled while it waited
  }
  sandbox_ = sandbox;
  sandbox->set_owner(this);
  if (request_.published != nullptr && !request_.published->empty()) {
    context_.publish(sandbox->wire, std::move(request_.published));
  }
  request_.has_mounts() ? mount(*sandbox) : begin_or_kill(*sandbox);
  return true;
}

void CommandRunner::begin_or_kill(Sandbox& sandbox) {
  if (const base::Status status = begin(sandbox); !status) {
    sandbox.evidence().own_fault = "starting the command: " + status.error().message();
    sandbox.kill();
  }
}

// The sandbox may end meanwhile, and another take its number: the pidfd is of this one.
void CommandRunner::mount(Sandbox& sandbox) {
  const auto job = std::make_shared<const CommandMounts>(
      CommandMounts{.request = request_,
                    .pidfd = base::UniqueFd(::fcntl(sandbox.pidfd(), F_DUPFD_CLOEXEC, 0)),
                    .uid = sandbox.host_uid() + sandbox.inside_uid,
                    .gid = sandbox.host_uid() + sandbox.inside_gid,
                    .host_mounts = context_.host_mounts,
                    .warn = context_.warn});
  context_.mounter->run([job] { return make_mounts(*job); },
                        [self = shared_from_this()](const base::Status& made) {
                          if (self->sandbox_ == nullptr) {
                            return;  // it has gone, and that was told
                          }
                          // The client's folders are the sandbox's mounts by now, or nobody's.
                          self->request_.descriptors = nullptr;
                          if (made) {
                            return self->begin_or_kill(*self->sandbox_);
                          }
                          self->sandbox_->evidence().own_fault = made.error().message();
                          self->sandbox_->kill();
                        });
}

base::Status CommandRunner::begin(Sandbox& sandbox) {
  struct Payload {
    std::string arguments;
    std::string environment;
  };
  const std::uint32_t uid = sandbox.host_uid() + sandbox.inside_uid;
  BROOD_TRY(CommandStreams streams, request_.terminal
                                        ? make_terminal(uid, request_.rows, request_.columns)
                                        : make_pipes(uid));
  FunctionSettings limits;
  limits.memory_bytes = request_.memory_bytes;
  limits.milli_cpu = request_.milli_cpu;
  limits.pids = request_.pids;
  BROOD_CHECK(sandbox.limit(limits));
  const auto payload = std::make_shared<Payload>(
      Payload{command_arguments(request_), command_environment(request_)});
  BROOD_CHECK(sandbox.gather().run(
      {.arguments = payload->arguments,
       .environment = payload->environment,
       .directory = request_.directory,
       .limits = {.memory_bytes = request_.memory_bytes,
                  .file_bytes = request_.file_bytes,
                  .cpu_seconds = request_.cpu_seconds,
                  .pids = request_.pids},
       .soft_limits = context_.soft_limits ? SoftLimits::wanted : SoftLimits::unneeded,
       .terminal = request_.terminal}));
  sandbox.mark_counters();
  sandbox.command = shown(request_.arguments);
  sandbox.name = request_.name.empty() ? request_.id : request_.name;
  sandbox.stop_signal = base::parse_signal(request_.stop_signal).value_or(SIGTERM);
  sandbox.set_state(Sandbox::State::running);
  began_ns_ = monotonic_ns();
  sandbox.send_command(payload, std::move(streams.inside));
  arm_timeout();
  callbacks_.started({.sandbox = sandbox.id(), .streams = std::move(streams.outside)});
  return {};
}

void CommandRunner::arm_timeout() {
  if (request_.timeout.count() == 0) {
    return;
  }
  timeout_.expires_after(request_.timeout);
  timeout_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (!error && self->sandbox_ != nullptr) {
      self->sandbox_->evidence().timed_out = true;
      self->sandbox_->kill();
    }
  });
}

void CommandRunner::cancel() {
  if (sandbox_ != nullptr) {
    sandbox_->evidence().cancelled = true;
    sandbox_->kill();
  } else if (self_ != nullptr) {
    Evidence evidence;
    evidence.cancelled = true;
    end(judge_command(evidence, request_));
  }
}

void CommandRunner::stop() {
  if (sandbox_ != nullptr) {
    sandbox_->evidence().own_fault = "the agent stopped before the command had ended";
    sandbox_->kill();
  } else {
    refuse("the agent is stopping");
  }
}

void CommandRunner::refuse(const std::string& problem) {
  Evidence evidence;
  evidence.own_fault = problem;
  boost::asio::post(context_.loop, [self = shared_from_this(),
                                    end = judge_command(evidence, request_)] { self->end(end); });
}

void CommandRunner::on_ready(Sandbox& sandbox) {
  sandbox.kill();
}
void CommandRunner::on_loaded(Sandbox& sandbox) {
  sandbox.kill();
}
void CommandRunner::on_answer(Sandbox& sandbox, Frame /*frame*/) {
  sandbox.kill();
}
void CommandRunner::on_output(Sandbox& /*sandbox*/, std::string_view /*bytes*/) {}

void CommandRunner::on_gone(Sandbox& sandbox) {
  const auto self = shared_from_this();
  const auto keep = std::exchange(sandbox_, nullptr);
  CommandEnd told = measured(sandbox);
  if (sandbox.wire == nullptr || !sandbox.wire->port) {
    source_.retire(sandbox);
    return end(std::move(told));
  }
  // Asked for before the wire is given up.
  context_.count_wire(sandbox.wire,
                      [self, told = std::move(told)](netns::PortCounters counted) mutable {
                        told.network = counted;
                        self->end(std::move(told));
                      });
  source_.retire(sandbox);
}

CommandEnd CommandRunner::measured(Sandbox& sandbox) const {
  const Evidence& evidence = sandbox.evidence();
  CommandEnd told = judge_command(evidence, request_);
  told.wall_us = began_ns_ == 0 ? 0 : static_cast<std::uint64_t>(monotonic_ns() - began_ns_) / 1000;
  told.user_us = evidence.user_us;
  told.system_us = evidence.system_us;
  told.memory_peak_bytes = evidence.max_rss_kib << 10;
  told.pids_refusals = evidence.pids_refusals;
  if (const auto usage = sandbox.usage()) {
    told.user_us = std::max(told.user_us, usage->cpu.user_us);
    told.system_us = std::max(told.system_us, usage->cpu.system_us);
    told.memory_peak_bytes = usage->memory_peak_bytes.value_or(told.memory_peak_bytes);
  }
  return told;
}

void CommandRunner::end(CommandEnd end) {
  const auto self = std::exchange(self_, nullptr);
  if (self == nullptr) {
    return;
  }
  timeout_.cancel();
  context_.count_running(-1);
  const auto callbacks = std::exchange(callbacks_, {});
  callbacks.done(std::move(end));
}

}  // namespace agent
