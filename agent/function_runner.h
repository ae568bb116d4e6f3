// One deployed function: its instances, its queue, and the way of each invocation through them.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/log_store.h"
#include "agent/metrics.h"
#include "agent/runtime_pool.h"
#include "agent/sandbox.h"
#include "agent/service.h"
#include "agent/types.h"
#include "base/fd.h"

namespace agent {

// One version of a function, ready to be bound. Instances of an old version keep it until they end.
struct Deployment {
  Function function;
  RuntimePool* pool = nullptr;
  std::shared_ptr<void> hold;  // keeps the pool, where it is one of a network
  rootfs::HeldMount code;      // cloned into each instance
  rootfs::HeldMount layers;    // the same; none where the function has none
  std::string compiled;        // the handler's module; empty: the sandbox imports by itself
  std::string environment;     // KEY=VALUE, each ended by NUL
  std::string handler;         // as its runtime's sandboxes take it (BROOD_BIND_HANDLER)
};

// Told of each invocation that has ended; on the event loop.
struct RunnerContext {
  boost::asio::io_context& loop;
  const AgentConfig& config;
  bool soft_limits = false;  // the host's cgroups lack a controller: see BROOD_FLAG_SOFT_LIMITS
  std::function<void(int)> count_running;  // +1 and -1
  std::function<bool()> crowded;           // the host is full, and somebody waits for room
  Metrics* metrics = nullptr;
  std::function<void()> emptied;  // a function that was removed has nothing left that runs
};

class Invocation;

class FunctionRunner : public SandboxOwner,
                       public Claimant,
                       public std::enable_shared_from_this<FunctionRunner> {
 public:
  FunctionRunner(const RunnerContext& context, std::shared_ptr<FunctionLog> log,
                 std::shared_ptr<FunctionMetrics> metrics);
  ~FunctionRunner() override;
  FunctionRunner(const FunctionRunner&) = delete;
  FunctionRunner& operator=(const FunctionRunner&) = delete;

  // From now on new instances are of this version; idle ones of the former end, running ones
  // finish.
  void deploy(std::shared_ptr<const Deployment> deployment);
  // The function is removed: what waits is answered, what idles ends, what runs finishes.
  void retire();
  // The agent stops: what waits is answered, and every instance is killed.
  void stop();

  std::shared_ptr<InvocationHandle> invoke(InvocationRequest request,
                                           std::function<void(Outcome&&)> done);
  FunctionStatus status() const;
  void report_queue() const { metrics_->set_queue(waiting_.size()); }
  const Deployment& deployment() const { return *deployment_; }
  // Calls `more` when the log has grown, until the token is dropped.
  std::shared_ptr<void> follow(std::function<void()> more);
  // Since when its longest idle instance idles; nothing when none does.
  std::optional<std::int64_t> idle_since_ns() const;
  void end_longest_idle();
  bool quiet() const { return waiting_.empty() && instances_.empty(); }
  bool has_waiting() const { return !waiting_.empty(); }

  bool offer(const std::shared_ptr<Sandbox>& sandbox) override;
  void refuse(const std::string& problem) override;
  void on_ready(Sandbox& sandbox) override;
  void on_loaded(Sandbox& sandbox) override;
  void on_answer(Sandbox& sandbox, Frame frame) override;
  void on_output(Sandbox& sandbox, std::string_view bytes) override;
  void on_gone(Sandbox& sandbox) override;

 private:
  friend class Invocation;
  struct Instance {
    std::shared_ptr<Sandbox> sandbox;
    std::shared_ptr<const Deployment> deployment;
    std::shared_ptr<Invocation> invocation;  // that runs on it
    std::unique_ptr<LogSource> lines;        // what it has printed of a line
    std::int64_t idle_since_ns = 0;
  };
  using Waiting = std::deque<std::shared_ptr<Invocation>>;

  void dispatch(std::shared_ptr<Invocation> invocation);
  Instance* take_idle();
  void serve_waiting();
  void run_warm(Instance& instance, std::shared_ptr<Invocation> invocation);
  void run_cold(std::shared_ptr<Sandbox> sandbox, std::shared_ptr<Invocation> invocation);
  base::Status bind(Instance& instance);
  void send(Instance& instance);
  void arm_deadline(Instance& instance);
  void deadline_passed(Sandbox& sandbox);
  void finish(Instance& instance, Outcome outcome);
  void after(Instance& instance, bool reusable);
  void cancel(Invocation& invocation);
  void refuse_later(std::shared_ptr<Invocation> invocation, Ending ending, std::string message);
  void note(const Invocation& invocation, const Outcome& outcome);
  void flush_log_soon();
  void expire_idle();
  void arm_idle_timer();
  void end_idle();
  Instance* instance_of(const Sandbox& sandbox);

  RunnerContext context_;
  std::shared_ptr<FunctionLog> log_;
  LogSource own_lines_;  // what the agent says in the function's log
  std::list<std::function<void()>> followers_;
  bool flush_planned_ = false;
  std::shared_ptr<FunctionMetrics> metrics_;
  std::shared_ptr<const Deployment> deployment_;
  std::map<const Sandbox*, Instance> instances_;
  std::deque<const Sandbox*> idle_;  // the longest idle first
  Waiting waiting_;
  std::uint32_t claims_ = 0;  // in line at the pool, at most one for each that waits
  std::uint32_t running_ = 0;
  std::uint64_t invocations_ = 0;
  std::array<std::uint64_t, kEndingCount> endings_{};
  boost::asio::steady_timer idle_timer_;
  bool idle_armed_ = false;
  bool retired_ = false;
};

}  // namespace agent
