// What is in a network namespace, asked over netlink.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/error.h"

namespace netns {

struct Interface {
  std::string name;
  int index = 0;
  bool up = false;
  bool loopback = false;
  std::string mac;                     // "02:…"; all zeros for a loopback
  std::vector<std::string> addresses;  // "127.0.0.1/8", "::1/128"
  unsigned mtu = 0;                    // bytes
};

struct RouteCount {
  std::size_t all = 0;  // of every table and both families, the kernel's own local ones included
  std::size_t leaving = 0;  // those that lead out by an interface that is no loopback
};

// In the order of their indexes. Errors: as run_inside, and those of netlink.
base::Result<std::vector<Interface>> interfaces(int netns_fd);
base::Result<RouteCount> routes(int netns_fd);

}  // namespace netns
