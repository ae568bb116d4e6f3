#include "cgroups/stats.h"

#include <charconv>
#include <limits>

namespace cgroups {

namespace {

std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

void set_from(std::string_view text, std::string_view key, std::uint64_t& value) {
  value = find_key(text, key).value_or(value);
}

}  // namespace

std::optional<std::uint64_t> parse_count(std::string_view text) {
  const std::string_view word = take_line(text);
  if (word == "max") {
    return kUnlimited;
  }
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) {
    return std::nullopt;
  }
  return value;
}

std::optional<std::uint64_t> find_key(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    std::string_view line = take_line(text);
    if (line.size() > key.size() && line[key.size()] == ' ' && line.starts_with(key)) {
      return parse_count(line.substr(key.size() + 1));
    }
  }
  return std::nullopt;
}

CpuStat parse_cpu_stat(std::string_view text) {
  CpuStat stat;
  set_from(text, "usage_usec", stat.usage_us);
  set_from(text, "user_usec", stat.user_us);
  set_from(text, "system_usec", stat.system_us);
  set_from(text, "nr_periods", stat.periods);
  set_from(text, "nr_throttled", stat.throttled);
  set_from(text, "throttled_usec", stat.throttled_us);
  return stat;
}

MemoryEvents parse_memory_events(std::string_view text) {
  MemoryEvents events;
  set_from(text, "low", events.low);
  set_from(text, "high", events.high);
  set_from(text, "max", events.max);
  set_from(text, "oom", events.oom);
  set_from(text, "oom_kill", events.oom_kill);
  set_from(text, "oom_group_kill", events.oom_group_kill);
  return events;
}

Events parse_events(std::string_view text) {
  return Events{.populated = find_key(text, "populated").value_or(0) != 0,
                .frozen = find_key(text, "frozen").value_or(0) != 0};
}

std::vector<pid_t> parse_procs(std::string_view text) {
  std::vector<pid_t> pids;
  while (!text.empty()) {
    const auto pid = parse_count(take_line(text));
    if (pid && *pid <= static_cast<std::uint64_t>(std::numeric_limits<pid_t>::max())) {
      pids.push_back(static_cast<pid_t>(*pid));
    }
  }
  return pids;
}

}  // namespace cgroups
