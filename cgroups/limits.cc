#include "cgroups/limits.h"

#include <algorithm>
#include <charconv>

namespace cgroups {

ControlText& ControlText::add(std::string_view text) {
  const std::size_t fits = std::min(text.size(), text_.size() - size_);
  std::copy_n(text.begin(), fits, text_.begin() + static_cast<std::ptrdiff_t>(size_));
  size_ += fits;
  return *this;
}

ControlText& ControlText::add_number(std::uint64_t value) {
  if (value == kUnlimited) {
    return add("max");
  }
  const auto [end, error] = std::to_chars(text_.data() + size_, text_.data() + text_.size(), value);
  if (error == std::errc()) {
    size_ = static_cast<std::size_t>(end - text_.data());
  }
  return *this;
}

ControlText count_text(std::uint64_t value) {
  return ControlText().add_number(value);
}

ControlText cpu_max_text(std::uint32_t milli_cpu) {
  constexpr std::uint64_t kPeriodUs = 100'000;
  constexpr std::uint64_t kLeastQuotaUs = 1'000;
  const std::uint64_t milli = std::max<std::uint64_t>(milli_cpu, 1);
  std::uint64_t quota = milli * kPeriodUs / 1000;
  std::uint64_t period = kPeriodUs;
  if (quota < kLeastQuotaUs) {
    quota = kLeastQuotaUs;
    period = kLeastQuotaUs * 1000 / milli;
  }
  return ControlText().add_number(quota).add(" ").add_number(period);
}

ControlText io_max_text(const IoLimit& limit) {
  return ControlText()
      .add_number(limit.major)
      .add(":")
      .add_number(limit.minor)
      .add(" rbps=")
      .add_number(limit.read_bps)
      .add(" wbps=")
      .add_number(limit.write_bps);
}

}  // namespace cgroups
