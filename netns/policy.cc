#include "netns/policy.h"

#include <sys/socket.h>

#include <algorithm>
#include <charconv>

namespace netns {
namespace {

// Not to be opened by any list. The host's own services by link-local address (169.254.169.254 and
// fe80::a9fe:a9fe are where clouds keep their instances' credentials; fd00:ec2::254 and
// 100.100.100.200 are two more such places), what never leaves a host, what goes to many, and IPv6
// that stands for IPv4, which would be a way around the lists of IPv4.
constexpr std::string_view kNever[] = {
    "0.0.0.0/8",   "127.0.0.0/8", "169.254.0.0/16",    "100.100.100.200", "224.0.0.0/4",
    "240.0.0.0/4", "::/96",       "::ffff:0.0.0.0/96", "64:ff9b::/96",    "64:ff9b:1::/48",
    "2002::/16",   "2001::/32",   "fd00:ec2::254",     "fe80::/10",       "ff00::/8"};
// Somebody's own networks (RFC 1918, 6598, 2544, 4193, 6890): opened by an entry that lies within
// one, not by one that is wider.
constexpr std::string_view kPrivate[] = {"10.0.0.0/8",    "172.16.0.0/12", "192.168.0.0/16",
                                         "100.64.0.0/10", "198.18.0.0/15", "192.0.0.0/24",
                                         "fc00::/7",      "fec0::/10"};

template <typename List>
bool lies_in(const List& list, const Prefix& range) {
  return std::any_of(std::begin(list), std::end(list),
                     [&](std::string_view one) { return contains(prefix(one), range); });
}

template <typename List>
std::string elements(const List& list, int family) {
  std::string joined;
  for (const std::string_view one : list) {
    if (prefix(one).family == family) {
      joined += (joined.empty() ? "" : ", ") + text_of(prefix(one));
    }
  }
  return joined;
}

base::Error no_destination(std::string_view text, const std::string& why) {
  return base::Error::because("'" + std::string(text) + "' " + why);
}

bool take_port(std::string_view text, std::uint16_t& port) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc{} && end == text.data() + text.size() && port != 0;
}

bool take_ports(std::string_view text, Destination& into) {
  into.protocol = Protocol::tcp;
  if (const auto slash = text.find('/'); slash != std::string_view::npos) {
    const std::string_view protocol = text.substr(slash + 1);
    if (protocol != "tcp" && protocol != "udp") {
      return false;
    }
    into.protocol = protocol == "tcp" ? Protocol::tcp : Protocol::udp;
    text = text.substr(0, slash);
  }
  const auto dash = text.find('-');
  if (!take_port(text.substr(0, dash), into.first_port)) {
    return false;
  }
  into.last_port = into.first_port;
  return dash == std::string_view::npos ||
         (take_port(text.substr(dash + 1), into.last_port) && into.first_port <= into.last_port);
}

struct Halves {
  std::string_view range;
  std::string_view ports;
  bool has_ports = false;
};

// IPv6 has colons of its own, so that only brackets tell a port from it.
Halves split(std::string_view text) {
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == std::string_view::npos) {
      return {text, {}, false};
    }
    const std::string_view rest = text.substr(close + 1);
    return {text.substr(1, close - 1), rest.substr(std::min<std::size_t>(1, rest.size())),
            !rest.empty()};
  }
  const auto colon = text.find(':');
  if (colon == std::string_view::npos || text.find(':', colon + 1) != std::string_view::npos) {
    return {text, {}, false};
  }
  return {text.substr(0, colon), text.substr(colon + 1), true};
}

std::string ports_text(const Destination& destination) {
  const std::string first = std::to_string(destination.first_port);
  return destination.first_port == destination.last_port
             ? first
             : first + "-" + std::to_string(destination.last_port);
}

std::string protocol_text(const Destination& destination) {
  return destination.protocol == Protocol::udp ? "udp" : "tcp";
}

const char* keyword(const Prefix& range) {
  return range.family == AF_INET ? "ip" : "ip6";
}

std::string on_its_ports(std::string rule, const Destination& destination) {
  if (destination.first_port != 0) {
    rule += " " + protocol_text(destination) + " dport " + ports_text(destination);
  }
  return rule + " accept\n";
}

std::string accept_rule(const Destination& destination) {
  std::string rule =
      std::string("    ") + keyword(destination.range) + " daddr " + text_of(destination.range);
  if (destination.range.length == 0) {  // nftables knows no match on all
    rule =
        std::string("    meta nfproto ") + (destination.range.family == AF_INET ? "ipv4" : "ipv6");
  }
  return on_its_ports(std::move(rule), destination);
}

std::string accept_rules(const Policy& policy, bool within_private) {
  std::string rules;
  for (const Destination& destination : policy.allow) {
    if (destination.name.name.empty() && lies_in(kPrivate, destination.range) == within_private) {
      rules += accept_rule(destination);
    }
  }
  return rules;
}

// The kernel saves up a second's worth.
std::string over_rate(const std::string& set, const std::string& key, std::uint64_t rate) {
  return "    update @" + set + " { " + key + " limit rate over " + std::to_string(rate) +
         " bytes/second } drop\n";
}

std::string dynamic_set(const std::string& name) {
  return "  set " + name + " { type ifname; size 65535; flags dynamic; }\n";
}

std::string chain_of(const char* kind, unsigned number) {
  return std::string(kind) + "_" + std::to_string(number);
}

std::string quoted(const std::string& name) {
  return "\"" + name + "\"";
}

// No address, and nothing that was meant as one, has such a letter, or a star, but what has a
// colon.
bool is_meant_as_name(std::string_view text) {
  return text.find(':') == std::string_view::npos && text.find('/') == std::string_view::npos &&
         std::any_of(text.begin(), text.end(), [](char one) {
           return (one >= 'a' && one <= 'z') || (one >= 'A' && one <= 'Z') || one == '*' ||
                  one == '_' || static_cast<unsigned char>(one) >= 0x80;
         });
}

bool same_ports(const Destination& a, const Destination& b) {
  return a.first_port == b.first_port && a.last_port == b.last_port && a.protocol == b.protocol;
}

std::string names_set(int family, unsigned number, std::size_t group) {
  return (family == AF_INET ? "names4_" : "names6_") + std::to_string(number) + "_" +
         std::to_string(group);
}

constexpr const char* kNamesSet4 = " { type ipv4_addr; size 1024; flags timeout; }\n";
constexpr const char* kNamesSet6 = " { type ipv6_addr; size 1024; flags timeout; }\n";

}  // namespace

base::Result<Destination> parse_destination(std::string_view text) {
  const Halves halves = split(text);
  Destination destination;
  if (halves.has_ports && !take_ports(halves.ports, destination)) {
    return base::fail(no_destination(text, "has no port such as 443, 8000-8100 or 53/udp"));
  }
  if (is_meant_as_name(halves.range)) {
    BROOD_TRY(destination.name, parse_name_pattern(halves.range));
    return destination;
  }
  BROOD_TRY(destination.range, parse_prefix(halves.range));
  if (lies_in(kNever, destination.range)) {
    return base::fail(no_destination(
        text, "cannot be allowed: it is the host's own, its metadata service's, or goes to many"));
  }
  return destination;
}

std::string text_of(const Destination& destination) {
  const bool named = !destination.name.name.empty();
  const std::string range = named ? text_of(destination.name) : text_of(destination.range);
  if (destination.first_port == 0) {
    return range;
  }
  const std::string shown = destination.range.family == AF_INET6 ? "[" + range + "]" : range;
  return shown + ":" + ports_text(destination) + "/" + protocol_text(destination);
}

bool may_resolve(const Policy& policy) {
  return policy.allow.empty() || !name_groups(policy).empty();
}

bool is_public(const Prefix& address) {
  return address.family != 0 && !lies_in(kNever, address) && !lies_in(kPrivate, address);
}

std::vector<NameGroup> name_groups(const Policy& policy) {
  std::vector<NameGroup> groups;
  for (const Destination& destination : policy.allow) {
    if (destination.name.name.empty()) {
      continue;
    }
    auto group = std::find_if(groups.begin(), groups.end(), [&](const NameGroup& one) {
      return same_ports(one.ports, destination);
    });
    if (group == groups.end()) {
      groups.emplace_back();
      group = groups.end() - 1;
      group->ports = destination;
    }
    group->names.push_back(destination.name);
  }
  return groups;
}

bool is_named(const std::vector<NameGroup>& groups, std::string_view name) {
  return std::any_of(groups.begin(), groups.end(), [&](const NameGroup& group) {
    return std::any_of(group.names.begin(), group.names.end(),
                       [&](const NamePattern& pattern) { return matches(pattern, name); });
  });
}

std::string key_of(const Policy& policy) {
  std::vector<std::string> texts;
  for (const Destination& destination : policy.allow) {
    texts.push_back(text_of(destination));
  }
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  std::string key = "nat connections=" + std::to_string(policy.connections) +
                    " rate=" + std::to_string(policy.bytes_per_second);
  for (const std::string& text : texts) {
    key += " " + text;
  }
  return key;
}

// prerouting comes before connections are tracked: what a port may not send as costs nothing but
// this. A port's own address is the only one, so that link-local addresses, and with them all of
// neighbour discovery and router advertisements, end here. What comes back is held against the mark
// of the port that began it: an address may have been another sandbox's a moment ago.
std::string router_rules(const RouterPlan& plan) {
  const std::string uplink = quoted(plan.uplink);
  std::string rules = "table inet brood\ndelete table inet brood\ntable inet brood {\n";
  rules += "  set never4 { type ipv4_addr; flags interval; elements = { " +
           elements(kNever, AF_INET) + " }; }\n";
  rules += "  set never6 { type ipv6_addr; flags interval; elements = { " +
           elements(kNever, AF_INET6) + " }; }\n";
  rules += "  set private4 { type ipv4_addr; flags interval; elements = { " +
           elements(kPrivate, AF_INET) + " }; }\n";
  rules += "  set private6 { type ipv6_addr; flags interval; elements = { " +
           elements(kPrivate, AF_INET6) + " }; }\n";
  rules +=
      "  set ports4 { type ifname . ipv4_addr; }\n  set ports6 { type ifname . ipv6_addr; }\n"
      "  set resolving { type ifname; }\n"
      "  set asking { type ifname . inet_service; }\n"
      "  map resolvers { type ifname : verdict; }\n"
      "  map marks { type ifname : mark; }\n"
      "  map outbound { type ifname : verdict; }\n"
      "  map inbound { type ifname . mark : verdict; }\n"
      "  set denied { type ifname; size 65535; flags dynamic; counter; }\n";
  rules +=
      "  chain refused {\n"
      "    update @denied { iifname }\n"
      "    limit rate 100/second reject with icmpx admin-prohibited\n"
      "    drop\n  }\n";
  rules +=
      "  chain prerouting {\n    type filter hook prerouting priority raw; policy drop;\n"
      "    iifname { \"lo\", " +
      uplink +
      " } accept\n"
      "    iifname . ip saddr @ports4 accept\n"
      "    iifname . ip6 saddr @ports6 accept\n"
      "    ip6 saddr { ::, fe80::/10 } drop\n"  // what a kernel says of itself; not counted
      "    update @denied { iifname }\n  }\n";
  rules +=
      "  chain forward {\n    type filter hook forward priority filter; policy drop;\n"
      "    ct state invalid drop\n"
      "    iifname " +
      uplink +
      " ct state established,related oifname . ct mark vmap @inbound\n"
      "    iifname " +
      uplink +
      " drop\n"
      "    oifname != " +
      uplink +
      " goto refused\n"
      "    ct state new ct mark set iifname map @marks\n"
      "    iifname vmap @outbound\n  }\n";
  rules +=
      "  chain input {\n    type filter hook input priority filter; policy drop;\n"
      "    iifname \"lo\" accept\n"
      "    ct state established,related accept\n"
      "    iifname " +
      uplink +
      " drop\n"
      "    ip daddr " +
      address_text(plan.gateway4) +
      " iifname @resolving meta l4proto { tcp, udp } th dport 53 accept\n";
  rules += "    ip daddr " + address_text(plan.gateway4) + " iifname . udp dport @asking accept\n";
  if (plan.gateway6.family != 0) {
    rules += "    ip6 daddr " + address_text(plan.gateway6) +
             " iifname @resolving meta l4proto { tcp, udp } th dport 53 accept\n";
  }
  rules += "    goto refused\n  }\n";
  rules +=
      "  chain names {\n    type nat hook prerouting priority dstnat;\n"
      "    iifname vmap @resolvers\n  }\n";
  rules +=
      "  chain postrouting {\n    type nat hook postrouting priority srcnat;\n"
      "    oifname " +
      uplink + " masquerade\n  }\n}\n";
  return rules;
}

namespace {

// A policy's names: what they stand for, and the way of its questions.
struct NamesRules {
  std::string sets;
  std::string accept;
  std::string chain;
};

NamesRules names_rules(unsigned number, const Policy& policy, const RouterPlan& plan,
                       std::uint16_t resolver_port) {
  NamesRules rules;
  const auto groups = name_groups(policy);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const std::string set4 = names_set(AF_INET, number, i);
    const std::string set6 = names_set(AF_INET6, number, i);
    rules.sets += "  set " + set4 + kNamesSet4 + "  set " + set6 + kNamesSet6;
    rules.accept += on_its_ports("    ip daddr @" + set4, groups[i].ports) +
                    on_its_ports("    ip6 daddr @" + set6, groups[i].ports);
  }
  if (resolver_port != 0) {
    const std::string gateway = address_text(plan.gateway4);
    rules.chain = "  chain " + chain_of("ask", number) + " {\n    ip daddr " + gateway +
                  " udp dport 53 dnat ip to " + gateway + ":" + std::to_string(resolver_port) +
                  "\n  }\n";
  }
  return rules;
}

}  // namespace

std::string policy_rules(unsigned number, const Policy& policy, const RouterPlan& plan,
                         std::uint16_t resolver_port) {
  const NamesRules names = names_rules(number, policy, plan, resolver_port);
  const std::string connections = chain_of("connections", number);
  std::string rules = "table inet brood {\n" + dynamic_set(connections) + names.sets;
  std::string out = "  chain " + chain_of("out", number) + " {\n";
  std::string in = "  chain " + chain_of("in", number) + " {\n";
  if (policy.bytes_per_second != 0) {
    rules += dynamic_set(chain_of("rate_out", number)) + dynamic_set(chain_of("rate_in", number));
    out += over_rate(chain_of("rate_out", number), "iifname", policy.bytes_per_second);
    in += over_rate(chain_of("rate_in", number), "oifname", policy.bytes_per_second);
  }
  in += "    accept\n  }\n";
  out +=
      "    ct state established,related accept\n"
      "    add @" +
      connections + " { iifname ct count over " + std::to_string(policy.connections) +
      " } goto refused\n"
      "    ip daddr @never4 goto refused\n    ip6 daddr @never6 goto refused\n";
  out += accept_rules(policy, true);
  out += "    ip daddr @private4 goto refused\n    ip6 daddr @private6 goto refused\n";
  out += policy.allow.empty() ? "    accept\n"
                              : accept_rules(policy, false) + names.accept + "    goto refused\n";
  return rules + out + "  }\n" + in + names.chain + "}\n";
}

std::string policy_removal(unsigned number, const Policy& policy) {
  std::string text;
  for (const char* chain : {"out", "in", "ask"}) {
    text += "add chain inet brood " + chain_of(chain, number) + "\n";  // not all have all
    text += "delete chain inet brood " + chain_of(chain, number) + "\n";
  }
  for (std::size_t i = 0; i < name_groups(policy).size(); ++i) {
    for (const int family : {AF_INET, AF_INET6}) {
      text += "delete set inet brood " + names_set(family, number, i) + "\n";
    }
  }
  for (const char* set : {"connections", "rate_out", "rate_in"}) {
    text += "add set inet brood " + chain_of(set, number) +
            " { type ifname; size 65535; flags dynamic; }\n";
    text += "delete set inet brood " + chain_of(set, number) + "\n";
  }
  return text;
}

namespace {

std::string element(const char* verb, const char* set, const std::string& value) {
  return std::string(verb) + " element inet brood " + set + " { " + value + " }\n";
}

std::string port_elements(const char* verb, const PortPlan& plan) {
  const std::string name = quoted(plan.interface);
  const std::string mark = std::to_string(plan.mark);
  std::string text = element(verb, "ports4", name + " . " + address_text(plan.address4));
  if (plan.address6.family != 0) {
    text += element(verb, "ports6", name + " . " + address_text(plan.address6));
  }
  if (plan.resolves) {
    text += element(verb, "resolving", name);
  }
  if (plan.resolver_port != 0) {
    text += element(verb, "asking", name + " . " + std::to_string(plan.resolver_port));
    text += element(verb, "resolvers", name + " : jump " + chain_of("ask", plan.policy));
  }
  text += element(verb, "marks", name + " : " + mark);
  text += element(verb, "outbound", name + " : jump " + chain_of("out", plan.policy));
  text += element(verb, "inbound", name + " . " + mark + " : jump " + chain_of("in", plan.policy));
  return text;
}

}  // namespace

std::string port_rules(const PortPlan& plan) {
  return port_elements("add", plan) + element("add", "denied", quoted(plan.interface));
}

std::string port_removal(const PortPlan& plan) {
  return port_elements("delete", plan) + element("delete", "denied", quoted(plan.interface));
}

// Kernels before 6.12 leave the time of an element that is added again as it is: it is taken away
// first, which wants it to be there. All of it is one transaction.
std::string admission_rules(unsigned number, const std::vector<Admission>& admissions) {
  std::string text;
  for (const Admission& one : admissions) {
    const std::string set = names_set(one.address.family, number, one.group);
    const std::string address = address_text(one.address);
    text += element("add", set.c_str(), address) + element("delete", set.c_str(), address);
    if (one.seconds != 0) {
      text +=
          element("add", set.c_str(), address + " timeout " + std::to_string(one.seconds) + "s");
    }
  }
  return text;
}

std::string host_rules(const HostPlan& plan) {
  const std::string uplink = quoted(plan.uplink);
  const std::string head = "table inet " + plan.table;
  std::string rules = head + "\ndelete " + head + "\n" + head + " {\n";
  rules += "  chain prerouting {\n    type filter hook prerouting priority raw;\n";
  rules += "    iifname " + uplink + " ip saddr " + address_text(plan.router4) + " accept\n";
  if (plan.router6.family != 0) {
    rules += "    iifname " + uplink + " ip6 saddr " + address_text(plan.router6) + " accept\n";
  }
  rules += "    iifname " + uplink + " drop\n  }\n";
  rules +=
      "  chain input {\n    type filter hook input priority filter;\n"
      "    iifname " +
      uplink + " drop\n  }\n";
  rules +=
      "  chain forward {\n    type filter hook forward priority filter;\n"
      "    oifname " +
      uplink +
      " ct state established,related accept\n"
      "    oifname " +
      uplink + " drop\n  }\n";
  rules +=
      "  chain postrouting {\n    type nat hook postrouting priority srcnat;\n"
      "    ip saddr " +
      address_text(plan.router4) + " oifname != " + uplink + " masquerade\n";
  if (plan.router6.family != 0) {
    rules +=
        "    ip6 saddr " + address_text(plan.router6) + " oifname != " + uplink + " masquerade\n";
  }
  return rules + "  }\n}\n";
}

std::string host_removal(const std::string& table) {
  return "table inet " + table + "\ndelete table inet " + table + "\n";
}

}  // namespace netns
