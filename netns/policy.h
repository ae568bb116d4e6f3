// What a sandbox may reach, as a value, and as text of nftables. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "netns/prefix.h"

namespace netns {

enum class Protocol { any, tcp, udp };

// One entry of an allow-list.
struct Destination {
  Prefix range{};
  std::uint16_t first_port = 0;  // 0: every port
  std::uint16_t last_port = 0;
  Protocol protocol = Protocol::any;  // any: only without ports

  bool operator==(const Destination&) const = default;
};

// RANGE[:PORT[-PORT][/tcp|udp]]; an IPv6 range before a port in brackets: [2001:db8::/32]:443. A
// port without a protocol is TCP's. Refused is what no list may open: see kNever in policy.cc.
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
// Whether names can be asked for: where an allow-list has only addresses, a question would be a way
// out.
bool may_resolve(const Policy& policy);

// Equal for policies that mean the same.
std::string key_of(const Policy& policy);

// Of a network namespace's tables, ready for nftables; see docs/security.md for what they hold.
struct RouterPlan {
  Prefix gateway4;     // the router, as sandboxes see it: their way out and their resolver
  Prefix gateway6;     // family 0 where there is no IPv6
  std::string uplink;  // the interface that leads to the host
};
std::string router_rules(const RouterPlan& plan);
// The chains of one policy; `number` is the caller's, and is not used twice.
std::string policy_rules(unsigned number, const Policy& policy);
std::string policy_removal(unsigned number);

struct PortPlan {
  std::string interface;  // the router's end
  Prefix address4;
  Prefix address6;  // family 0: none
  unsigned policy = 0;
  std::uint32_t mark = 0;  // of its connections; never another port's
  bool resolves = false;
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
