// The statistics files of cgroup v2 as values. Pure: takes text, never fails; a key that the kernel
// does not have, or whose value is no number, is left at its default.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace cgroups {

// "max" as a number.
inline constexpr std::uint64_t kUnlimited = UINT64_MAX;

// A file that holds one value, "max" or decimal digits with or without a newline.
std::optional<std::uint64_t> parse_count(std::string_view text);

// The value of `key` in a file of "key value" lines.
std::optional<std::uint64_t> find_key(std::string_view text, std::string_view key);

// cpu.stat, microseconds. The first three are there without the cpu controller, too.
struct CpuStat {
  std::uint64_t usage_us = 0;
  std::uint64_t user_us = 0;
  std::uint64_t system_us = 0;
  std::uint64_t periods = 0;
  std::uint64_t throttled = 0;  // periods in which the quota ran out
  std::uint64_t throttled_us = 0;
};
CpuStat parse_cpu_stat(std::string_view text);

// memory.events: how often, since the cgroup was made.
struct MemoryEvents {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  std::uint64_t max = 0;             // went to reclaim because of memory.max
  std::uint64_t oom = 0;             // an allocation was about to fail
  std::uint64_t oom_kill = 0;        // processes killed, by any out-of-memory killer
  std::uint64_t oom_group_kill = 0;  // kernel 5.17
};
MemoryEvents parse_memory_events(std::string_view text);

// cgroup.events
struct Events {
  bool populated = false;  // a living process is in it or below; zombies do not count
  bool frozen = false;     // every process has stopped
};
Events parse_events(std::string_view text);

// cgroup.procs. A process of another pid namespace shows as 0.
std::vector<pid_t> parse_procs(std::string_view text);

}  // namespace cgroups
