// Quantities as people write them, parsed once at the edge. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace base {

// "128MiB", "64m", "1G", "4096": bytes. As docker has it, k/m/g and KiB/MiB/GiB are powers of 1024;
// KB/MB/GB are powers of 1000. Refuses a negative, an empty, an overflowing or a fractional count.
Result<std::uint64_t> parse_bytes(std::string_view text);
std::string format_bytes(std::uint64_t bytes);  // "128MiB": the largest unit that divides exactly

// "5s", "250ms", "2m", "1h", "1.5s"; a bare number is seconds. Refuses a negative or over 24 hours'
// worth.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);
std::string format_duration(std::chrono::milliseconds span);

// "0.5", "2", "500m" (as kubectl has it): thousandths of a CPU, at least 1, at most 1024000.
Result<std::uint32_t> parse_cpu(std::string_view text);
std::string format_cpu(std::uint32_t milli_cpu);

// "9", "KILL", "SIGKILL", "SIGRTMIN+3": 1 to 64.
Result<int> parse_signal(std::string_view text);

// "2024-05-01T12:00:00.250Z", from milliseconds since 1970 and back.
std::string format_time(std::int64_t unix_ms);
Result<std::int64_t> parse_time(const std::string& text);

}  // namespace base
