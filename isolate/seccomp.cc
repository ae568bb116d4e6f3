#include "isolate/seccomp.h"

#include <linux/filter.h>
#include <seccomp.h>

#include <cstdlib>
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

std::string syscall_name(int number) {
  char* name = ::seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
  if (name == nullptr) {
    return std::to_string(number);
  }
  std::string text = name;
  ::free(name);
  return text;
}

}  // namespace isolate
