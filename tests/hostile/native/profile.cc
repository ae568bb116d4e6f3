// Prints what the seccomp profile says to every number of a system call without arguments, one
// line each: the number, its name, and allow, kill, notify or the name of an errno.
#include <linux/audit.h>
#include <linux/seccomp.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "isolate/seccomp.h"
#include "tests/support/filter_verdict.h"

namespace {

constexpr int kNumbers = 1024;
#if defined(__x86_64__)
constexpr std::uint32_t kNative = AUDIT_ARCH_X86_64;
#else
constexpr std::uint32_t kNative = AUDIT_ARCH_AARCH64;
#endif

const char* word_of(std::uint32_t verdict) {
  switch (verdict & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
      return "allow";
    case SECCOMP_RET_ERRNO:
      return ::strerrorname_np(static_cast<int>(verdict & SECCOMP_RET_DATA));
    case SECCOMP_RET_USER_NOTIF:
      return "notify";
    case SECCOMP_RET_KILL_PROCESS:
      return "kill";
    default:
      return "unknown";
  }
}

// Of several filters the kernel takes the sternest action, which as a signed number is the least;
// of two errnos, that of the filter which was loaded later.
std::uint32_t sterner(std::uint32_t later, std::uint32_t earlier) {
  const auto action = [](std::uint32_t verdict) {
    return static_cast<std::int32_t>(verdict & SECCOMP_RET_ACTION_FULL);
  };
  return action(later) <= action(earlier) ? later : earlier;
}

}  // namespace

int main() {
  const auto sandbox = isolate::sandbox_filter(isolate::Deadly::notify);
  const auto zygote = isolate::zygote_filter();
  for (int number = 0; number < kNumbers; ++number) {
    seccomp_data data{};
    data.nr = number;
    data.arch = kNative;
    const auto verdict =
        sterner(tests::filter_verdict(sandbox, data), tests::filter_verdict(zygote, data));
    std::printf("%d %s %s\n", number, isolate::syscall_name(number).c_str(), word_of(verdict));
  }
  return 0;
}
