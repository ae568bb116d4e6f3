// Compiles a handler's module in a sandbox of its runtime, when it is deployed: the source is
// hostile, so the agent never reads it, and an invocation never waits for the compiler.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "agent/runtime_pool.h"
#include "agent/sandbox.h"
#include "rootfs/mounts.h"

namespace agent {

// Its code object, or what it imports (agent/runtime_choice.h).
enum class CompileFor { code, imports };

struct Compiled {
  std::string code;     // marshalled, or the imports; empty when it could not be compiled
  std::string problem;  // then why, for the user; names the file
};

class CompileJob : public Claimant,
                   public SandboxOwner,
                   public std::enable_shared_from_this<CompileJob> {
 public:
  // `path`: the module's file below the code's root. `done` is called once, on the event loop.
  CompileJob(boost::asio::io_context& loop, RuntimePool& pool, rootfs::HeldMount code,
             std::string path, CompileFor purpose, std::function<void(Compiled)> done);
  // Before `start`: what else its sandbox is to find.
  void show_layers(rootfs::HeldMount layers) { layers_ = std::move(layers); }
  void start();

  bool offer(const std::shared_ptr<Sandbox>& sandbox) override;
  void refuse(const std::string& problem) override;
  void on_ready(Sandbox& sandbox) override;
  void on_loaded(Sandbox& sandbox) override;
  void on_answer(Sandbox& sandbox, Frame frame) override;
  void on_output(Sandbox& sandbox, std::string_view bytes) override;
  void on_gone(Sandbox& sandbox) override;

 private:
  void end_after(std::chrono::seconds limit, const char* problem);
  void give_up(const std::string& problem);
  void finish(Compiled compiled);

  RuntimePool& pool_;
  rootfs::HeldMount code_;
  rootfs::HeldMount layers_;
  std::string path_;
  CompileFor purpose_;
  std::function<void(Compiled)> done_;
  std::shared_ptr<Sandbox> sandbox_;
  std::shared_ptr<CompileJob> self_;  // until the sandbox is gone
  boost::asio::steady_timer limit_;
};

}  // namespace agent
