// One more command in a sandbox that runs one already (`brood exec`): pid 1 starts the process,
// which speaks as a pool's does until it has become the command.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>

#include "agent/command.h"
#include "agent/command_streams.h"
#include "agent/protocol.h"
#include "agent/sandbox.h"
#include "agent/service.h"

namespace agent {

class Execution : public CommandHandle, public std::enable_shared_from_this<Execution> {
 public:
  // Of the request the arguments, environment, directory, timeout and terminal count: the rest is
  // the sandbox's. The callbacks are as CommandRunner's.
  static std::shared_ptr<Execution> start(boost::asio::io_context& loop,
                                          const std::shared_ptr<Sandbox>& sandbox,
                                          CommandRequest request, CommandCallbacks callbacks);

  void cancel() override;

 private:
  Execution(boost::asio::io_context& loop, const std::shared_ptr<Sandbox>& sandbox,
            CommandRequest request, CommandCallbacks callbacks);
  base::Status begin();
  void wait_until_ready();
  base::Status send_run();
  void flush();
  void ended(const brood_handler_end* end);
  void give_up(const std::string& problem);
  void finish(CommandEnd end);

  std::weak_ptr<Sandbox> sandbox_;
  CommandRequest request_;
  CommandCallbacks callbacks_;
  boost::asio::posix::stream_descriptor conn_;
  boost::asio::steady_timer timeout_;
  std::uint32_t process_ = 0;
  Gather gather_;
  std::string arguments_;
  std::string environment_;
  CommandStreams streams_;
  Evidence evidence_;
  std::int64_t began_ns_ = 0;
  std::shared_ptr<Execution> self_;  // until it has ended
};

}  // namespace agent
