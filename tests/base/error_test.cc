#include "base/error.h"

#include <catch2/catch.hpp>
#include <cerrno>

TEST_CASE("an error says what failed, on what, why, and what to do") {
  const base::Error error("openat", EACCES, "memory.max", "run the agent as root");
  CHECK(error.message() ==
        "openat 'memory.max': Permission denied (EACCES); run the agent as root");
}

TEST_CASE("an error can be told what it was part of") {
  CHECK(base::Error("mount", EBUSY).within("start runtime python3").message() ==
        "start runtime python3: mount: Device or resource busy (EBUSY)");
}

TEST_CASE("a failed step returns early with its error") {
  const auto step = [](bool good) -> base::Result<int> {
    if (!good) {
      return base::fail_because("no");
    }
    return 7;
  };
  const auto twice = [&](bool good) -> base::Result<int> {
    BROOD_TRY(const int value, step(good));
    return value * 2;
  };
  CHECK(twice(true).value() == 14);
  CHECK(twice(false).error().message() == "no");
}
