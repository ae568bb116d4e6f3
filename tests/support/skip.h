// Catch2 2 has no SKIP. ctest runs each case in a process of its own, so a case that finds its host
// wanting says why and leaves with the code that ctest counts as skipped.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace tests {

constexpr int kSkipped = 77;

// Call before anything that needs cleaning up has been made.
[[noreturn]] inline void skip_because(const std::string& reason) {
  std::printf("SKIPPED: %s\n", reason.c_str());
  std::fflush(stdout);
  std::_Exit(kSkipped);
}

inline void need_root() {
  if (::geteuid() != 0) {
    skip_because("needs root");
  }
}

}  // namespace tests
