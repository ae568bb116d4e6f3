#include "netns/router.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/file.h"
#include "netns/namespace.h"

namespace netns {
namespace {

using base::Result;
using base::Status;
using nlohmann::literals::operator""_json_pointer;

constexpr const char* kUplink = "up";
// Ours alone on each wire, so that they may be the same on all.
constexpr const char* kHostMac = "02:62:72:6f:6f:01";
constexpr const char* kRouterMac = "02:62:72:6f:6f:02";
constexpr const char* kSandboxMac = "02:62:72:6f:6f:03";
// Seen by nobody outside the router: the same for all agents of a host.
constexpr const char* kSandboxes4 = "10.231.0.0/16";
constexpr const char* kSandboxes6 = "fd62:726f:6f64::/64";
// Seen by the host: each agent has four of each.
constexpr const char* kUplinks4 = "10.230.0.0/16";
constexpr const char* kUplinks6 = "fd62:726f:6f64:1::/64";
constexpr std::uint32_t kUplinkCount = 1 << 14;
constexpr std::uint32_t kFirstSlot = 256;  // what is below is for the router's own services
constexpr std::uint32_t kLastSlot = 65'534;

Prefix everything(int family) {
  return Prefix{family, {}, 0};
}

Prefix as_range(Prefix address, unsigned length) {
  address.length = length;
  return address;
}

Status set_kernel(const char* path, std::string_view value) {
  BROOD_TRY(const base::UniqueFd file, base::open_at(AT_FDCWD, path, O_WRONLY));
  if (::write(file.get(), value.data(), value.size()) < 0) {
    return base::fail_errno("write", path);
  }
  return {};
}

std::uint32_t first_choice(const std::string& instance) {
  std::uint32_t number = 0;
  std::from_chars(instance.data(), instance.data() + std::min<std::size_t>(8, instance.size()),
                  number, 16);
  return number % kUplinkCount;
}

}  // namespace

bool forwards(int family) {
  const auto text = base::read_file(family == AF_INET ? "/proc/sys/net/ipv4/ip_forward"
                                                      : "/proc/sys/net/ipv6/conf/all/forwarding");
  return text && text->starts_with('1');
}

Prefix gateway4() {
  return address_in(prefix(kSandboxes4), 1);
}
Prefix gateway6() {
  return address_in(prefix(kSandboxes6), 1);
}

std::string Router::table_of(const std::string& instance) {
  return "brood_" + instance;
}

Status Router::clear(const std::string& instance) {
  BROOD_TRY(Nftables filter, Nftables::open());
  return filter.run(host_removal(table_of(instance)));
}

Result<std::unique_ptr<Router>> Router::make(const RouterOptions& options) {
  BROOD_TRY(base::UniqueFd netns, netns::make());
  BROOD_TRY(Links host, Links::open());
  BROOD_TRY(Nftables host_filter, Nftables::open());
  std::optional<Links> inside;
  std::optional<Nftables> filter;
  const auto prepare = [&]() -> Status {
    BROOD_TRY(inside, Links::open());
    BROOD_TRY(filter, Nftables::open());
    BROOD_CHECK(set_kernel("/proc/sys/net/ipv4/ip_forward", "1"));
    // What answers DNS is bound by an agent that has no CAP_NET_BIND_SERVICE.
    BROOD_CHECK(set_kernel("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"));
    return options.ipv6 ? set_kernel("/proc/sys/net/ipv6/conf/all/forwarding", "1") : Status{};
  };
  BROOD_CHECK(run_inside(netns.get(), prepare));
  std::unique_ptr<Router> router(new Router(options, std::move(netns), std::move(host),
                                            std::move(*inside), std::move(host_filter),
                                            std::move(*filter)));
  BROOD_CHECK(router->build());
  return router;
}

Router::Router(const RouterOptions& options, base::UniqueFd netns, Links host, Links inside,
               Nftables host_filter, Nftables filter)
    : options_(options),
      host_interface_("brood-" + options.instance.substr(0, 8)),
      netns_(std::move(netns)),
      host_(std::move(host)),
      inside_(std::move(inside)),
      host_filter_(std::move(host_filter)),
      filter_(std::move(filter)),
      next_slot_(kFirstSlot) {}

// The interface goes first: without it no rule of the host's is needed.
Router::~Router() {
  (void)host_.remove(host_interface_);
  (void)host_filter_.run(host_removal(table_of(options_.instance)));
}

// What an earlier one left is replaced. The filters are there before the wire is.
Status Router::build() {
  BROOD_CHECK(host_.remove(host_interface_));
  BROOD_CHECK(choose_addresses());
  BROOD_CHECK(filter_.run(router_rules(plan())));
  BROOD_CHECK(host_filter_.run(host_rules({.table = table_of(options_.instance),
                                           .uplink = host_interface_,
                                           .router4 = router4_,
                                           .router6 = router6_})));
  BROOD_CHECK(host_.add({.name = host_interface_,
                         .mac = kHostMac,
                         .peer_name = kUplink,
                         .peer_mac = kRouterMac,
                         .peer_netns_fd = netns_.get()}));
  BROOD_CHECK(connect_host());
  return connect_inside();
}

Status Router::choose_addresses() {
  BROOD_TRY(const std::vector<Prefix> taken, host_.addresses());
  const std::uint32_t first = first_choice(options_.instance);
  for (std::uint32_t i = 0; i < kUplinkCount; ++i) {
    const std::uint32_t offset = (first + i) % kUplinkCount * 4;
    const Prefix range = as_range(address_in(prefix(kUplinks4), offset), 30);
    if (std::none_of(taken.begin(), taken.end(), [&](const Prefix& one) {
          // An address with its length is no range: what it leads to is.
          return one.family == AF_INET && contains(range, as_range(one, 32));
        })) {
      host4_ = address_in(range, 1);
      router4_ = address_in(range, 2);
      if (options_.ipv6) {
        host6_ = address_in(prefix(kUplinks6), offset + 1);
        router6_ = address_in(prefix(kUplinks6), offset + 2);
      }
      return {};
    }
  }
  return base::fail_because(std::string("all of ") + kUplinks4 + " is in use on this host");
}

Status Router::connect_host() {
  BROOD_TRY(const int index, host_.index_of(host_interface_));
  BROOD_CHECK(host_.add_address(index, as_range(host4_, 30)));
  if (options_.ipv6) {
    BROOD_CHECK(host_.add_address(index, as_range(host6_, 126)));
  }
  BROOD_CHECK(host_.raise(index));
  BROOD_CHECK(host_.add_neighbour(index, router4_, kRouterMac));
  return options_.ipv6 ? host_.add_neighbour(index, router6_, kRouterMac) : Status{};
}

Status Router::connect_inside() {
  BROOD_TRY(const int loopback, inside_.index_of("lo"));
  BROOD_CHECK(inside_.raise(loopback));
  BROOD_CHECK(inside_.add_address(loopback, gateway4()));
  BROOD_TRY(const int index, inside_.index_of(kUplink));
  BROOD_CHECK(inside_.add_address(index, as_range(router4_, 30)));
  BROOD_CHECK(inside_.raise(index));
  BROOD_CHECK(inside_.add_neighbour(index, host4_, kHostMac));
  BROOD_CHECK(inside_.add_route(index, {.to = everything(AF_INET), .via = host4_}));
  if (!options_.ipv6) {
    return {};
  }
  BROOD_CHECK(inside_.add_address(loopback, gateway6()));
  BROOD_CHECK(inside_.add_address(index, as_range(router6_, 126)));
  BROOD_CHECK(inside_.add_neighbour(index, host6_, kHostMac));
  return inside_.add_route(index, {.to = everything(AF_INET6), .via = host6_});
}

RouterPlan Router::plan() const {
  return {
      .gateway4 = gateway4(), .gateway6 = options_.ipv6 ? gateway6() : Prefix{}, .uplink = kUplink};
}

Result<unsigned> Router::add_policy(const Policy& policy, std::uint16_t resolver_port) {
  const unsigned number = next_policy_++;
  BROOD_CHECK(filter_.run(policy_rules(number, policy, plan(), resolver_port)));
  policies_[number] = {policy, resolver_port};
  return number;
}

Status Router::remove_policy(unsigned number) {
  BROOD_CHECK(filter_.run(policy_removal(number, policies_.at(number).policy)));
  policies_.erase(number);
  return {};
}

Status Router::admit(unsigned policy, const std::vector<Admission>& admissions) {
  return filter_.run(admission_rules(policy, admissions));
}

Result<Port> Router::attach(int sandbox_netns_fd, unsigned policy) {
  Port port;
  const Added& added = policies_.at(policy);
  if (next_slot_ <= kLastSlot) {
    port.slot = next_slot_++;
  } else if (!free_slots_.empty()) {
    port.slot = free_slots_.front();
    free_slots_.pop_front();
  } else {
    return base::fail(base::Error("find an address for a sandbox", EMFILE));
  }
  port.plan = {.interface = "s" + std::to_string(port.slot),
               .address4 = address_in(prefix(kSandboxes4), port.slot),
               .address6 = options_.ipv6 ? address_in(prefix(kSandboxes6), port.slot) : Prefix{},
               .policy = policy,
               .mark = next_mark_++,
               .resolves = added.policy.allow.empty(),
               .resolver_port = added.resolver_port};
  if (auto status = filter_.run(port_rules(port.plan)); !status) {
    free_slots_.push_back(port.slot);
    return base::fail(status.error());
  }
  if (auto status = wire(port, sandbox_netns_fd); !status) {
    detach(port);
    return base::fail(status.error());
  }
  return port;
}

Status Router::wire(const Port& port, int sandbox_netns_fd) {
  const PortPlan& plan = port.plan;
  BROOD_CHECK(inside_.add({.name = plan.interface,
                           .mac = kRouterMac,
                           .peer_name = kInside,
                           .peer_mac = kSandboxMac,
                           .peer_netns_fd = sandbox_netns_fd}));
  BROOD_TRY(const int index, inside_.index_of(plan.interface));
  BROOD_CHECK(inside_.raise(index));
  BROOD_CHECK(inside_.add_route(index, {.to = plan.address4, .via = {}, .source = gateway4()}));
  BROOD_CHECK(inside_.add_neighbour(index, plan.address4, kSandboxMac));
  if (options_.ipv6) {
    BROOD_CHECK(inside_.add_route(index, {.to = plan.address6, .via = {}, .source = gateway6()}));
    BROOD_CHECK(inside_.add_neighbour(index, plan.address6, kSandboxMac));
  }
  const auto connect_sandbox = [&]() -> Status {
    // Nobody inside has a capability, and a port of its own is nobody else's business.
    BROOD_CHECK(set_kernel("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"));
    BROOD_TRY(Links links, Links::open());
    BROOD_TRY(const int inside, links.index_of(kInside));
    BROOD_CHECK(links.add_address(inside, plan.address4));
    BROOD_CHECK(links.raise(inside));
    BROOD_CHECK(links.add_neighbour(inside, gateway4(), kRouterMac));
    BROOD_CHECK(links.add_route(inside, {.to = everything(AF_INET), .via = gateway4()}));
    if (!options_.ipv6) {
      return {};
    }
    BROOD_CHECK(links.add_address(inside, plan.address6));
    BROOD_CHECK(links.add_neighbour(inside, gateway6(), kRouterMac));
    return links.add_route(inside, {.to = everything(AF_INET6), .via = gateway6()});
  };
  return run_inside(sandbox_netns_fd, connect_sandbox);
}

// The wire first: what is sent without rules is dropped.
void Router::detach(const Port& port) {
  (void)inside_.remove(port.plan.interface);
  (void)filter_.run(port_removal(port.plan));
  free_slots_.push_back(port.slot);
}

namespace {

// The router's end received what the sandbox has sent.
PortCounters as_of_the_sandbox(const LinkCounters& link) {
  return {.sent_bytes = link.received_bytes,
          .sent_packets = link.received_packets,
          .received_bytes = link.sent_bytes,
          .received_packets = link.sent_packets};
}

Status add_denied(const std::string& listed, std::map<std::string, PortCounters>& to) {
  const auto document = nlohmann::json::parse(listed, nullptr, false);
  if (document.is_discarded()) {
    return base::fail_because("nftables listed what is no JSON");
  }
  for (const auto& entry : document.value("nftables", nlohmann::json::array())) {
    for (const auto& element : entry.value("/set/elem"_json_pointer, nlohmann::json::array())) {
      const auto port = to.find(element.value("/elem/val"_json_pointer, ""));
      if (port != to.end()) {
        port->second.denied_packets = element.value("/elem/counter/packets"_json_pointer, 0ULL);
      }
    }
  }
  return {};
}

}  // namespace

Result<std::map<std::string, PortCounters>> Router::counters() {
  BROOD_TRY(const auto links, inside_.counters());
  std::map<std::string, PortCounters> found;
  for (const auto& [name, link] : links) {
    if (name.starts_with('s')) {
      found[name] = as_of_the_sandbox(link);
    }
  }
  BROOD_TRY(const std::string listed, filter_.list("list set inet brood denied"));
  BROOD_CHECK(add_denied(listed, found));
  return found;
}

Result<PortCounters> Router::counters(const Port& port) {
  const std::string& name = port.plan.interface;
  BROOD_TRY(const LinkCounters link, inside_.counters(name));
  std::map<std::string, PortCounters> one{{name, as_of_the_sandbox(link)}};
  BROOD_TRY(const std::string listed, filter_.list("list set inet brood denied"));
  BROOD_CHECK(add_denied(listed, one));
  return one.begin()->second;
}

}  // namespace netns
