// What the benchmark's handler (bench/handler.py) is asked, and what it must answer. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace bench {

// Events that differ in a number of always seven digits, so that all are of one size.
class Events {
 public:
  static constexpr std::size_t kFirst = 1'000'000;
  static constexpr std::size_t kMost = 9'000'000;

  // `size`: bytes of an event; one without any text is the least.
  explicit Events(std::size_t size);

  // `number`: kFirst or more; wraps around after kMost of them.
  std::string event(std::size_t number) const;
  std::string answer(std::size_t number) const;

 private:
  std::string text_;
  std::size_t words_ = 0;
  std::vector<std::string> different_;
};

}  // namespace bench
