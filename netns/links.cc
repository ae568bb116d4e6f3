#include "netns/links.h"

#include <net/if.h>
#include <netlink/addr.h>
#include <netlink/cache.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <sys/socket.h>

#include <cstring>

namespace netns {
namespace {

using base::Result;
using base::Status;

template <typename T, auto put>
struct Putter {
  void operator()(T* object) const { put(object); }
};
using Link = std::unique_ptr<rtnl_link, Putter<rtnl_link, rtnl_link_put>>;
using VethLink = std::unique_ptr<rtnl_link, Putter<rtnl_link, rtnl_link_veth_release>>;
using Address = std::unique_ptr<rtnl_addr, Putter<rtnl_addr, rtnl_addr_put>>;
using Neighbour = std::unique_ptr<rtnl_neigh, Putter<rtnl_neigh, rtnl_neigh_put>>;
using Path = std::unique_ptr<rtnl_route, Putter<rtnl_route, rtnl_route_put>>;
using Bytes = std::unique_ptr<nl_addr, Putter<nl_addr, nl_addr_put>>;
using Cache = std::unique_ptr<nl_cache, Putter<nl_cache, nl_cache_free>>;

Bytes bytes_of(const Prefix& prefix) {
  const int size = prefix.family == AF_INET ? 4 : 16;
  Bytes bytes(nl_addr_build(prefix.family, prefix.bytes.data(), static_cast<std::size_t>(size)));
  nl_addr_set_prefixlen(bytes.get(), static_cast<int>(prefix.length));
  return bytes;
}

Bytes mac_of(const std::string& text) {
  nl_addr* address = nullptr;
  (void)nl_addr_parse(text.c_str(), AF_LLC, &address);
  return Bytes(address);
}

Status done(const std::string& operation, int code) {
  return code < 0 ? Status(fail_netlink(operation, code)) : Status{};
}

void shape(rtnl_link* link, const std::string& name, const std::string& mac) {
  rtnl_link_set_name(link, name.c_str());
  rtnl_link_set_addr(link, mac_of(mac).get());
  rtnl_link_set_flags(link, IFF_NOARP);
}

Result<Prefix> prefix_of(rtnl_addr* address) {
  nl_addr* local = rtnl_addr_get_local(address);
  Prefix prefix{};
  prefix.family = rtnl_addr_get_family(address);
  if (local == nullptr || nl_addr_get_len(local) > prefix.bytes.size()) {
    return base::fail_because("an address without its bytes");
  }
  std::memcpy(prefix.bytes.data(), nl_addr_get_binary_addr(local), nl_addr_get_len(local));
  prefix.length = static_cast<unsigned>(rtnl_addr_get_prefixlen(address));
  return prefix;
}

}  // namespace

Result<Links> Links::open() {
  BROOD_TRY(NetlinkSocket socket, connect_rtnetlink());
  return Links(std::move(socket));
}

Status Links::add(const Veth& veth) {
  const VethLink link(rtnl_link_veth_alloc());
  if (!link) {
    return base::fail(base::Error("rtnl_link_veth_alloc", ENOMEM));
  }
  shape(link.get(), veth.name, veth.mac);
  const Link peer(rtnl_link_veth_get_peer(link.get()));
  shape(peer.get(), veth.peer_name, veth.peer_mac);
  rtnl_link_set_ns_fd(peer.get(), veth.peer_netns_fd);
  return done("add the interface " + veth.name,
              rtnl_link_add(socket_.get(), link.get(), NLM_F_CREATE | NLM_F_EXCL));
}

Status Links::remove(const std::string& name) {
  const Link link(rtnl_link_alloc());
  rtnl_link_set_name(link.get(), name.c_str());
  const int code = rtnl_link_delete(socket_.get(), link.get());
  return code == -NLE_OBJ_NOTFOUND || code == -NLE_NODEV
             ? Status{}
             : done("remove the interface " + name, code);
}

Result<int> Links::index_of(const std::string& name) {
  rtnl_link* found = nullptr;
  if (const int code = rtnl_link_get_kernel(socket_.get(), 0, name.c_str(), &found); code < 0) {
    return fail_netlink("find the interface " + name, code);
  }
  const Link link(found);
  return rtnl_link_get_ifindex(link.get());
}

Status Links::raise(int index) {
  const Link link(rtnl_link_alloc());
  const Link change(rtnl_link_alloc());
  rtnl_link_set_ifindex(link.get(), index);
  rtnl_link_set_flags(change.get(), IFF_UP);
  return done("raise an interface", rtnl_link_change(socket_.get(), link.get(), change.get(), 0));
}

Status Links::add_address(int index, const Prefix& address) {
  const Address one(rtnl_addr_alloc());
  rtnl_addr_set_ifindex(one.get(), index);
  rtnl_addr_set_local(one.get(), bytes_of(address).get());
  if (address.family == AF_INET6) {
    rtnl_addr_set_flags(one.get(), IFA_F_NODAD);
  }
  return done("add the address " + text_of(address), rtnl_addr_add(socket_.get(), one.get(), 0));
}

Status Links::add_route(int index, const Route& route) {
  const Path path(rtnl_route_alloc());
  rtnl_nexthop* hop = rtnl_route_nh_alloc();  // the route's, once it is added to it
  rtnl_route_nh_set_ifindex(hop, index);
  rtnl_route_set_family(path.get(), static_cast<std::uint8_t>(route.to.family));
  rtnl_route_set_dst(path.get(), bytes_of(route.to).get());
  rtnl_route_set_scope(path.get(), route.via.family != 0 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK);
  if (route.via.family != 0) {
    rtnl_route_nh_set_gateway(hop, bytes_of(route.via).get());
    // The way out is a neighbour by a route of its own, of this very interface.
    rtnl_route_nh_set_flags(hop, RTNH_F_ONLINK);
  }
  if (route.source.family != 0) {
    rtnl_route_set_pref_src(path.get(), bytes_of(route.source).get());
  }
  rtnl_route_add_nexthop(path.get(), hop);
  return done("add the route to " + text_of(route.to),
              rtnl_route_add(socket_.get(), path.get(), 0));
}

Status Links::add_neighbour(int index, const Prefix& address, const std::string& mac) {
  const Neighbour neighbour(rtnl_neigh_alloc());
  rtnl_neigh_set_ifindex(neighbour.get(), index);
  rtnl_neigh_set_dst(neighbour.get(), bytes_of(address).get());
  rtnl_neigh_set_lladdr(neighbour.get(), mac_of(mac).get());
  rtnl_neigh_set_state(neighbour.get(), 0x80 /* NUD_PERMANENT */);
  return done("add the neighbour " + text_of(address),
              rtnl_neigh_add(socket_.get(), neighbour.get(), NLM_F_CREATE | NLM_F_REPLACE));
}

Result<std::vector<Prefix>> Links::addresses() {
  nl_cache* filled = nullptr;
  if (const int code = rtnl_addr_alloc_cache(socket_.get(), &filled); code < 0) {
    return fail_netlink("list addresses", code);
  }
  const Cache cache(filled);
  std::vector<Prefix> found;
  for (nl_object* one = nl_cache_get_first(cache.get()); one != nullptr;
       one = nl_cache_get_next(one)) {
    if (const auto prefix = prefix_of(reinterpret_cast<rtnl_addr*>(one))) {
      found.push_back(*prefix);
    }
  }
  return found;
}

namespace {

LinkCounters counters_of(rtnl_link* link) {
  return {.received_bytes = rtnl_link_get_stat(link, RTNL_LINK_RX_BYTES),
          .received_packets = rtnl_link_get_stat(link, RTNL_LINK_RX_PACKETS),
          .sent_bytes = rtnl_link_get_stat(link, RTNL_LINK_TX_BYTES),
          .sent_packets = rtnl_link_get_stat(link, RTNL_LINK_TX_PACKETS)};
}

}  // namespace

Result<LinkCounters> Links::counters(const std::string& name) {
  rtnl_link* found = nullptr;
  if (const int code = rtnl_link_get_kernel(socket_.get(), 0, name.c_str(), &found); code < 0) {
    return fail_netlink("find the interface " + name, code);
  }
  const LinkCounters counted = counters_of(found);
  rtnl_link_put(found);
  return counted;
}

Result<std::map<std::string, LinkCounters>> Links::counters() {
  nl_cache* filled = nullptr;
  if (const int code = rtnl_link_alloc_cache(socket_.get(), AF_UNSPEC, &filled); code < 0) {
    return fail_netlink("list interfaces", code);
  }
  const Cache cache(filled);
  std::map<std::string, LinkCounters> found;
  for (nl_object* one = nl_cache_get_first(cache.get()); one != nullptr;
       one = nl_cache_get_next(one)) {
    auto* link = reinterpret_cast<rtnl_link*>(one);
    const char* name = rtnl_link_get_name(link);
    found[name == nullptr ? "" : name] = counters_of(link);
  }
  return found;
}

}  // namespace netns
