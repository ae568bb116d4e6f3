// Durations, and what is said of many of them. Pure.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace bench {

class Samples {
 public:
  void reserve(std::size_t count) { ns_.reserve(count); }
  void add(std::int64_t nanoseconds) {
    ns_.push_back(nanoseconds);
    sorted_ = false;
  }
  void append(const Samples& other) {
    ns_.insert(ns_.end(), other.ns_.begin(), other.ns_.end());
    sorted_ = false;
  }
  const std::vector<std::int64_t>& nanoseconds() const { return ns_; }  // in no promised order
  std::size_t count() const { return ns_.size(); }
  bool empty() const { return ns_.empty(); }

  // Microseconds. The smallest sample that is at least as large as `share` (0 to 1) of all of them,
  // so always one that was seen; 0 when there is none.
  double quantile_us(double share) {
    if (ns_.empty()) {
      return 0;
    }
    if (!sorted_) {
      std::sort(ns_.begin(), ns_.end());
      sorted_ = true;
    }
    const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(ns_.size())));
    return static_cast<double>(ns_[std::clamp<std::size_t>(rank, 1, ns_.size()) - 1]) / 1000;
  }
  double p50_us() { return quantile_us(0.5); }
  double max_us() { return quantile_us(1); }

 private:
  std::vector<std::int64_t> ns_;
  bool sorted_ = false;
};

}  // namespace bench
