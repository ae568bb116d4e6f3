// The statistics files of cgroup v2. Aborts when a promise of cgroups/stats.h does not hold.
#include "cgroups/stats.h"

#include "tests/fuzz/promise.h"

using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const auto count = cgroups::parse_count(text);
  require(!count || text.find_first_of("0123456789m") == 0);
  const auto cpu = cgroups::parse_cpu_stat(text);
  require(cpu.usage_us == cgroups::find_key(text, "usage_usec").value_or(0));
  const auto memory = cgroups::parse_memory_events(text);
  require(memory.oom_kill == cgroups::find_key(text, "oom_kill").value_or(0));
  (void)cgroups::parse_events(text);
  for (const pid_t pid : cgroups::parse_procs(text)) {
    require(pid >= 0);
  }
  return 0;
}
