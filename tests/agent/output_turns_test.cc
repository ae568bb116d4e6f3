#include "agent/output_turns.h"

#include <catch2/catch.hpp>

namespace {

using agent::OutputTurns;

// How much of the time from the first turn to the last `count` sandboxes that print without end
// have had.
double share_of(int count) {
  constexpr std::int64_t kTurn = 1000;
  OutputTurns turns;
  std::vector<std::int64_t> next(static_cast<std::size_t>(count), 0);
  std::int64_t now = 0;
  std::int64_t spent = 0;
  for (int turn = 0; turn < 1000; ++turn) {
    const auto first = std::min_element(next.begin(), next.end());
    const std::int64_t began = std::max(now, *first);
    now = began + kTurn;
    *first = turns.next(began, now);
    spent += kTurn;
  }
  return static_cast<double>(spent) / static_cast<double>(now);
}

TEST_CASE("however many sandboxes print, their output has a third of the loop's time") {
  for (const int count : {1, 2, 3, 10, 100}) {
    CAPTURE(count);
    CHECK(share_of(count) == Approx(1.0 / 3).margin(0.05));
  }
}

TEST_CASE("a turn after a silence rests for twice its own length, and no longer") {
  OutputTurns turns;
  CHECK(turns.next(1000, 1010) == 1030);
  CHECK(turns.next(5000, 5001) == 5003);
  CHECK(turns.next(9000, 9000) == 9000);
}

}  // namespace
