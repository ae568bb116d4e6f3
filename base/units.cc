#include "base/units.h"

#include <array>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <limits>

namespace base {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

// Splits "12.5ms" into 12.5 and "ms". False when it does not begin with a finite, non-negative
// number.
bool split_number(std::string_view text, double& number, std::string_view& unit) {
  const auto end = text.find_first_not_of("0123456789.");
  const std::string_view digits = text.substr(0, end);
  if (digits.empty()) {
    return false;
  }
  const auto [rest, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number,
                                             std::chars_format::fixed);
  if (error != std::errc{} || rest != digits.data() + digits.size() || !std::isfinite(number)) {
    return false;
  }
  unit = end == std::string_view::npos ? std::string_view{} : text.substr(end);
  return true;
}

// `number` times `factor` as a whole number. False when it is none: 4.004 CPUs are 4004
// thousandths, though their product as doubles is a hair less.
bool multiply(double number, double factor, double& whole) {
  const double product = number * factor;
  whole = std::round(product);
  return std::abs(product - whole) <= 2 * std::numeric_limits<double>::epsilon() * product;
}

template <std::size_t N>
const Unit* find_unit(const std::array<Unit, N>& units, std::string_view name) {
  for (const Unit& unit : units) {
    if (unit.name == name) {
      return &unit;
    }
  }
  return nullptr;
}

constexpr double kKi = 1024;
constexpr std::array<Unit, 19> kByteUnits{{{"", 1},
                                           {"b", 1},
                                           {"B", 1},
                                           {"k", kKi},
                                           {"K", kKi},
                                           {"Ki", kKi},
                                           {"KiB", kKi},
                                           {"KB", 1e3},
                                           {"m", kKi* kKi},
                                           {"M", kKi* kKi},
                                           {"Mi", kKi* kKi},
                                           {"MiB", kKi* kKi},
                                           {"MB", 1e6},
                                           {"g", kKi* kKi* kKi},
                                           {"G", kKi* kKi* kKi},
                                           {"Gi", kKi* kKi* kKi},
                                           {"GiB", kKi* kKi* kKi},
                                           {"GB", 1e9},
                                           {"TiB", kKi* kKi* kKi* kKi}}};
constexpr std::array<Unit, 6> kTimeUnits{
    {{"", 1000}, {"s", 1000}, {"ms", 1}, {"m", 60'000}, {"min", 60'000}, {"h", 3'600'000}}};

std::string trimmed(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.3f", value);
  std::string text = buffer;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') {
    text.pop_back();
  }
  return text;
}

}  // namespace

Result<std::uint64_t> parse_bytes(std::string_view text) {
  double number = 0;
  std::string_view name;
  const Unit* unit = split_number(text, number, name) ? find_unit(kByteUnits, name) : nullptr;
  if (unit == nullptr) {
    return fail_because("'" + std::string(text) + "' is not a size", "write it like 128MiB or 64m");
  }
  double bytes = 0;
  if (!multiply(number, unit->factor, bytes) || bytes > 9e15) {
    return fail_because("'" + std::string(text) + "' is not a whole number of bytes below 8 PiB");
  }
  return static_cast<std::uint64_t>(bytes);
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kNames{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < kNames.size()) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + kNames[unit];
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  double number = 0;
  std::string_view name;
  const Unit* unit = split_number(text, number, name) ? find_unit(kTimeUnits, name) : nullptr;
  if (unit == nullptr) {
    return fail_because("'" + std::string(text) + "' is not a duration",
                        "write it like 5s or 250ms");
  }
  double span = 0;
  if (!multiply(number, unit->factor, span) || span > 86'400'000) {
    return fail_because("'" + std::string(text) + "' is not a whole number of ms within 24 hours");
  }
  return std::chrono::milliseconds(static_cast<std::int64_t>(span));
}

std::string format_duration(std::chrono::milliseconds span) {
  return span.count() % 1000 == 0 || span.count() > 10'000
             ? trimmed(static_cast<double>(span.count()) / 1000) + "s"
             : std::to_string(span.count()) + "ms";
}

Result<std::uint32_t> parse_cpu(std::string_view text) {
  double number = 0;
  std::string_view name;
  if (!split_number(text, number, name) || (!name.empty() && name != "m")) {
    return fail_because("'" + std::string(text) + "' is not a number of CPUs",
                        "write it like 0.5 or 500m");
  }
  double milli = 0;
  if (!multiply(number, name == "m" ? 1 : 1000, milli) || milli < 1 || milli > 1'024'000) {
    return fail_because("'" + std::string(text) + "' is not between 0.001 and 1024 CPUs");
  }
  return static_cast<std::uint32_t>(milli);
}

std::string format_cpu(std::uint32_t milli_cpu) {
  return trimmed(milli_cpu / 1000.0);
}

Result<int> parse_signal(std::string_view text) {
  constexpr int kLast = 64;
  constexpr std::string_view kFirstOfRealTime = "RTMIN";
  const auto number_in = [](std::string_view digits) {
    int number = 0;
    const auto [rest, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), number);
    return error == std::errc{} && rest == digits.data() + digits.size() ? number : -1;
  };
  const std::string_view name = text.substr(0, 3) == "SIG" ? text.substr(3) : text;
  if (const int number = number_in(text); number >= 1 && number <= kLast) {
    return number;
  }
  for (int number = 1; number < kLast; ++number) {
    const char* known = ::sigabbrev_np(number);
    if (known != nullptr && name == known) {
      return number;
    }
  }
  if (name.substr(0, kFirstOfRealTime.size()) == kFirstOfRealTime) {
    const std::string_view more = name.substr(kFirstOfRealTime.size());
    const int above = more.empty() ? 0 : more.front() == '+' ? number_in(more.substr(1)) : -1;
    if (above >= 0 && SIGRTMIN + above <= kLast) {
      return SIGRTMIN + above;
    }
  }
  return fail_because("'" + std::string(text) + "' is no signal",
                      "a number from 1 to 64, or a name as TERM or SIGTERM");
}

std::string format_time(std::int64_t unix_ms) {
  const std::time_t whole = static_cast<std::time_t>(unix_ms / 1000);
  std::tm parts{};
  ::gmtime_r(&whole, &parts);
  char text[40];
  const std::size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + size, sizeof text - size, ".%03dZ", static_cast<int>(unix_ms % 1000));
  return text;
}

Result<std::int64_t> parse_time(const std::string& text) {
  std::tm parts{};
  const char* rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  int milliseconds = 0;
  int taken = 0;
  // NOLINTNEXTLINE(cert-err34-c): what it leaves is looked at, and three digits cannot overflow.
  if (rest == nullptr || std::sscanf(rest, ".%3dZ%n", &milliseconds, &taken) != 1 || taken != 5 ||
      rest[taken] != '\0') {
    return fail_because("'" + text + "' is no time as 2024-05-01T12:00:00.250Z");
  }
  return static_cast<std::int64_t>(::timegm(&parts)) * 1000 + milliseconds;
}

}  // namespace base
