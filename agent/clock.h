// The two clocks: one for spans and deadlines (it is the same in every sandbox), one for people.
#pragma once

#include <time.h>

#include <cstdint>

namespace agent {

inline std::int64_t read_clock(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}
inline std::int64_t monotonic_ns() {
  return read_clock(CLOCK_MONOTONIC);
}
inline std::int64_t unix_ms() {
  return read_clock(CLOCK_REALTIME) / 1'000'000;
}

}  // namespace agent
