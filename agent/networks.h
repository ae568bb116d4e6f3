// The agent's networks: the router, which is made when a sandbox first needs it, the wires of
// sandboxes, and what is relayed for them. All that waits for the kernel is done on a thread of its
// own; the rest is called on the event loop.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/maker.h"
#include "agent/network.h"
#include "agent/publish.h"
#include "base/error.h"
#include "base/fd.h"
#include "netns/router.h"

namespace agent {

struct NetworksOptions {
  std::string instance;         // [0-9a-f]{12}
  std::string relay_program;    // brood-relay
  std::string names_program;    // brood-names
  std::string empty_dir;        // for its root
  std::uint32_t relay_uid = 0;  // of both
  std::string mark;             // a file that is there while something is on the host
};

class Networks {
 public:
  Networks(boost::asio::io_context& loop, NetworksOptions options);
  ~Networks();
  Networks(const Networks&) = delete;
  Networks& operator=(const Networks&) = delete;

  // Why this host cannot give it, and what to do; empty when it can.
  static std::string problem(const Network& network);

  using Attached = std::function<void(base::Result<std::shared_ptr<const Wire>>)>;
  // Gives the network namespace of a process what `network` says. `done` is called on the loop, and
  // takes over the wire, whatever has become of the process.
  void attach(std::shared_ptr<const Network> network, base::UniqueFd pidfd, Attached done);
  void detach(std::shared_ptr<const Wire> wire);
  // What comes to these sockets goes to the sandbox, until its wire is detached.
  void publish(std::shared_ptr<const Wire> wire, std::shared_ptr<std::vector<Published>> sockets);
  // As they were counted within the last second.
  netns::PortCounters counters(const Wire& wire) const;
  // As they are now, or were at last where they cannot be had; `done` is called on the loop. Before
  // the wire is detached.
  void count(const std::shared_ptr<const Wire>& wire,
             std::function<void(netns::PortCounters)> done);

  // Takes everything down; waits for it. Nothing is asked of it afterwards.
  void finish();

 private:
  class Ground;
  void hear_later();
  void hear();
  void count();
  void count_later();

  std::shared_ptr<Ground> ground_;  // used on the thread
  std::uint64_t last_wire_ = 0;
  std::size_t wires_ = 0;
  std::map<std::string, netns::PortCounters> counted_;  // by interface
  boost::asio::steady_timer timer_;
  bool counting_ = false;
  // Readable when a brood-names has something to report; nothing before there is one.
  boost::asio::posix::stream_descriptor reports_;
  boost::asio::steady_timer rest_;
  bool finished_ = false;
  Maker thread_;  // the last, so that it ends first
};

}  // namespace agent
