#include "isolate/seccomp.h"

#include <linux/filter.h>

#include <iterator>
#include <span>

namespace isolate {
namespace {

// Made by the build: brood-filters.cc.
#include "filters.inc"

Filter filter_of(std::span<const sock_filter> instructions) {
  return {instructions.begin(), instructions.end()};
}

}  // namespace

Filter sandbox_filter(Deadly deadly, SetId set_id) {
  if (deadly == Deadly::notify) {
    return set_id == SetId::allowed ? filter_of(kNotify) : filter_of(kNotifyStrict);
  }
  return set_id == SetId::allowed ? filter_of(kKill) : filter_of(kKillStrict);
}

Filter zygote_filter() {
  return filter_of(kZygote);
}

Filter agent_filter() {
  return filter_of(kAgent);
}

std::string syscall_name(int number) {
  const bool known = number >= 0 && static_cast<std::size_t>(number) < std::size(kCallNames) &&
                     *kCallNames[number] != '\0';
  return known ? kCallNames[number] : std::to_string(number);
}

}  // namespace isolate
