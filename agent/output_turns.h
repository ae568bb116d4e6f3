// Whose output is read when. What functions print is read, cut into lines and written by the event
// loop, which is everybody's: a sandbox that prints without end may not have more than a share of
// it. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

namespace agent {

// All sandboxes of an agent take turns together, one after another, and each turn is followed by a
// rest of a multiple of its own length: however many print, and however slow the machine is, the
// loop has two thirds of its time for the rest. Who waits for its turn waits with a full pipe: the
// sandbox's next write blocks, and nobody else's.
class OutputTurns {
 public:
  static constexpr std::int64_t kRest = 2;
  // A turn ends, with output left over, when it has taken this long.
  static constexpr std::int64_t kLongestNs = 100'000;

  // After a turn from `began_ns` to `now_ns`: when the same sandbox may have its next.
  std::int64_t next(std::int64_t began_ns, std::int64_t now_ns) {
    const std::int64_t took = std::max<std::int64_t>(now_ns - began_ns, 0);
    const std::int64_t queue = free_ns_ > now_ns ? took : 0;  // the turns of others come between
    free_ns_ = std::max(free_ns_, now_ns) + took * kRest + queue;
    return free_ns_;
  }

 private:
  std::int64_t free_ns_ = 0;
};

}  // namespace agent
