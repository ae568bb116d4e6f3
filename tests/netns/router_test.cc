// What a sandbox reaches through the router, and what it does not, in a town of namespaces.
#include "netns/router.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "netns/inspect.h"
#include "netns/namespace.h"
#include "tests/netns/town.h"

namespace {

using netns::Policy;
using netns::Port;
using tests::Echo;
using tests::kSilence;
using tests::Town;
using namespace std::chrono_literals;

Policy allowing(std::initializer_list<const char*> texts) {
  Policy policy;
  for (const char* text : texts) {
    policy.allow.push_back(netns::parse_destination(text).value());
  }
  return policy;
}

struct House {
  base::UniqueFd netns;
  Port port;
  int fd() const { return netns.get(); }
  std::string address4() const { return address_text(port.plan.address4); }
  std::string address6() const { return address_text(port.plan.address6); }
};

House house(netns::Router& router, unsigned policy) {
  House made;
  made.netns = Town::sandbox();
  auto port = router.attach(made.fd(), policy);
  INFO((port ? "" : port.error().message()));
  REQUIRE(port);
  made.port = *port;
  return made;
}

House house(netns::Router& router, const Policy& policy = {}) {
  const auto number = router.add_policy(policy);
  INFO((number ? "" : number.error().message()));
  REQUIRE(number);
  return house(router, *number);
}

netns::PortCounters counters_of(netns::Router& router, const House& one) {
  return router.counters().value()[one.port.plan.interface];
}

constexpr std::uint16_t kWeb = 80;

}  // namespace

TEST_CASE("network: a sandbox has one address of each family, and one way out") {
  const Town town;
  const auto router = town.router();
  const House one = house(*router);
  const auto found = netns::interfaces(one.fd()).value();
  REQUIRE(found.size() == 2);
  CHECK(found[1].name == "eth0");
  CHECK(found[1].up);
  const auto& addresses = found[1].addresses;
  CHECK(std::count(addresses.begin(), addresses.end(), one.address4() + "/32") == 1);
  CHECK(std::count(addresses.begin(), addresses.end(), one.address6() + "/128") == 1);
}

TEST_CASE("network: what is public is reached by TCP, UDP and ICMP, of both families") {
  const Town town;
  const Echo web(town.outside(), kWeb);
  const auto router = town.router();
  const House one = house(*router);
  for (const char* address : {Town::kPublic4, Town::kPublic6}) {
    INFO(address);
    CHECK(tests::tcp(one.fd(), address, kWeb));
    CHECK(tests::udp(one.fd(), address, kWeb));
    CHECK(tests::ping(one.fd(), address));
  }
  const auto counted = counters_of(*router, one);
  CHECK(counted.sent_packets >= 6);
  CHECK(counted.received_packets >= 6);
  CHECK(counted.denied_packets == 0);
  const auto alone = router->counters(one.port).value();
  CHECK(alone.sent_bytes >= counted.sent_bytes);
  CHECK(alone.received_packets >= counted.received_packets);
}

TEST_CASE("network: private ranges, the metadata service and the host are not reached") {
  const Town town;
  const Echo web(town.outside(), kWeb);
  const Echo host(town.host(), kWeb);
  const auto router = town.router();
  const House one = house(*router);
  const House wide = house(*router, allowing({"0.0.0.0/0", "::/0"}));
  REQUIRE(tests::tcp(town.host(), Town::kPrivate4, kWeb));
  REQUIRE(tests::tcp(town.host(), Town::kMetadata, kWeb));
  const std::string host_end = address_text(router->outside4());
  for (const House* each : {&one, &wide}) {
    REQUIRE(tests::tcp(each->fd(), Town::kPublic4, kWeb));
    for (const std::string& address :
         {std::string(Town::kPrivate4), std::string(Town::kPrivate6), std::string(Town::kMetadata),
          std::string(Town::kHost4), std::string(Town::kHost6), host_end}) {
      INFO(address);
      CHECK_FALSE(tests::tcp(each->fd(), address, kWeb, kSilence));
      CHECK_FALSE(tests::udp(each->fd(), address, kWeb, kSilence));
      CHECK_FALSE(tests::ping(each->fd(), address, kSilence));
    }
    CHECK(router->counters(each->port).value().denied_packets ==
          counters_of(*router, *each).denied_packets);
    CHECK(router->counters(each->port).value().denied_packets > 0);
  }
  CHECK(counters_of(*router, one).denied_packets > 0);
}

TEST_CASE("network: an allow-list is all that is reached") {
  const Town town;
  const Echo web(town.outside(), kWeb);
  const Echo other(town.outside(), 81);
  const auto router = town.router();
  const House one = house(
      *router, allowing({"203.0.113.7:80", "[2001:db8:1::/64]:81/udp", "192.168.77.0/24:80"}));
  CHECK(tests::tcp(one.fd(), Town::kPublic4, 80));
  CHECK(tests::udp(one.fd(), Town::kPublic6, 81));
  CHECK(tests::tcp(one.fd(), Town::kPrivate4, 80));
  CHECK_FALSE(tests::udp(one.fd(), Town::kPublic4, 80, kSilence));
  CHECK_FALSE(tests::tcp(one.fd(), Town::kPublic4, 81, kSilence));
  CHECK_FALSE(tests::tcp(one.fd(), Town::kOther4, 80, kSilence));
  CHECK_FALSE(tests::tcp(one.fd(), Town::kPublic6, 81, kSilence));
  CHECK_FALSE(tests::tcp(one.fd(), Town::kPrivate4, 81, kSilence));
  CHECK_FALSE(tests::ping(one.fd(), Town::kPublic4, kSilence));
}

TEST_CASE("network: sandboxes do not reach each other") {
  const Town town;
  const auto router = town.router();
  const auto policy = router->add_policy(allowing({"0.0.0.0/0", "10.231.0.0/16"})).value();
  const House one = house(*router, policy);
  const House two = house(*router, policy);
  const Echo at_two(two.fd(), kWeb);
  REQUIRE(tests::tcp(two.fd(), two.address4(), kWeb));
  for (const std::string& address : {two.address4(), two.address6()}) {
    CHECK_FALSE(tests::tcp(one.fd(), address, kWeb, kSilence));
    CHECK_FALSE(tests::udp(one.fd(), address, kWeb, kSilence));
    CHECK_FALSE(tests::ping(one.fd(), address, kSilence));
  }
  CHECK(at_two.datagrams() == 0);
}

TEST_CASE("network: nobody outside, and nobody on the host, reaches a sandbox") {
  const Town town;
  const auto router = town.router();
  const House one = house(*router);
  const Echo inside(one.fd(), kWeb);
  // As somebody on the same wire would who knows the addresses.
  CHECK_FALSE(tests::tcp(town.host(), one.address4(), kWeb, kSilence));
  CHECK_FALSE(tests::tcp(town.outside(), one.address4(), kWeb, kSilence));
  CHECK_FALSE(tests::tcp(town.host(), address_text(router->outside4()), kWeb, kSilence));
  CHECK_FALSE(tests::ping(town.outside(), address_text(router->outside4()), kSilence));
  CHECK(inside.datagrams() == 0);
}

TEST_CASE("network: what is sent under another's address ends at the wire") {
  const Town town;
  const Echo web(town.outside(), kWeb);
  const auto router = town.router();
  const auto policy = router->add_policy({}).value();
  const House one = house(*router, policy);
  const House two = house(*router, policy);
  tests::send_spoofed(one.fd(), one.address4(), Town::kPublic4, kWeb, "own4");
  tests::send_spoofed(one.fd(), one.address6(), Town::kPublic6, kWeb, "own6");
  for (const std::string& source :
       {two.address4(), std::string(Town::kHost4), std::string("127.0.0.1"),
        std::string("203.0.113.99"), address_text(router->outside4())}) {
    tests::send_spoofed(one.fd(), source, Town::kPublic4, kWeb, "false4");
  }
  for (const std::string& source :
       {two.address6(), std::string(Town::kHost6), std::string("fe80::1")}) {
    tests::send_spoofed(one.fd(), source, Town::kPublic6, kWeb, "false6");
  }
  REQUIRE(tests::udp(two.fd(), Town::kPublic4, kWeb));
  CHECK(web.heard("own4"));
  CHECK(web.heard("own6"));
  CHECK_FALSE(web.heard("false4"));
  CHECK_FALSE(web.heard("false6"));
  CHECK(counters_of(*router, one).denied_packets >= 7);
}

TEST_CASE("network: frames that claim to be a neighbour or the router change nothing") {
  const Town town;
  const Echo web(town.outside(), kWeb);
  const auto router = town.router();
  const auto policy = router->add_policy({}).value();
  const House one = house(*router, policy);
  const House two = house(*router, policy);
  const auto raw = [](const netns::Prefix& prefix) {
    return std::string(reinterpret_cast<const char*>(prefix.bytes.data()),
                       prefix.family == AF_INET ? 4 : 16);
  };
  const std::string everyone(6, '\xff');
  const std::string own_mac("\x02\x62\x72\x6f\x6f\x03", 6);
  // ARP replies and requests: "I am the other one", "I am the router".
  for (const netns::Prefix& claimed : {two.port.plan.address4, netns::gateway4()}) {
    for (const char operation : {'\1', '\2'}) {
      std::string frame = everyone + own_mac + std::string("\x08\x06\0\1\x08\0\6\4\0", 9);
      frame += operation;
      frame += own_mac + raw(claimed) + everyone + raw(claimed);
      tests::send_frame(one.fd(), frame);
    }
  }
  // An unsolicited neighbour advertisement and a router advertisement from fe80::1, to all nodes.
  for (const unsigned char type : {136, 134}) {
    std::string frame = std::string("\x33\x33\0\0\0\1", 6) + own_mac + std::string("\x86\xdd", 2) +
                        std::string("\x60\0\0\0\0\x20\x3a\xff", 8);
    frame += raw(netns::prefix("fe80::1")) + raw(netns::prefix("ff02::1"));
    frame += static_cast<char>(type);
    frame += std::string("\0\0\0\x20\0\0\0", 7) + raw(two.port.plan.address6) +
             std::string("\2\1", 2) + own_mac;
    tests::send_frame(one.fd(), frame);
  }
  const auto before = counters_of(*router, one);
  CHECK(tests::tcp(two.fd(), Town::kPublic4, kWeb));
  CHECK(tests::tcp(two.fd(), Town::kPublic6, kWeb));
  const auto after = counters_of(*router, one);
  CHECK(after.received_packets == before.received_packets);  // nothing of the other's comes here
}

TEST_CASE("network: a sandbox has as many connections as its policy says, and others keep theirs") {
  const Town town;
  const Echo web(town.outside(), kWeb);
  const auto router = town.router();
  Policy few;
  few.connections = 16;
  const auto policy = router->add_policy(few).value();
  const House one = house(*router, policy);
  const House two = house(*router, policy);
  tests::flood(one.fd(), Town::kPublic4, kWeb, 10, 200, 300ms);
  CHECK(web.sources() <= 16);
  CHECK(web.sources() > 0);
  CHECK(tests::tcp(two.fd(), Town::kPublic4, kWeb));
  CHECK(counters_of(*router, one).denied_packets > 0);
}

TEST_CASE("network: a rate holds in a flood") {
  const Town town;
  const Echo web(town.outside(), kWeb);
  const auto router = town.router();
  Policy slow;
  slow.bytes_per_second = 1 << 20;
  const House one = house(*router, slow);
  tests::flood(one.fd(), Town::kPublic4, kWeb, 1000, 1, 2000ms);
  REQUIRE(tests::ping(town.host(), Town::kPublic4));
  INFO(web.bytes());
  CHECK(web.bytes() > 1 << 20);
  CHECK(web.bytes() < 7 << 19);  // two seconds', what was saved up, and some for a slow host
  CHECK(counters_of(*router, one).sent_bytes > web.bytes());
}

TEST_CASE("network: what comes back late is not for whoever has the address next") {
  const Town town;
  const auto router = town.router();
  const auto policy = router->add_policy({}).value();
  House one = house(*router, policy);
  const auto interface = one.port.plan.interface;
  router->detach(one.port);
  const House two = house(*router, policy);
  CHECK(two.port.plan.mark != one.port.plan.mark);
  CHECK(two.port.plan.interface != interface);  // the longest free is given first
  CHECK_FALSE(router->counters().value().contains(interface));
}

TEST_CASE("network: a port that is gone leaves no rule, and its policy can go") {
  const Town town;
  const auto router = town.router();
  const auto policy = router->add_policy({}).value();
  const House one = house(*router, policy);
  CHECK_FALSE(router->remove_policy(policy));
  router->detach(one.port);
  CHECK(router->remove_policy(policy));
  CHECK(netns::interfaces(one.fd()).value().size() == 1);
}

TEST_CASE("network: a sandbox that has ended is no reason to fail for the next") {
  const Town town;
  const Echo web(town.outside(), kWeb);
  const auto router = town.router();
  const auto policy = router->add_policy({}).value();
  {
    const House gone = house(*router, policy);
    (void)gone;  // its namespace goes with it
  }
  CHECK_FALSE(router->attach(-1, policy));
  const House two = house(*router, policy);
  CHECK(tests::tcp(two.fd(), Town::kPublic4, kWeb));
}

TEST_CASE("network: a router takes everything along, and replaces what one before left") {
  const Town town;
  const Echo web(town.outside(), kWeb);
  const auto links = [&] { return netns::interfaces(town.host()).value().size(); };
  const std::size_t before = links();
  {
    const auto router = town.router();
    CHECK(links() == before + 1);
    const auto again = town.router();  // as after a SIGKILL: the first one's wire is taken away
    CHECK(links() == before + 1);
    const House one = house(*again);
    CHECK(tests::tcp(one.fd(), Town::kPublic4, kWeb));
    const auto neighbour = town.router("fedcba987654");
    CHECK(links() == before + 2);
    const House two = house(*neighbour);
    CHECK(tests::tcp(two.fd(), Town::kPublic4, kWeb));
  }
  CHECK(links() == before);
}

TEST_CASE("network: what a name stands for is open to its policy, on its ports, for its time") {
  const Town town;
  const Echo web(town.outside(), kWeb);
  const Echo other(town.outside(), 81);
  const auto router = town.router();
  const Policy policy = allowing({"example.com:80", "*.example.com:81"});
  const unsigned number = router->add_policy(policy).value();
  const House one = house(*router, number);
  const House another = house(*router, allowing({"example.com:80"}));
  const auto admit = [&](const char* address, unsigned seconds) {
    const auto admitted = router->admit(
        number, {{.group = 0, .address = netns::prefix(address), .seconds = seconds}});
    INFO((admitted ? "" : admitted.error().message()));
    REQUIRE(admitted);
  };
  for (const char* address : {Town::kPublic4, Town::kPublic6}) {
    INFO(address);
    CHECK_FALSE(tests::tcp(one.fd(), address, kWeb, kSilence));
    admit(address, 60);
    CHECK(tests::tcp(one.fd(), address, kWeb));
    CHECK_FALSE(tests::tcp(one.fd(), address, 81, kSilence));
    CHECK_FALSE(tests::udp(one.fd(), address, kWeb, kSilence));
    CHECK_FALSE(tests::tcp(another.fd(), address, kWeb, kSilence));
  }
  CHECK_FALSE(tests::tcp(one.fd(), Town::kOther4, kWeb, kSilence));
  admit(Town::kPublic4, 1);  // less than it had
  CHECK(tests::tcp(one.fd(), Town::kPublic4, kWeb));
  std::this_thread::sleep_for(1500ms);
  CHECK_FALSE(tests::tcp(one.fd(), Town::kPublic4, kWeb, kSilence));
  admit(Town::kPublic4, 60);
  CHECK(tests::tcp(one.fd(), Town::kPublic4, kWeb));
  admit(Town::kPublic4, 0);
  CHECK_FALSE(tests::tcp(one.fd(), Town::kPublic4, kWeb, kSilence));
  // Even if somebody should ask for it.
  for (const char* address : {Town::kPrivate4, Town::kPrivate6, Town::kMetadata, Town::kHost4}) {
    INFO(address);
    admit(address, 60);
    CHECK_FALSE(tests::tcp(one.fd(), address, kWeb, kSilence));
  }
  router->detach(one.port);
  CHECK(router->remove_policy(number));
}

TEST_CASE("network: questions of a policy with names go to its resolver, and nobody else's do") {
  const Town town;
  const auto router = town.router();
  const Echo resolver(router->netns_fd(), 20'007);
  const House one = house(*router, router->add_policy(allowing({"example.com"}), 20'007).value());
  const House another =
      house(*router, router->add_policy(allowing({"example.com"}), 20'008).value());
  const House plain = house(*router, allowing({"192.0.2.1"}));
  const std::string gateway = address_text(netns::gateway4());
  CHECK(tests::udp(one.fd(), gateway, 53));
  CHECK_FALSE(tests::tcp(one.fd(), gateway, 53, kSilence));
  CHECK_FALSE(tests::tcp(one.fd(), gateway, 20'007, kSilence));
  for (const House* each : {&another, &plain}) {
    CHECK_FALSE(tests::udp(each->fd(), gateway, 53, kSilence));
    CHECK_FALSE(tests::udp(each->fd(), gateway, 20'007, kSilence));
  }
}
