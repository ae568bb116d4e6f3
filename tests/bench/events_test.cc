#include "bench/events.h"

#include <catch2/catch.hpp>

namespace {

TEST_CASE("events of one size differ in their number, and every answer counts the words") {
  const bench::Events events(128);
  const std::string first = events.event(bench::Events::kFirst);
  CHECK(first.size() == 128);
  CHECK(events.event(bench::Events::kFirst + 1).size() == 128);
  CHECK(first != events.event(bench::Events::kFirst + 1));
  CHECK(bench::Events(64).answer(bench::Events::kFirst).find("\"number\":1000000,") !=
        std::string::npos);
}

TEST_CASE("numbers keep seven digits, however many are asked for") {
  const bench::Events events(64);
  CHECK(events.event(bench::Events::kFirst + bench::Events::kMost) ==
        events.event(bench::Events::kFirst));
  CHECK(events.event(bench::Events::kFirst + bench::Events::kMost - 1).find("9999999") !=
        std::string::npos);
}

}  // namespace
