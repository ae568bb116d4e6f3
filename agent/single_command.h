// One command in a sandbox that is made for it and goes with it, without an agent that serves
// (`brood run --standalone`). The caller's process is its own zygote, and carries out the same plan
// by the same code, so none has to be made first. What is left to do once the sandbox is there, and
// all that is judged, is what an agent does.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>

#include "agent/command_runner.h"
#include "agent/config.h"
#include "agent/enforcement.h"
#include "agent/output_turns.h"
#include "agent/sandbox_source.h"
#include "agent/service.h"
#include "agent/uid_areas.h"
#include "base/process.h"
#include "isolate/plan.h"
#include "rootfs/image.h"
#include "rootfs/image_user.h"

namespace agent {

// What the calling program does in its own way.
struct OwnWays {
  // Starts a sandbox's pid 1 from the calling process: what a zygote makes of a SPAWN.
  base::Result<base::OwnedPid> (*spawn)(const isolate::Plan& plan, const SpawnOrder& order,
                                        const std::array<int, BROOD_SPAWN_FD_COUNT>& descriptors);
  // As rootfs::verify_once, of an image that was not read since the machine was booted.
  base::Status (*verify)(const rootfs::Image& image);
};

class SingleCommand : public SandboxOwner, public SandboxSource {
 public:
  // Starts the sandbox's process and leaves the rest to `start`. Blocks for some milliseconds.
  // Needs root, and one thread: pid 1 is a copy of the calling process that keeps to what it has in
  // memory, which it and nobody else in the sandbox can read. Commands without a network, and that
  // nobody wants to know of later.
  //
  // `instance` names its cgroup; who makes two at once sees to it that they differ.
  static base::Result<std::unique_ptr<SingleCommand>> make(boost::asio::io_context& loop,
                                                           const AgentConfig& config,
                                                           const std::string& instance,
                                                           const OwnWays& ways,
                                                           CommandRequest request);
  ~SingleCommand() override;
  SingleCommand(const SingleCommand&) = delete;
  SingleCommand& operator=(const SingleCommand&) = delete;

  // The rest on the event loop. Once; as CommandRunner's.
  void start(CommandCallbacks callbacks);
  void signal(int number);
  void cancel();

  // Kills whatever still runs in it, and takes everything away; so does the destructor. Not while
  // the loop runs.
  base::Status finish();

  std::shared_ptr<Sandbox> take(SandboxOwner* owner) override;
  void claim(std::weak_ptr<Claimant> claimant) override;
  void retire(Sandbox& sandbox) override;
  void on_ready(Sandbox& sandbox) override;
  void on_loaded(Sandbox& sandbox) override;
  void on_answer(Sandbox& sandbox, Frame frame) override;
  void on_output(Sandbox& sandbox, std::string_view bytes) override;
  void on_gone(Sandbox& sandbox) override;

 private:
  SingleCommand(boost::asio::io_context& loop, const AgentConfig& config, const OwnWays& ways,
                CommandRequest request)
      : loop_(loop),
        config_(config),
        ways_(ways),
        request_(std::move(request)),
        setup_limit_(loop) {}
  base::Status resolve_request();
  base::Status plan();
  base::Status make_sandbox();
  base::Result<SandboxParts> parts() const;
  base::Status spawn(SandboxParts parts);

  boost::asio::io_context& loop_;
  const AgentConfig& config_;
  const OwnWays ways_;
  CommandRequest request_;
  rootfs::Image image_;
  rootfs::ImageUser user_;
  std::string name_;
  Enforcement limits_;
  std::optional<UidArea> area_;
  isolate::Plan plan_{};
  base::OwnedPid init_;
  OutputTurns turns_;
  std::unique_ptr<Maker> mounter_;
  base::UniqueFd host_mounts_;
  std::shared_ptr<Sandbox> sandbox_;  // until its owner hands it back
  std::optional<SandboxParts> left_;
  std::weak_ptr<Claimant> claimant_;
  std::shared_ptr<CommandRunner> runner_;
  boost::asio::steady_timer setup_limit_;
};

}  // namespace agent
