// One command on its way: it waits for a pool sandbox, is started in it, and told about when the
// sandbox is gone.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "agent/command.h"
#include "agent/maker.h"
#include "agent/sandbox.h"
#include "agent/sandbox_source.h"
#include "agent/service.h"

namespace agent {

struct CommandContext {
  boost::asio::io_context& loop;
  bool soft_limits = false;                // as of a function's: see BROOD_FLAG_SOFT_LIMITS
  std::function<void(int)> count_running;  // +1 and -1
  Maker* mounter = nullptr;                // for what is mounted beside the root
  // What comes to these sockets goes to the sandbox that has this wire.
  std::function<void(const std::shared_ptr<const Wire>&, std::shared_ptr<std::vector<Published>>)>
      publish{};
  // What it has carried until now, told on the loop. Wherever a sandbox has a wire, both are there.
  std::function<void(const std::shared_ptr<const Wire>&, std::function<void(netns::PortCounters)>)>
      count_wire{};
  int host_mounts = -1;
  std::function<void(const std::string& text)> warn = [](const std::string&) {};  // on any thread
};

class CommandRunner : public CommandHandle,
                      public SandboxOwner,
                      public Claimant,
                      public std::enable_shared_from_this<CommandRunner> {
 public:
  // `started` is called once or not at all, and before `done`, which is called once; both on the
  // event loop and never from inside `start`. The source outlives it.
  CommandRunner(CommandContext context, SandboxSource& source, CommandRequest request,
                CommandCallbacks callbacks);
  void start();
  // The agent stops.
  void stop();

  void cancel() override;

  bool offer(const std::shared_ptr<Sandbox>& sandbox) override;
  void refuse(const std::string& problem) override;
  void on_ready(Sandbox& sandbox) override;
  void on_loaded(Sandbox& sandbox) override;
  void on_answer(Sandbox& sandbox, Frame frame) override;
  void on_output(Sandbox& sandbox, std::string_view bytes) override;
  void on_gone(Sandbox& sandbox) override;

 private:
  void take_sandbox();
  void mount(Sandbox& sandbox);
  void begin_or_kill(Sandbox& sandbox);
  base::Status begin(Sandbox& sandbox);
  void arm_timeout();
  CommandEnd measured(Sandbox& sandbox) const;
  void end(CommandEnd end);

  CommandContext context_;
  SandboxSource& source_;
  CommandRequest request_;
  CommandCallbacks callbacks_;
  std::shared_ptr<Sandbox> sandbox_;
  std::shared_ptr<CommandRunner> self_;  // until it has ended
  boost::asio::steady_timer timeout_;
  std::int64_t began_ns_ = 0;
};

}  // namespace agent
