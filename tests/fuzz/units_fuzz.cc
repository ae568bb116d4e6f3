// Sizes, times and CPUs as people write them. Aborts when a promise of base/units.h does not hold:
// what was taken is in bounds, and what is printed of it means the same.
#include "base/units.h"

#include "tests/fuzz/promise.h"

using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  if (const auto bytes = base::parse_bytes(text)) {
    require(base::parse_bytes(base::format_bytes(*bytes)) == *bytes);
  }
  if (const auto span = base::parse_duration(text)) {
    require(span->count() >= 0 && *span <= std::chrono::hours(24));
    require(base::parse_duration(base::format_duration(*span)) == *span);
  }
  if (const auto cpu = base::parse_cpu(text)) {
    require(*cpu >= 1 && *cpu <= 1'024'000);
    require(base::parse_cpu(base::format_cpu(*cpu)) == *cpu);
  }
  return 0;
}
