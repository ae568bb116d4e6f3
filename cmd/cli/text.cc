#include "cmd/cli/text.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>

#include "base/utf8.h"

namespace cli {
namespace {

std::string formatted(const char* format, double value) {
  char text[48];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// What a terminal acts on instead of showing it: C0 but the tab, DEL, C1, and what reorders text.
bool steers(char32_t point) {
  return (point < 0x20 && point != '\t') || (point >= 0x7f && point <= 0x9f) ||
         (point >= 0x202a && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069);
}

void append_escape(std::string& text, char byte) {
  char code[8];
  std::snprintf(code, sizeof code, "\\x%02x", static_cast<unsigned char>(byte));
  text += code;
}

// The value of NAME="…" in a series' labels; Prometheus escapes in names cannot occur here, where
// they are function names.
std::string_view label_of(std::string_view labels, std::string_view name) {
  const std::string key = std::string(name) + "=\"";
  auto begin = labels.find(key);
  if (begin == std::string_view::npos) {
    return {};
  }
  begin += key.size();
  return labels.substr(begin, labels.find('"', begin) - begin);
}

// How many durations were at most as long as each bound.
std::map<double, double> buckets_of(std::string_view metrics, std::string_view function) {
  constexpr std::string_view kSeries = "brood_invocation_duration_seconds_bucket{";
  std::map<double, double> buckets;
  for (auto at = metrics.find(kSeries); at != std::string_view::npos;
       at = metrics.find(kSeries, at + 1)) {
    const std::string_view line = metrics.substr(at, metrics.find('\n', at) - at);
    const auto end = line.rfind('}');
    if (end == std::string_view::npos || label_of(line, "function") != function) {
      continue;
    }
    const std::string bound(label_of(line, "le"));
    const std::string count(line.substr(end + 1));
    buckets[bound == "+Inf" ? std::numeric_limits<double>::infinity()
                            : std::strtod(bound.c_str(), nullptr)] +=
        std::strtod(count.c_str(), nullptr);
  }
  return buckets;
}

}  // namespace

std::string Table::print() const {
  std::vector<std::size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string text;
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) {
        text.append(widths[i] - row[i].size() + 2, ' ');
      }
    }
    text += '\n';
  }
  return text;
}

std::string escape_controls(std::string_view text) {
  std::string escaped;
  while (!text.empty()) {
    const base::CodePoint point = base::first_code_point(text);
    const std::size_t length = std::max<std::size_t>(point.length, 1);
    if (point.length == 0 || steers(point.value)) {
      for (const char c : text.substr(0, length)) {
        append_escape(escaped, c);
      }
    } else {
      escaped += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return escaped;
}

std::string encode_segment(std::string_view text) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
  std::string encoded;
  for (const char c : text) {
    char code[8];
    std::snprintf(code, sizeof code, "%%%02X", static_cast<unsigned char>(c));
    encoded += kPlain.find(c) != std::string_view::npos ? std::string(1, c) : code;
  }
  return encoded;
}

std::string rough_bytes(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return formatted(unit == 0 ? "%.0f " : "%.1f ", value) + kUnits[unit];
}

std::string rough_time(double seconds) {
  struct Scale {
    double below;
    double factor;
    const char* format;
  };
  constexpr Scale kScales[] = {
      {1e-3, 1e6, "%.0f us"},       {1, 1e3, "%.1f ms"},           {60, 1, "%.1f s"},
      {3600, 1 / 60.0, "%.0f min"}, {86400, 1 / 3600.0, "%.0f h"},
  };
  for (const Scale& scale : kScales) {
    if (seconds < scale.below) {
      return formatted(scale.format, seconds * scale.factor);
    }
  }
  return formatted("%.0f d", seconds / 86400);
}

std::optional<double> duration_quantile(std::string_view metrics, std::string_view function,
                                        double q) {
  const auto buckets = buckets_of(metrics, function);
  if (buckets.empty() || buckets.rbegin()->second <= 0) {
    return std::nullopt;
  }
  const double wanted = q * buckets.rbegin()->second;
  double low = 0;
  double before = 0;
  for (const auto& [bound, count] : buckets) {
    if (count >= wanted && bound == std::numeric_limits<double>::infinity()) {
      return low;
    }
    if (count >= wanted) {
      return low + (bound - low) * (wanted - before) / std::max(count - before, 1e-9);
    }
    low = bound;
    before = count;
  }
  return low;
}

}  // namespace cli
