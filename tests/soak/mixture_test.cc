#include "tests/soak/mixture.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/soak/census.h"

namespace {

using namespace soak;

std::size_t count_of(const std::vector<Kind>& deck, Kind kind) {
  return static_cast<std::size_t>(std::count(deck.begin(), deck.end(), kind));
}

TEST_CASE("a deck holds every kind in its share") {
  std::uint32_t parts = 0;
  for (const Recipe& recipe : kRecipes) {
    parts += recipe.parts;
  }
  CHECK(parts == 1'000'000);
  const auto deck = deal(100'000, 1);
  CHECK(deck.size() == 100'000);
  CHECK(count_of(deck, Kind::cold) == 400);
  CHECK(count_of(deck, Kind::warm) == 97'960);
  for (std::size_t i = 0; i < kKinds; ++i) {
    CHECK(count_of(deal(100, 1), static_cast<Kind>(i)) >= 1);
  }
  CHECK(deal(1000, 1) == deal(1000, 1));
  CHECK(deal(1000, 1) != deal(1000, 2));
}

TEST_CASE("an answer is right only with its own tag, ending and start") {
  const std::string tag = "tag-7-";
  CHECK(judge(Kind::warm, tag, {"ok", "warm", "\"tag-7-\""}).empty());
  CHECK_FALSE(judge(Kind::warm, tag, {"ok", "warm", "\"tag-8-\""}).empty());
  CHECK_FALSE(judge(Kind::warm, tag, {"ok", "warm", "\"tag-7-\" and more"}).empty());
  CHECK_FALSE(judge(Kind::warm, tag, {"ok", "cold", "\"tag-7-\""}).empty());
  CHECK_FALSE(judge(Kind::warm, tag, {"timeout", "warm", "\"tag-7-\""}).empty());
  CHECK(judge(Kind::overloaded, tag, {"overloaded", "", "overloaded"}).empty());
  CHECK_FALSE(judge(Kind::overloaded, tag, {"overloaded", "warm", "overloaded"}).empty());
  CHECK(judge(Kind::raising, tag, {"handler_error", "warm", R"({"message":"tag-7-"})"}).empty());
  CHECK_FALSE(judge(Kind::raising, tag, {"handler_error", "warm", "tag-17-"}).empty());
}

TEST_CASE("a figure that grows by more than it may is told") {
  Counts before{};
  Counts after{};
  CHECK(grown(before, after).empty());
  for (std::size_t i = 0; i < kFigures; ++i) {
    before[i] = 100'000;
    const Growth& allowed = kCounted[i].allowed;
    after[i] = 100'000 + 100'000 * allowed.percent / 100 + allowed.plus;
  }
  CHECK(grown(before, after).empty());
  for (std::uint64_t& figure : after) {
    ++figure;
  }
  CHECK(grown(before, after).size() == kFigures);
}

TEST_CASE("slabinfo: the objects in use of a cache, and of no other with a longer name") {
  const std::string text =
      "slabinfo - version: 2.1\n"
      "# name            <active_objs> <num_objs> <objsize>\n"
      "mnt_cache_two        9      9    384   10    1 : tunables    0    0    0\n"
      "mnt_cache          150    180    384   10    1 : tunables    0    0    0\n";
  CHECK(objects_in_use(text, "mnt_cache") == 150);
  CHECK(objects_in_use(text, "net_namespace") == 0);
}

}  // namespace
