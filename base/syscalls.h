// System calls that glibc 2.36 does not wrap, three lines each. All return -1 and set errno on
// failure.
#pragma once

#include <linux/landlock.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdint>

// The kernel's headers of Debian 12 (6.1) know these numbers; older ones may not.
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

namespace base {

inline int pidfd_open(pid_t pid, unsigned flags = 0) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, flags));
}
inline int pidfd_send_signal(int pidfd, int signal) {
  return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}
inline int pivot_root(const char* new_root, const char* put_old) {
  return static_cast<int>(::syscall(SYS_pivot_root, new_root, put_old));
}
inline int seccomp(unsigned operation, unsigned flags, void* args) {
  return static_cast<int>(::syscall(SYS_seccomp, operation, flags, args));
}
inline int landlock_create_ruleset(const void* attr, std::size_t size, std::uint32_t flags) {
  return static_cast<int>(::syscall(SYS_landlock_create_ruleset, attr, size, flags));
}

}  // namespace base
