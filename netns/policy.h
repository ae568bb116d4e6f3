// What a sandbox may reach, as a value, and as text of nftables. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "netns/names.h"
#include "netns/prefix.h"

namespace netns {

enum class Protocol { any, tcp, udp };

// One entry of an allow-list.
struct Destination {
  Prefix range{};                // family 0: a name
  NamePattern name{};            // of which what DNS answers is allowed, see admission_rules
  std::uint16_t first_port = 0;  // 0: every port
  std::uint16_t last_port = 0;
  Protocol protocol = Protocol::any;  // any: only without ports

  bool operator==(const Destination&) const = default;
};

// RANGE[:PORT[-PORT][/tcp|udp]]; an IPv6 range before a port in brackets: [2001:db8::/32]:443. A
// port without a protocol is TCP's. Refused is what no list may open: see kNever in policy.cc. In
// the place of RANGE a name, or a star and a name: parse_name_pattern.
base::Result<Destination> parse_destination(std::string_view text);
std::string text_of(const Destination& destination);

constexpr std::uint64_t kLeastRate = 128 << 10;

struct Policy {
  std::vector<Destination> allow;    // nothing else, when there is any; else all that is public
  std::uint32_t connections = 1024;  // that the kernel tracks of one sandbox at once; at least 1
  // In each direction, of one sandbox, a second's worth at once; 0: no such limit. At least
  // kLeastRate: a veth carries packets of 64 KiB, and one larger than the limit would never pass.
  std::uint64_t bytes_per_second = 0;

  bool operator==(const Policy&) const = default;
};
// Whether any names can be asked for: where an allow-list has only addresses, a question would be a
// way out.
bool may_resolve(const Policy& policy);

// What may be opened by name: all that is public, and so nothing that DNS could be made to say of
// the host's own networks.
bool is_public(const Prefix& address);

// The names of a list that open the same ports. What they stand for is in sets of their own.
struct NameGroup {
  Destination ports{};  // and protocol
  std::vector<NamePattern> names;
};
// Empty: names are not asked for, or all are.
std::vector<NameGroup> name_groups(const Policy& policy);
bool is_named(const std::vector<NameGroup>& groups, std::string_view name);

// Equal for policies that mean the same.
std::string key_of(const Policy& policy);

// Of a network namespace's tables, ready for nftables; see docs/security.md for what they hold.
struct RouterPlan {
  Prefix gateway4;     // the router, as sandboxes see it: their way out and their resolver
  Prefix gateway6;     // family 0 where there is no IPv6
  std::string uplink;  // the interface that leads to the host
};
std::string router_rules(const RouterPlan& plan);
// The chains of one policy; `number` is the caller's, and is not used twice. With a `resolver_port`
// questions that its sandboxes send to the router go to that port there.
std::string policy_rules(unsigned number, const Policy& policy, const RouterPlan& plan,
                         std::uint16_t resolver_port = 0);
std::string policy_removal(unsigned number, const Policy& policy);

// An address that a name has stood for, opened for a time to all sandboxes of a policy.
struct Admission {
  std::size_t group = 0;  // of name_groups
  Prefix address{};
  unsigned seconds = 0;  // 0: it is closed; a connection that there is goes on
};
// One that is open already is open for this long from now on.
std::string admission_rules(unsigned number, const std::vector<Admission>& admissions);

struct PortPlan {
  std::string interface;  // the router's end
  Prefix address4;
  Prefix address6;  // family 0: none
  unsigned policy = 0;
  std::uint32_t mark = 0;  // of its connections; never another port's
  bool resolves = false;
  std::uint16_t resolver_port = 0;  // of the policy
};
std::string port_rules(const PortPlan& plan);
std::string port_removal(const PortPlan& plan);

struct HostPlan {
  std::string table;   // its name
  std::string uplink;  // the host's end
  Prefix router4;      // the router's end: all that comes from there comes from these
  Prefix router6;      // family 0: none
};
std::string host_rules(const HostPlan& plan);
std::string host_removal(const std::string& table);

}  // namespace netns
