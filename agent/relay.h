// brood-relay as the agent has it: a confined process that carries bytes between sockets that were
// made for it, so that the agent, which is root, reads none of them. Started when it is first
// needed, and again when it has died: what was under way then is lost, what it listened on is not.
// One thread; it blocks for as long as starting a process takes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/relay_order.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/process.h"
#include "netns/prefix.h"

namespace agent {

struct RelayOptions {
  std::string program;    // brood-relay
  std::string empty_dir;  // becomes its root; made where it is missing
  std::uint32_t uid = 0;  // and gid
  int netns_fd = -1;      // from which it connects; -1: the agent's own
};

struct RelayTarget {
  netns::Prefix address{};
  std::uint16_t port = 0;
};

class Relay {
 public:
  explicit Relay(RelayOptions options) : options_(std::move(options)) {}

  base::Status serve(RelayKind kind, std::uint64_t group, const RelayTarget& target,
                     base::UniqueFd socket);
  base::Status set_target(std::uint64_t group, const RelayTarget& target);
  void forget(std::uint64_t group);
  // Starts it again if it has died while there is something for it to do.
  base::Status look_after();
  // Readable once it has ended; -1 where there is none. Borrowed.
  pid_t pid() const { return process_.pid(); }

 private:
  struct Service {
    RelayOrder order;
    base::UniqueFd socket;
  };
  base::Status start();
  base::Status spawn(int control, int root);
  base::Status send(const RelayOrder& order, int fd);
  base::Status send_or_restart(const RelayOrder& order, int fd);

  const RelayOptions options_;
  base::OwnedPid process_;
  base::UniqueFd control_;
  std::vector<Service> services_;
};

}  // namespace agent
