#include "bench/samples.h"

#include <catch2/catch.hpp>

namespace {

using bench::Samples;

TEST_CASE("a quantile is a sample that was seen") {
  Samples samples;
  for (const std::int64_t ns : {5000, 1000, 4000, 2000, 3000}) {
    samples.add(ns);
  }
  CHECK(samples.p50_us() == 3);
  CHECK(samples.quantile_us(0.2) == 1);
  CHECK(samples.quantile_us(0.21) == 2);
  CHECK(samples.quantile_us(0.9) == 5);
  CHECK(samples.max_us() == 5);
}

TEST_CASE("samples may be added after a quantile was asked for") {
  Samples samples;
  samples.add(2000);
  CHECK(samples.max_us() == 2);
  samples.add(1000);
  samples.add(1500);
  CHECK(samples.p50_us() == 1.5);
  CHECK(samples.count() == 3);
}

TEST_CASE("there are no quantiles of nothing") {
  Samples samples;
  CHECK(samples.empty());
  CHECK(samples.p50_us() == 0);
  CHECK(samples.max_us() == 0);
}

}  // namespace
