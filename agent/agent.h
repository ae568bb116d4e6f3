// The agent: composes the parts and is the Service that the HTTP surface calls.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/code_store.h"
#include "agent/config.h"
#include "agent/enforcement.h"
#include "agent/function_runner.h"
#include "agent/layers.h"
#include "agent/log_store.h"
#include "agent/maker.h"
#include "agent/metrics.h"
#include "agent/registry.h"
#include "agent/runtime_pool.h"
#include "agent/service.h"

namespace agent {

class CommandBook;
class Commands;

class Agent : public Service {
 public:
  // Takes the state directory, clears what an earlier agent left, and makes ready to serve. Must be
  // called while the process has one thread; needs root. Refuses to start where limits cannot be
  // enforced, unless the configuration says best effort.
  static base::Result<std::unique_ptr<Agent>> start(boost::asio::io_context& loop,
                                                    const AgentConfig& config);
  ~Agent() override;
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Takes no new invocation, lets those that run or wait finish until `patience` is over, ends the
  // rest, which are told, and leaves nothing on the host. `done` is called once all is gone.
  void drain(std::chrono::milliseconds patience, std::function<void()> done);
  // Ends the patience of a drain that is under way.
  void hurry() { patience_ends_ns_ = 0; }

  std::unique_ptr<Upload> begin_upload() override;
  bool has_code(std::string_view digest) const override;
  void deploy(DeployRequest request, Completion<Deployed> done) override;
  void remove(std::string name, Completion<Function> done) override;
  void publish_layer(std::string name, std::string digest, Completion<Layer> done) override;
  void remove_layer(std::string name, Completion<Layer> done) override;
  std::vector<LayerStatus> layers() const override;
  std::vector<FunctionStatus> list() const override;
  tl::expected<FunctionStatus, Failure> describe(std::string_view name) const override;
  std::shared_ptr<InvocationHandle> invoke(InvocationRequest request,
                                           std::function<void(Outcome&&)> done) override;
  std::uint64_t payload_limit() const override { return config_.payload_limit; }
  tl::expected<std::shared_ptr<CommandHandle>, Failure> run(CommandRequest request,
                                                            CommandCallbacks callbacks) override;
  tl::expected<std::shared_ptr<CommandHandle>, Failure> execute(
      std::string_view sandbox, CommandRequest request, CommandCallbacks callbacks) override;
  tl::expected<void, Failure> signal(std::string_view sandbox, std::uint32_t process,
                                     int number) override;
  tl::expected<void, Failure> set_paused(std::string_view sandbox, bool paused) override;
  KeptCommands& kept_commands() override;
  const KeptCommands& kept_commands() const override;
  std::vector<SandboxStatus> sandboxes() const override;
  AgentStatus status() const override;
  std::string metrics() const override;
  tl::expected<std::vector<LogLine>, Failure> logs(std::string_view name, std::size_t tail,
                                                   std::uint64_t after_sequence) const override;
  std::shared_ptr<void> follow_logs(std::string_view name, std::function<void()> more) override;

 private:
  using Runners = std::map<std::string, std::shared_ptr<FunctionRunner>, std::less<>>;

  Agent(boost::asio::io_context& loop, const AgentConfig& config);
  base::Status take_state_dir();
  base::Status make_slots();
  base::Status open_stores();
  base::Status load_functions();
  void find_runtimes();
  PoolContext pool_context();
  RuntimePool* pool_of(const std::string& runtime);
  void make_networks();
  base::Status choose_pool(Deployment& deployment);
  std::shared_ptr<void> hold_pool(RuntimePool& pool);
  void release_pool(const std::string& name);
  void forget_removed();
  void make_commands();
  bool room(Need need) const;
  std::size_t waiting_for_room() const;
  void make_room();
  bool end_longest_idle();
  void count_sandbox(int change);

  base::Error no_runtime(const std::string& name) const;
  base::Result<std::shared_ptr<Deployment>> make_deployment(const Function& function);
  void choose_runtime_for(DeployRequest request, Completion<Deployed> done);
  void deploy_to(DeployRequest request, bool runtime_chosen, Completion<Deployed> done);
  void compile(const std::shared_ptr<Deployment>& deployment,
               std::function<void(std::string problem)> done);
  void store(const std::shared_ptr<Deployment>& deployment, std::vector<std::string> warnings,
             Completion<Deployed> done);
  base::Result<std::shared_ptr<FunctionRunner>> runner_for(const std::string& name);
  base::Status add_layers(Deployment& deployment);
  std::vector<std::string> functions_with_layer(std::string_view layer) const;
  FunctionStatus with_limits(FunctionStatus status) const;
  void await_invocations(std::function<void()> done);
  void stop_pools(std::function<void()> done);
  void finish_drain(std::function<void()> done);
  void leave_host(const std::function<void()>& done);

  boost::asio::io_context& loop_;
  const AgentConfig& config_;
  std::int64_t started_ns_;
  base::UniqueFd state_lock_;
  base::UniqueFd host_mounts_;  // the mount namespace that it was started in
  isolate::Features features_;
  isolate::Filter sandbox_filter_;
  isolate::Filter strict_filter_;
  isolate::Filter zygote_filter_;
  std::optional<UidArea> own_area_;
  Enforcement limits_;
  std::optional<rootfs::CodeSlots> slots_;
  OutputTurns output_;
  std::optional<Registry> registry_;  // used on the disk thread once the agent serves
  std::unique_ptr<LogStore> log_store_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Maker> maker_;    // sandboxes
  std::unique_ptr<Maker> disk_;     // registry and archives
  std::unique_ptr<Maker> mounter_;  // what touches folders of clients
  std::unique_ptr<Networks> networks_;
  std::unique_ptr<CodeStore> code_;
  std::unique_ptr<Layers> layers_;
  struct Runtime {
    std::unique_ptr<RuntimePool> pool;
    std::shared_ptr<RuntimeMetrics> metrics;
  };
  RuntimePool* add_runtime(const RuntimeConfig& config);

  std::map<std::string, Runtime, std::less<>> pools_;
  // Kept to the end: what they have asked others for may still be answered.
  std::vector<decltype(pools_)::node_type> stopped_pools_;
  // Of functions with a network: one for each runtime and network that a deployment has. Before
  // what holds them.
  struct NetworkPool {
    std::string runtime;
    std::string key;  // Network::key
    std::size_t held = 0;
  };
  std::map<std::string, NetworkPool, std::less<>> network_pools_;  // by the pool's name
  std::uint64_t network_pool_names_ = 0;
  Runners runners_;
  std::vector<std::shared_ptr<FunctionRunner>> removed_;  // that still run something
  std::unique_ptr<CommandBook> book_;
  std::unique_ptr<Commands> commands_;
  std::set<std::string> changing_;  // functions with a change under way
  int sandbox_count_ = 0;
  std::size_t making_room_ = 0;  // ended for it, and not yet gone
  int running_ = 0;
  std::uint64_t invocations_ = 0;
  bool draining_ = false;
  std::int64_t patience_ends_ns_ = 0;
};

}  // namespace agent
