#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <string>

#include "netns/policy.h"
#include "netns/prefix.h"

namespace {

using netns::parse_destination;
using netns::Policy;
using netns::prefix;

std::string shown(const std::string& text) {
  const auto parsed = parse_destination(text);
  return parsed ? text_of(*parsed) : "refused: " + parsed.error().message();
}

bool refused(const std::string& text) {
  return !parse_destination(text);
}

Policy allowing(std::initializer_list<const char*> texts) {
  Policy policy;
  for (const char* text : texts) {
    policy.allow.push_back(parse_destination(text).value());
  }
  return policy;
}

}  // namespace

TEST_CASE("a range is an address and a length, and nothing behind it") {
  CHECK(text_of(prefix("10.0.0.0/8")) == "10.0.0.0/8");
  CHECK(text_of(prefix("192.0.2.7")) == "192.0.2.7");
  CHECK(text_of(prefix("2001:db8::/32")) == "2001:db8::/32");
  CHECK(text_of(prefix("::/0")) == "::/0");
  for (const char* text : {"", "10.0.0.1/8", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "10.0.0.0/x",
                           "example.com", "2001:db8::/129", "10.0.0.0/8 "}) {
    INFO(text);
    CHECK_FALSE(netns::parse_prefix(text));
  }
}

TEST_CASE("ranges know what lies in them") {
  CHECK(contains(prefix("10.0.0.0/8"), prefix("10.255.0.0/16")));
  CHECK_FALSE(contains(prefix("10.0.0.0/8"), prefix("11.0.0.0/16")));
  CHECK_FALSE(contains(prefix("10.0.0.0/16"), prefix("10.0.0.0/8")));
  CHECK(overlaps(prefix("10.0.0.0/16"), prefix("10.0.0.0/8")));
  CHECK_FALSE(contains(prefix("0.0.0.0/0"), prefix("::1")));
  CHECK(address_in(prefix("10.231.0.0/16"), 0x0102) == prefix("10.231.1.2"));
  CHECK(address_in(prefix("fd00::/64"), 0x10001) == prefix("fd00::1:1"));
}

TEST_CASE("an entry of an allow-list is a range, ports and a protocol") {
  CHECK(shown("192.0.2.0/24") == "192.0.2.0/24");
  CHECK(shown("192.0.2.7:443") == "192.0.2.7:443/tcp");
  CHECK(shown("192.0.2.7:8000-8100/udp") == "192.0.2.7:8000-8100/udp");
  CHECK(shown("[2001:db8::/32]:443") == "[2001:db8::/32]:443/tcp");
  CHECK(shown("2001:db8::1") == "2001:db8::1");
  CHECK(shown("10.1.2.3:5432/tcp") == "10.1.2.3:5432/tcp");
  for (const char* text :
       {"192.0.2.7:", "192.0.2.7:0", "192.0.2.7:65536", "192.0.2.7:9-8", "192.0.2.7:80/icmp",
        "192.0.2.7:80/tcp/", "[2001:db8::1", "[192.0.2.7]x:", ""}) {
    INFO(text);
    CHECK(refused(text));
  }
}

TEST_CASE("an entry of an allow-list may have a name in the place of a range") {
  CHECK(shown("example.com") == "example.com");
  CHECK(shown("example.com:443") == "example.com:443/tcp");
  CHECK(shown("*.example.com:53/udp") == "*.example.com:53/udp");
  CHECK(shown("xn--mnchen-3ya.example") == "xn--mnchen-3ya.example");
  CHECK(shown("a.b-c.d_e.1f:8000-8100") == "a.b-c.d_e.1f:8000-8100/tcp");
  const std::string label(63, 'a');
  CHECK_FALSE(refused(label + ".com"));
  for (const std::string& text : std::vector<std::string>{
           "*",
           "*.com",
           "*.*.com",
           "com",
           "localhost:80",
           "a.*.com",
           "*a.example.com",
           "*.",
           "*..com",
           "example..com",
           ".example.com",
           "example.com.",
           "Example.com",
           "m\xc3\xbcnchen.example",
           "-a.example.com",
           "a-.example.com",
           "exa mple.com",
           "a/b.com",
           "1.2.3.x4.5:",
           "example.com:0",
           "x.1.2.3.4",
           "0x7f.1",
           "example.com:443/icmp",
           label + "a.com",
           std::string(250, 'a') + ".com",
       }) {
    INFO(text);
    CHECK(refused(text));
  }
  CHECK(shown("*.com").find("top-level") != std::string::npos);
  CHECK(shown("Example.com").find("lower case") != std::string::npos);
}

TEST_CASE("a star stands for one label or more, and a name for itself") {
  const auto matches = [](const char* pattern, const char* name) {
    return netns::matches(netns::parse_name_pattern(pattern).value(), name);
  };
  CHECK(matches("example.com", "example.com"));
  CHECK_FALSE(matches("example.com", "a.example.com"));
  CHECK_FALSE(matches("example.com", "example.com.evil.org"));
  CHECK(matches("*.example.com", "a.example.com"));
  CHECK(matches("*.example.com", "a.b.example.com"));
  CHECK_FALSE(matches("*.example.com", "example.com"));
  CHECK_FALSE(matches("*.example.com", ".example.com"));
  CHECK_FALSE(matches("*.example.com", "badexample.com"));
  CHECK_FALSE(matches("*.example.com", ""));
}

TEST_CASE("names that open the same ports are a group, after what is private was refused") {
  const Policy policy =
      allowing({"example.com:443", "*.example.org:443/tcp", "example.net", "192.0.2.1"});
  const auto groups = name_groups(policy);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].names.size() == 2);
  CHECK(is_named(groups, "a.example.org"));
  CHECK_FALSE(is_named(groups, "example.org"));
  const std::string rules = policy_rules(7, policy, {});
  const auto refusal = rules.find("ip6 daddr @private6 goto refused");
  for (const char* rule :
       {"ip daddr @names4_7_0 tcp dport 443 accept", "ip6 daddr @names6_7_0 tcp dport 443 accept",
        "ip daddr @names4_7_1 accept"}) {
    INFO(rule);
    CHECK(rules.find(rule) != std::string::npos);
    CHECK(rules.find(rule) > refusal);
  }
  CHECK(may_resolve(policy));
  CHECK(key_of(policy) != key_of(allowing({"192.0.2.1"})));
}

TEST_CASE("no list opens the host, its metadata, or what goes to many") {
  for (const char* text :
       {"127.0.0.1", "169.254.169.254:80", "169.254.0.0/16", "224.0.0.1", "255.255.255.255",
        "0.0.0.0", "::1", "fe80::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
        "2002:a00:1::", "fd00:ec2::254", "100.100.100.200"}) {
    INFO(text);
    CHECK(refused(text));
  }
}

TEST_CASE("policies that mean the same have one key") {
  CHECK(key_of(allowing({"192.0.2.1:80", "192.0.2.2"})) ==
        key_of(allowing({"192.0.2.2", "192.0.2.1:80/tcp", "192.0.2.2"})));
  CHECK(key_of(allowing({"192.0.2.1:80"})) != key_of(allowing({"192.0.2.1:81"})));
  CHECK(key_of(allowing({})) != key_of(allowing({"0.0.0.0/0"})));
  Policy slow;
  slow.bytes_per_second = 1000;
  CHECK(key_of(slow) != key_of(Policy{}));
}

TEST_CASE("what is private is opened before it is refused, and by nothing wider") {
  const std::string rules = policy_rules(7, allowing({"0.0.0.0/0", "10.1.0.0/16:5432"}), {});
  const auto own = rules.find("ip daddr 10.1.0.0/16 tcp dport 5432 accept");
  const auto refusal = rules.find("ip daddr @private4 goto refused");
  const auto all = rules.find("meta nfproto ipv4 accept");
  REQUIRE(all != std::string::npos);
  CHECK(rules.find("ip daddr @never4 goto refused") < own);
  CHECK(own < refusal);
  CHECK(refusal < all);
}

TEST_CASE("a list is all that is allowed, and who has one asks no names") {
  CHECK(policy_rules(1, allowing({"192.0.2.1"}), {}).find("    goto refused\n  }") !=
        std::string::npos);
  CHECK(may_resolve(Policy{}));
  CHECK_FALSE(may_resolve(allowing({"192.0.2.1"})));
}
