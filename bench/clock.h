#pragma once

#include <time.h>

#include <cstdint>

namespace bench {

inline std::int64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

inline void sleep_us(std::int64_t microseconds) {
  const timespec span{microseconds / 1'000'000, microseconds % 1'000'000 * 1000};
  ::nanosleep(&span, nullptr);
}

}  // namespace bench
