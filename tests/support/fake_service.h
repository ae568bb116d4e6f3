// brood's own policy interface, answered by script: what the HTTP surface and the command line do
// with every kind of answer can be seen without a sandbox. All calls are on the loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/service.h"

namespace tests {

// What a function does is told by its name:
//   echo       answers its payload, with the request's content type
//   hold       answers nothing until `release_held`
//   end-ENDING ends so, with the details that such an ending has
//   any other  answers {"function": NAME}
// "logger" has a log from the start.
class FakeService final : public agent::Service {
 public:
  explicit FakeService(boost::asio::io_context& loop);

  std::unique_ptr<agent::Upload> begin_upload() override;
  bool has_code(std::string_view digest) const override;
  void deploy(agent::DeployRequest request, agent::Completion<agent::Deployed> done) override;
  void remove(std::string name, agent::Completion<agent::Function> done) override;
  // "used" cannot be removed.
  void publish_layer(std::string name, std::string digest,
                     agent::Completion<agent::Layer> done) override;
  void remove_layer(std::string name, agent::Completion<agent::Layer> done) override;
  std::vector<agent::LayerStatus> layers() const override;
  std::vector<agent::FunctionStatus> list() const override;
  tl::expected<agent::FunctionStatus, agent::Failure> describe(
      std::string_view name) const override;
  std::shared_ptr<agent::InvocationHandle> invoke(
      agent::InvocationRequest request, std::function<void(agent::Outcome&&)> done) override;
  std::uint64_t payload_limit() const override { return payload_limit_; }
  // The command's name decides: "fail" ends with status 3, "never" does not begin, "hold" waits to
  // be cancelled; any other prints its arguments and ends.
  tl::expected<std::shared_ptr<agent::CommandHandle>, agent::Failure> run(
      agent::CommandRequest request, agent::CommandCallbacks callbacks) override;
  // As `run`, in "run.base-1".
  tl::expected<std::shared_ptr<agent::CommandHandle>, agent::Failure> execute(
      std::string_view sandbox, agent::CommandRequest request,
      agent::CommandCallbacks callbacks) override;
  tl::expected<void, agent::Failure> signal(std::string_view sandbox, std::uint32_t process,
                                            int number) override;
  tl::expected<void, agent::Failure> set_paused(std::string_view sandbox, bool paused) override;
  agent::KeptCommands& kept_commands() override { return *kept_; }
  const agent::KeptCommands& kept_commands() const override { return *kept_; }
  std::vector<agent::SandboxStatus> sandboxes() const override;
  agent::AgentStatus status() const override;
  std::string metrics() const override;
  tl::expected<std::vector<agent::LogLine>, agent::Failure> logs(
      std::string_view name, std::size_t tail, std::uint64_t after_sequence) const override;
  std::shared_ptr<void> follow_logs(std::string_view name, std::function<void()> more) override;

  // For the test, through LiveServer::on_loop.
  void add_function(const std::string& name);
  void release_held();
  void add_log_line(const std::string& name, const std::string& text);

  std::uint64_t payload_limit_ = 64 << 10;
  std::uint64_t archive_limit_ = 1 << 20;
  std::vector<agent::InvocationRequest> invocations;
  std::vector<agent::DeployRequest> deployments;
  std::map<std::string, std::string> code;  // by digest
  std::vector<std::string> uploaded_names;
  bool draining = false;  // takes no invocation
  std::vector<agent::CommandRequest> commands;
  std::vector<int> signals;
  std::vector<bool> pauses;
  int cancelled = 0;
  int uploads_dropped = 0;
  int followers = 0;

 private:
  agent::Outcome outcome_of(const agent::InvocationRequest& request) const;

  boost::asio::io_context& loop_;
  std::unique_ptr<agent::KeptCommands> kept_;
  std::map<std::string, agent::Layer> layers_;
  std::map<std::string, agent::FunctionStatus> functions_;
  std::map<std::string, std::vector<agent::LogLine>> logs_;
  std::map<std::string, std::vector<std::weak_ptr<std::function<void()>>>> followers_;
  std::vector<std::function<void(agent::Outcome&&)>> held_;
};

}  // namespace tests
