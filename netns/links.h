// Interfaces, addresses, routes and neighbours of one network namespace, over rtnetlink.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "netns/netlink_socket.h"
#include "netns/prefix.h"

namespace netns {

// Two ends of one wire. Neither end asks who its neighbour is (IFF_NOARP): both are told.
struct Veth {
  std::string name;
  std::string mac;
  std::string peer_name;
  std::string peer_mac;
  int peer_netns_fd = -1;  // where the peer is born
};

struct Route {
  Prefix to{};
  Prefix via{};     // family 0: the destination is a neighbour
  Prefix source{};  // that the namespace itself sends from; family 0: the kernel's choice
};

// As the interface counts them: received is what the namespace got through it.
struct LinkCounters {
  std::uint64_t received_bytes = 0;
  std::uint64_t received_packets = 0;
  std::uint64_t sent_bytes = 0;
  std::uint64_t sent_packets = 0;
};

// Needs CAP_NET_ADMIN over the namespace, and, for a peer, over that one's. Every call blocks for
// as long as the kernel takes, which is up to tens of milliseconds for `remove`.
class Links {
 public:
  // Of the namespace that the calling thread is in; may be used in any other afterwards.
  static base::Result<Links> open();

  base::Status add(const Veth& veth);
  // The interface is gone: fine, it goes with its other end.
  base::Status remove(const std::string& name);
  base::Result<int> index_of(const std::string& name);
  base::Status raise(int index);
  // IPv6: usable at once, because nobody else can have it (no duplicate address detection).
  base::Status add_address(int index, const Prefix& address);
  base::Status add_route(int index, const Route& route);
  base::Status add_neighbour(int index, const Prefix& address, const std::string& mac);
  base::Result<std::vector<Prefix>> addresses();  // of all interfaces, with their lengths
  base::Result<std::map<std::string, LinkCounters>> counters();
  base::Result<LinkCounters> counters(const std::string& name);

 private:
  explicit Links(NetlinkSocket socket) : socket_(std::move(socket)) {}
  NetlinkSocket socket_;
};

}  // namespace netns
