#include "agent/uid_areas.h"

#include <catch2/catch.hpp>
#include <set>
#include <vector>

#include "tests/support/scratch.h"

TEST_CASE("two areas never overlap, and an area is free again when its holder is gone") {
  const tests::ScratchDirectory scratch;
  std::vector<agent::UidArea> held;
  std::set<std::uint32_t> firsts;
  for (std::uint32_t i = 0; i < agent::kAreaCount; ++i) {
    auto area = agent::UidArea::claim(scratch.path());
    REQUIRE(area);
    firsts.insert(area->first_uid());
    held.push_back(std::move(*area));
  }
  CHECK(firsts.size() == agent::kAreaCount);
  for (const std::uint32_t first : firsts) {
    CHECK(firsts.upper_bound(first) == firsts.lower_bound(first + 1));
    CHECK((firsts.lower_bound(first + 1) == firsts.end() ||
           *firsts.lower_bound(first + 1) >= first + agent::kUidsPerArea));
    CHECK(first + (agent::kUidsPerArea - 1) > first);  // does not wrap
  }
  const auto none = agent::UidArea::claim(scratch.path());
  REQUIRE_FALSE(none);
  CHECK(none.error().message().find(scratch.path()) != std::string::npos);
  const std::uint32_t given_back = held.back().first_uid();
  held.pop_back();
  CHECK(agent::UidArea::claim(scratch.path()).value().first_uid() == given_back);
}

TEST_CASE("slots are each given out once, never the zygote's, and again after they came back") {
  const tests::ScratchDirectory scratch;
  auto area = agent::UidArea::claim(scratch.path()).value();
  std::set<std::uint32_t> slots;
  for (std::uint32_t slot = area.take_slot(); slot != 0; slot = area.take_slot()) {
    slots.insert(slot);
  }
  CHECK(slots.size() == agent::kSlotsPerArea - 1);
  area.give_back(17);
  area.give_back(5);
  CHECK(area.take_slot() == 5);
  CHECK(area.take_slot() == 17);
  CHECK(area.take_slot() == 0);
}
