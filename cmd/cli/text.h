// What people read: tables, sizes, times. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cli {

// Rows of cells under a header, columns padded to their widest cell, two spaces between.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { add(std::move(header)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string print() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// What is not UTF-8 and what a terminal acts on (control characters but the tab, what reorders
// text) as \xNN, byte by byte: what a sandbox printed must not steer the reader's terminal.
std::string escape_controls(std::string_view text);

// Percent-encoded, to be one segment of a path or one value of a query.
std::string encode_segment(std::string_view text);

// "7.0 MiB", "512 B": for reading, where parse_bytes's exact form is too long.
std::string rough_bytes(std::uint64_t bytes);
// "850 us", "1.5 ms", "12.3 s", "4 min", "3 h", "2 d"
std::string rough_time(double seconds);

// The q-quantile in seconds that a Prometheus text holds for a function's
// brood_invocation_duration_seconds, cold and warm together, interpolated inside its bucket.
// Nothing where there was no invocation.
std::optional<double> duration_quantile(std::string_view metrics, std::string_view function,
                                        double q);

}  // namespace cli
