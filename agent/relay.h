// brood-relay as the agent has it: a confined process that carries bytes between sockets that were
// made for it, so that the agent, which is root, reads none of them. Started when it is first
// needed, and again when it has died: what was under way then is lost, what it listened on is not.
// One thread; it blocks for as long as starting a process takes.
#pragma once

#include <cstdint>
#include <vector>

#include "agent/confined_program.h"
#include "agent/relay_order.h"
#include "base/error.h"
#include "base/fd.h"
#include "netns/prefix.h"

namespace agent {

struct RelayTarget {
  netns::Prefix address{};
  std::uint16_t port = 0;
};

class Relay {
 public:
  explicit Relay(ConfinedOptions options) : options_(std::move(options)) {}

  base::Status serve(RelayKind kind, std::uint64_t group, const RelayTarget& target,
                     base::UniqueFd socket);
  base::Status set_target(std::uint64_t group, const RelayTarget& target);
  void forget(std::uint64_t group);
  // Starts it again if it has died while there is something for it to do.
  base::Status look_after();
  // Readable once it has ended; -1 where there is none. Borrowed.
  pid_t pid() const { return program_.process.pid(); }

 private:
  struct Service {
    RelayOrder order;
    base::UniqueFd socket;
  };
  base::Status start();
  base::Status send(const RelayOrder& order, int fd);
  base::Status send_or_restart(const RelayOrder& order, int fd);

  const ConfinedOptions options_;
  ConfinedProgram program_;
  std::vector<Service> services_;
};

}  // namespace agent
