// Which addresses are open for what a policy's names stand for.
#include "agent/name_book.h"

#include <catch2/catch.hpp>

namespace {

using agent::NameBook;
using netns::prefix;
using namespace std::chrono_literals;

netns::Policy allowing(std::initializer_list<const char*> texts) {
  netns::Policy policy;
  for (const char* text : texts) {
    policy.allow.push_back(netns::parse_destination(text).value());
  }
  return policy;
}

NameBook book(std::initializer_list<const char*> texts) {
  return NameBook(name_groups(allowing(texts)));
}

const NameBook::Clock::time_point kNow{1h};

}  // namespace

TEST_CASE(
    "names: an address is open for the time of its name, within bounds, and a little longer") {
  NameBook names = book({"example.com:443"});
  const auto seconds = [&](const char* address, unsigned lasts) {
    const auto opened = names.learn("example.com", {prefix(address)}, lasts, kNow);
    return opened.size() == 1 ? opened[0].seconds : 0;
  };
  CHECK(seconds("203.0.113.1", 0) == 40);
  CHECK(seconds("203.0.113.2", 300) == 310);
  CHECK(seconds("203.0.113.3", 1'000'000) == 3610);
  CHECK(seconds("2001:db8::1", 60) == 70);
}

TEST_CASE("names: what is open for long enough is left alone, and else is open anew") {
  NameBook names = book({"example.com:443"});
  const auto learnt = [&](std::chrono::seconds later) {
    return names.learn("example.com", {prefix("203.0.113.1")}, 60, kNow + later).size();
  };
  CHECK(learnt(0s) == 1);
  CHECK(learnt(10s) == 0);
  CHECK(learnt(11s) == 1);
  CHECK(learnt(12s) == 0);
  const auto again = names.learn("example.com", {prefix("203.0.113.9")}, 60, kNow);
  REQUIRE(again.size() == 1);
  names.forget(again);
  CHECK(names.learn("example.com", {prefix("203.0.113.9")}, 60, kNow).size() == 1);
}

TEST_CASE("names: each entry opens its own ports, and those that a name has") {
  NameBook names = book({"example.com:443", "*.example.com:443", "*.example.com:80", "10.0.0.0/8"});
  CHECK(names.groups().size() == 2);
  CHECK(names.learn("example.com", {prefix("203.0.113.1")}, 60, kNow).size() == 1);
  CHECK(names.learn("a.example.com", {prefix("203.0.113.2")}, 60, kNow).size() == 2);
  CHECK(names.learn("example.org", {prefix("203.0.113.3")}, 60, kNow).empty());
}

TEST_CASE("names: no name opens what is not public") {
  NameBook names = book({"example.com"});
  for (const char* address : {"127.0.0.1",
                              "0.0.0.0",
                              "10.231.0.1",
                              "10.1.2.3",
                              "172.16.0.1",
                              "192.168.1.1",
                              "100.64.0.1",
                              "169.254.169.254",
                              "100.100.100.200",
                              "224.0.0.1",
                              "255.255.255.255",
                              "198.18.0.1",
                              "::1",
                              "::",
                              "::ffff:203.0.113.1",
                              "64:ff9b::cb00:7101",
                              "fe80::1",
                              "fd00:ec2::254",
                              "fd12::1",
                              "ff02::1",
                              "2002:cb00:7101::1"}) {
    INFO(address);
    CHECK(names.learn("example.com", {prefix(address)}, 60, kNow).empty());
  }
}

TEST_CASE("names: there is room for so many addresses, and the oldest makes it") {
  NameBook names = book({"example.com"});
  for (std::uint32_t i = 0; i < agent::kMostLearned; ++i) {
    REQUIRE(names
                .learn("example.com", {address_in(prefix("203.0.0.0/16"), i + 1)}, 60,
                       kNow + std::chrono::milliseconds(i))
                .size() == 1);
  }
  const auto one_more = names.learn("example.com", {prefix("203.1.0.1")}, 60, kNow + 1s);
  REQUIRE(one_more.size() == 2);
  CHECK(one_more[0].address == prefix("203.0.0.1"));
  CHECK(one_more[0].seconds == 0);
  CHECK(one_more[1].address == prefix("203.1.0.1"));
  // Nobody is closed for those whose time is over.
  CHECK(names.learn("example.com", {prefix("203.1.0.2")}, 60, kNow + 2min).size() == 1);
}
