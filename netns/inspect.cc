#include "netns/inspect.h"

#include <net/if.h>
#include <netlink/addr.h>
#include <netlink/cache.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>

#include <algorithm>
#include <array>
#include <memory>

#include "netns/namespace.h"
#include "netns/netlink_socket.h"

namespace netns {

using base::Result;
using base::Status;

namespace {

using Cache = std::unique_ptr<nl_cache, decltype([](nl_cache* cache) { nl_cache_free(cache); })>;

template <typename Fill>
Result<Cache> dump(const std::string& what, Fill fill) {
  nl_cache* cache = nullptr;
  if (const int code = fill(&cache); code < 0) {
    return fail_netlink("list " + what, code);
  }
  return Cache(cache);
}

template <typename Object, typename Visit>
void for_each(const Cache& cache, Visit visit) {
  for (nl_object* object = nl_cache_get_first(cache.get()); object != nullptr;
       object = nl_cache_get_next(object)) {
    visit(reinterpret_cast<Object*>(object));
  }
}

std::string text_of(const nl_addr* address) {
  std::array<char, 128> buffer{};
  return address == nullptr ? std::string() : nl_addr2str(address, buffer.data(), buffer.size());
}

// An address that covers nothing but itself is printed by libnl without its prefix length.
std::string with_prefix(nl_addr* address) {
  std::string text = text_of(address);
  if (!text.empty() && text.find('/') == std::string::npos) {
    text += "/" + std::to_string(nl_addr_get_prefixlen(address));
  }
  return text;
}

Interface describe(rtnl_link* link) {
  const unsigned flags = rtnl_link_get_flags(link);
  Interface interface;
  const char* name = rtnl_link_get_name(link);
  interface.name = name == nullptr ? "" : name;
  interface.index = rtnl_link_get_ifindex(link);
  interface.up = (flags & IFF_UP) != 0;
  interface.loopback = (flags & IFF_LOOPBACK) != 0;
  interface.mac = text_of(rtnl_link_get_addr(link));
  interface.mtu = rtnl_link_get_mtu(link);
  return interface;
}

Result<std::vector<Interface>> list_links(nl_sock* socket) {
  BROOD_TRY(const Cache links, dump("interfaces", [&](nl_cache** cache) {
              return rtnl_link_alloc_cache(socket, AF_UNSPEC, cache);
            }));
  std::vector<Interface> found;
  for_each<rtnl_link>(links, [&](rtnl_link* link) { found.push_back(describe(link)); });
  std::sort(found.begin(), found.end(),
            [](const Interface& a, const Interface& b) { return a.index < b.index; });
  return found;
}

Result<std::vector<Interface>> list_interfaces() {
  BROOD_TRY(const NetlinkSocket socket, connect_rtnetlink());
  BROOD_TRY(std::vector<Interface> found, list_links(socket.get()));
  BROOD_TRY(const Cache addresses, dump("addresses", [&](nl_cache** cache) {
              return rtnl_addr_alloc_cache(socket.get(), cache);
            }));
  for_each<rtnl_addr>(addresses, [&](rtnl_addr* address) {
    for (Interface& interface : found) {
      if (interface.index == rtnl_addr_get_ifindex(address)) {
        interface.addresses.push_back(with_prefix(rtnl_addr_get_local(address)));
      }
    }
  });
  return found;
}

bool leaves(rtnl_route* route, const std::vector<Interface>& links) {
  for (int i = 0; i < rtnl_route_get_nnexthops(route); ++i) {
    const int index = rtnl_route_nh_get_ifindex(rtnl_route_nexthop_n(route, i));
    const auto by_index = [index](const Interface& link) { return link.index == index; };
    const auto link = std::find_if(links.begin(), links.end(), by_index);
    // An interface that came up between the two lists is no loopback: each namespace has one, from
    // its birth.
    if (index != 0 && (link == links.end() || !link->loopback)) {
      return true;
    }
  }
  return false;
}

Result<RouteCount> count_routes() {
  BROOD_TRY(const NetlinkSocket socket, connect_rtnetlink());
  BROOD_TRY(const std::vector<Interface> links, list_links(socket.get()));
  BROOD_TRY(const Cache routes, dump("routes", [&](nl_cache** cache) {
              return rtnl_route_alloc_cache(socket.get(), AF_UNSPEC, 0, cache);
            }));
  RouteCount count;
  for_each<rtnl_route>(routes, [&](rtnl_route* route) {
    ++count.all;
    count.leaving += leaves(route, links) ? 1 : 0;
  });
  return count;
}

}  // namespace

Result<std::vector<Interface>> interfaces(int netns_fd) {
  std::vector<Interface> found;
  BROOD_CHECK(run_inside(netns_fd, [&]() -> Status {
    BROOD_TRY(found, list_interfaces());
    return {};
  }));
  return found;
}

Result<RouteCount> routes(int netns_fd) {
  RouteCount count;
  BROOD_CHECK(run_inside(netns_fd, [&]() -> Status {
    BROOD_TRY(count, count_routes());
    return {};
  }));
  return count;
}

}  // namespace netns
