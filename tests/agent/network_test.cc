#include "agent/network.h"

#include <catch2/catch.hpp>

#include "agent/command.h"
#include "agent/publish.h"

namespace {

using agent::network_of;
using agent::NetworkSettings;

std::string refusal(const NetworkSettings& settings) {
  const auto network = network_of(settings);
  return network ? "" : network.error().message();
}

std::string key(const NetworkSettings& settings) {
  return network_of(settings).value()->key;
}

}  // namespace

TEST_CASE("network none is none") {
  CHECK(network_of({}).value() == nullptr);
}

TEST_CASE("network host-loopback names ports, each once and in any order") {
  CHECK(key({.mode = "host-loopback:80,81"}) == key({.mode = "host-loopback:81,80,81"}));
  CHECK(key({.mode = "host-loopback:80"}) != key({.mode = "host-loopback:81"}));
  for (const char* mode : {"host-loopback", "host-loopback:", "host-loopback:0", "host-loopback:1,",
                           "host-loopback:65536", "host-loopback: 1", "host-loopback:a"}) {
    INFO(mode);
    CHECK_FALSE(refusal({.mode = mode}).empty());
  }
  std::string many = "host-loopback:1";
  for (int port = 2; port <= 17; ++port) {
    many += "," + std::to_string(port);
  }
  CHECK(refusal({.mode = many}).find("16") != std::string::npos);
}

TEST_CASE("networks that mean the same share a pool, and others do not") {
  const NetworkSettings one{.mode = "nat", .allow = {"192.0.2.1:80", "192.0.2.2"}};
  const NetworkSettings same{.mode = "nat", .allow = {"192.0.2.2", "192.0.2.1:80/tcp"}};
  CHECK(key(one) == key(same));
  CHECK(key(one) != key({.mode = "nat"}));
  CHECK(key({.mode = "nat"}) != key({.mode = "nat", .connections = 5}));
  CHECK(network_tag(*network_of(one).value()) == network_tag(*network_of(same).value()));
}

TEST_CASE("what is no network is refused by the field's name") {
  CHECK(refusal({.mode = "bridge"}).find("network") == 0);
  CHECK(refusal({.mode = "none", .allow = {"192.0.2.1"}}).find("allow") == 0);
  CHECK(refusal({.mode = "host-loopback:80", .rate = 1 << 20}).find("allow, network_rate") == 0);
  CHECK(refusal({.mode = "nat", .rate = 1000}).find("network_rate") == 0);
  CHECK(refusal({.mode = "nat", .connections = 0}).find("network_connections") == 0);
  CHECK(refusal({.mode = "nat", .connections = 65'536}).find("network_connections") == 0);
  CHECK(
      refusal({.mode = "nat", .allow = std::vector<std::string>(65, "192.0.2.1")}).find("allow") ==
      0);
}

TEST_CASE("a publication is an address, two ports and a protocol") {
  const auto full = agent::parse_publication("127.0.0.1:8080:80/udp").value();
  CHECK(address_text(*full.address) == "127.0.0.1");
  CHECK(full.host_port == 8080);
  CHECK(full.port == 80);
  CHECK(full.udp);
  const auto shortest = agent::parse_publication("8080:80").value();
  CHECK_FALSE(shortest.address);
  CHECK_FALSE(shortest.udp);
  CHECK(address_text(*agent::parse_publication("[::1]:8080:80").value().address) == "::1");
  for (const char* text : {"", "80", "80:80", "1023:80", "8080:0", "8080:80/sctp", "65536:80",
                           "host:8080:80", "10.0.0.0/8:8080:80", ":8080:80", "8080:80:", "-p"}) {
    INFO(text);
    CHECK_FALSE(agent::parse_publication(text));
  }
}

TEST_CASE("ports are published of a command with network nat, sixteen at most") {
  agent::CommandRequest request;
  request.network.mode = "nat";
  request.publish = std::vector<std::string>(16, "8080:80");
  CHECK(validate(request).empty());
  request.publish.emplace_back("8080:80");
  CHECK(validate(request).find("publish: at most 16") == 0);
  request.publish = {"8080:80"};
  request.network.mode = "none";
  CHECK(validate(request).find("publish") == 0);
  request.network.mode = "nat";
  request.publish = {"80:80"};
  CHECK(validate(request).find("publish") == 0);
}
