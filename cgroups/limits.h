// Limits as values, and as the text that the kernel's control files want. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "cgroups/stats.h"

namespace cgroups {

// Bytes per second on one whole block device; kUnlimited leaves a direction alone.
struct IoLimit {
  unsigned major = 0;
  unsigned minor = 0;
  std::uint64_t read_bps = kUnlimited;
  std::uint64_t write_bps = kUnlimited;
};

// What is not given is left as it is.
struct Limits {
  // memory.max. With it no swap (a limit that swap stretches is none) and one out-of-memory kill
  // for the whole cgroup (a sandbox that lost one process of several is in no state to go on).
  std::optional<std::uint64_t> memory_bytes = {};
  std::optional<std::uint32_t> milli_cpu = {};  // cpu.max, thousandths of a CPU; at least 1
  std::optional<std::uint32_t> cpu_weight =
      {};                                  // cpu.weight, 1 to 10000; the kernel's default is 100
  std::optional<std::uint64_t> pids = {};  // pids.max: processes and threads
  std::vector<IoLimit> io = {};
};

// One short line for a control file, without an allocation.
class ControlText {
 public:
  std::string_view view() const { return {text_.data(), size_}; }
  ControlText& add(std::string_view text);
  ControlText& add_number(std::uint64_t value);  // kUnlimited as "max"

 private:
  std::array<char, 112> text_{};
  std::size_t size_ = 0;
};

ControlText count_text(std::uint64_t value);

// "QUOTA PERIOD". The period is the kernel's own 100 ms: a shorter one would stop an invocation of
// a few ms in its middle, where 100 ms let it run through on its quota. Below 10 thousandths the
// quota would fall under the kernel's least of 1 ms, so the period grows instead.
ControlText cpu_max_text(std::uint32_t milli_cpu);

// "MAJOR:MINOR rbps=N wbps=N"
ControlText io_max_text(const IoLimit& limit);

}  // namespace cgroups
