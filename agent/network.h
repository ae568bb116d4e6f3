// The network of a sandbox, as values: what is asked, and what its pool is made with. Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "netns/policy.h"
#include "netns/router.h"

namespace agent {

struct NetworkSettings {
  std::string mode = "none";         // none, nat, host-loopback:PORT[,PORT…]
  std::vector<std::string> allow{};  // nat: netns::parse_destination; 64 at most
  std::uint64_t rate = 0;            // nat: bytes a second, each way; 0: no limit
  std::uint32_t connections = 1024;  // nat: at once; 1 to 65535
};

// What all sandboxes of a pool have. Pools differ by it, so that a sandbox has its network before
// anybody asks for it.
struct Network {
  std::optional<netns::Policy> policy;    // nat
  std::vector<std::uint16_t> host_ports;  // host-loopback: in order, each once
  std::string key;                        // equal for networks that mean the same
};

// Nothing for none. The error names the field: network, allow, …
base::Result<std::shared_ptr<const Network>> network_of(const NetworkSettings& settings);

// A short name for it, of lower-case hexadecimal digits.
std::string network_tag(const Network& network);

// What one sandbox has of it.
struct Wire {
  std::shared_ptr<const Network> network;
  std::optional<netns::Port> port;  // nat
  // nat: so that its wire is there, and with it what it has counted, when nobody is left inside.
  base::UniqueFd netns;
  std::uint64_t number = 0;  // of this wire; what is relayed for it goes by that
};

}  // namespace agent
