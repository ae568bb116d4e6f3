// The agent's router: a network namespace of its own between the host and the sandboxes that have a
// network. Each sandbox has a wire to it, with an address and a policy, and there is no other way
// out of it; two sandboxes have no wire in common, so there is no neighbour to be deceived. One
// wire leads from the router to the host, which masquerades what comes from there.
//
// The namespace and everything in it goes with the object, or with its process. What can stay
// behind is one nftables table of the host's: the next `make` of the same instance replaces it.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "netns/links.h"
#include "netns/nftables.h"
#include "netns/policy.h"
#include "netns/prefix.h"

namespace netns {

// Whether the calling thread's namespace hands packets of this family on from one interface to
// another. It is the administrator's to say (net.ipv4.ip_forward, net.ipv6.conf.all.forwarding).
bool forwards(int family);

struct RouterOptions {
  std::string instance;  // [0-9a-f]{12}; names what is made on the host
  bool ipv6 = true;      // give sandboxes IPv6, too
};

// A sandbox's wire.
struct Port {
  PortPlan plan;
  std::uint32_t slot = 0;  // its place among the addresses
};

struct PortCounters {
  std::uint64_t sent_bytes = 0;  // by the sandbox
  std::uint64_t sent_packets = 0;
  std::uint64_t received_bytes = 0;
  std::uint64_t received_packets = 0;
  std::uint64_t denied_packets = 0;  // of those that were sent
};

// What sandboxes find at this address: their way out, and their resolver.
Prefix gateway4();
Prefix gateway6();
constexpr const char* kInside = "eth0";  // the sandbox's end

// Needs CAP_SYS_ADMIN and CAP_NET_ADMIN. One thread at a time; every call blocks for milliseconds.
class Router {
 public:
  // In the calling thread's namespace, which is the host here.
  static base::Result<std::unique_ptr<Router>> make(const RouterOptions& options);
  ~Router();
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  // The number by which the others know it. `resolver_port`: policy_rules.
  base::Result<unsigned> add_policy(const Policy& policy, std::uint16_t resolver_port = 0);
  // EBUSY-like failure of nftables while a port has it.
  base::Status remove_policy(unsigned number);

  // All or none.
  base::Status admit(unsigned policy, const std::vector<Admission>& admissions);

  // The policy is in force before the wire is. Fails, and leaves nothing, where the namespace has
  // gone meanwhile. EMFILE: no address is left.
  base::Result<Port> attach(int sandbox_netns_fd, unsigned policy);
  void detach(const Port& port);

  // By interface. Of ports that are attached.
  base::Result<std::map<std::string, PortCounters>> counters();
  base::Result<PortCounters> counters(const Port& port);

  int netns_fd() const { return netns_.get(); }
  const Prefix& outside4() const { return router4_; }  // as which sandboxes appear on the host
  const std::string& host_interface() const { return host_interface_; }
  static std::string table_of(const std::string& instance);
  // Takes away what a router of this instance has left of which no process is left, in the calling
  // thread's namespace. Nothing there is success.
  static base::Status clear(const std::string& instance);

 private:
  Router(const RouterOptions& options, base::UniqueFd netns, Links host, Links inside,
         Nftables host_filter, Nftables filter);
  base::Status build();
  base::Status choose_addresses();
  base::Status connect_host();
  base::Status connect_inside();
  base::Status wire(const Port& port, int sandbox_netns_fd);

  const RouterOptions options_;
  const std::string host_interface_;
  base::UniqueFd netns_;
  Links host_;
  Links inside_;
  Nftables host_filter_;
  Nftables filter_;
  Prefix host4_{}, router4_{}, host6_{}, router6_{};
  struct Added {
    Policy policy;
    std::uint16_t resolver_port = 0;
  };
  RouterPlan plan() const;
  std::map<unsigned, Added> policies_;
  unsigned next_policy_ = 1;
  std::uint32_t next_mark_ = 1;
  std::uint32_t next_slot_;
  std::deque<std::uint32_t> free_slots_;  // the longest free first
};

}  // namespace netns
