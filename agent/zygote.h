// A zygote as the agent sees it: a process of one runtime with the interpreter booted, that forks
// sandboxes on demand. It runs our code only, but it is confined all the same, and what it says is
// checked.
#pragma once

#include <sys/socket.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/protocol.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/process.h"
#include "isolate/plan.h"
#include "isolate/spawn.h"
#include "isolate/wire.h"

namespace agent {

struct ZygoteSetup {
  std::string runtime;
  std::vector<std::string> arguments;  // zygote_arguments
  int image_fd = -1;  // detached mount of the image, read-only; borrowed, as all below
  int lower_fd = -1;  // the same again: the lower layer of its sandboxes
  int dev_fd = -1;
  int run_fd = -1;
  int support_fd = -1;
  int cgroup_fd = -1;
  isolate::IdRange ids;  // the zygote is the first; its sandboxes get the rest
  const isolate::Plan* zygote_plan = nullptr;
  const isolate::Plan* sandbox_plan = nullptr;
};

struct ZygoteEvents {
  std::function<void(std::string version)> booted;
  std::function<void(std::uint64_t sandbox, base::UniqueFd pidfd)> spawned;
  std::function<void(std::uint64_t sandbox, std::string problem)> spawn_failed;
  std::function<void(std::string_view text)> printed;  // its stdout and stderr, for the agent's log
  std::function<void(std::string problem)> died;  // once; destroy the object after it, not in it
};

// Lives on the event loop. Destroying it kills nothing that runs: sandboxes outlive their zygote,
// and the zygote itself leaves when its socket closes.
class Zygote {
 public:
  // Blocks for about 3 ms (the isolation steps); `booted` follows when the interpreter is up.
  static base::Result<std::unique_ptr<Zygote>> start(boost::asio::io_context& loop,
                                                     const ZygoteSetup& setup, ZygoteEvents events);
  ~Zygote();

  // Asks for a sandbox; the descriptors are in the order of enum brood_spawn_fd, and sent as
  // copies. The answer is `spawned` or `spawn_failed`, or `died`.
  void spawn(const SpawnOrder& order, const std::array<int, BROOD_SPAWN_FD_COUNT>& descriptors);
  // The interpreter's process, as the host numbers it; -1 before `booted`.
  pid_t pid() const { return zygote_pid_; }
  // Kills the zygote; its sandboxes live on. No event follows.
  void kill();
  // pid 1 of the runtime's pid namespace: killing it kills the zygote and all its sandboxes.
  const base::PidRef& init() const { return init_.ref(); }
  // Takes over the reaping of pid 1 (which lives as long as a sandbox of this zygote does).
  base::OwnedPid release_init() { return std::move(init_); }

 private:
  Zygote(boost::asio::io_context& loop, ZygoteEvents events, base::OwnedPid init,
         base::UniqueFd control, base::UniqueFd output);
  base::Status configure(const isolate::Plan& plan);
  base::Status send(const brood_control& message, const int* descriptors, std::size_t count);
  void wait_for_message();
  void read_messages();
  base::UniqueFd take_ancillary(msghdr& header);
  void handle(const brood_control& message, base::UniqueFd descriptor);
  void wait_for_output();
  void fail(std::string problem);

  ZygoteEvents events_;
  base::OwnedPid init_;
  pid_t zygote_pid_ = -1;
  base::PidRef process_;  // of zygote_pid_, from `booted` on
  boost::asio::posix::stream_descriptor control_;
  boost::asio::posix::stream_descriptor output_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // handlers may run after the end
  bool dead_ = false;
};

}  // namespace agent
