#include "cmd/relay_confine.h"

#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <cerrno>

#include "cmd/give_up.h"

namespace cmd {
namespace {

using base::fail_errno;
using base::Status;

constexpr bool kSanitized =
#ifdef __SANITIZE_ADDRESS__
    true;
#else
    false;
#endif

constexpr rlim_t kDescriptors = 8192;
constexpr rlim_t kDataBytes = 512UL << 20;

Status limit_resources() {
  BROOD_CHECK(lower_limit(RLIMIT_NOFILE, "RLIMIT_NOFILE", kDescriptors, kDescriptors));
  BROOD_CHECK(lower_limit(RLIMIT_NPROC, "RLIMIT_NPROC", 0, 0));
  BROOD_CHECK(lower_limit(RLIMIT_FSIZE, "RLIMIT_FSIZE", 0, 0));
  if (!kSanitized) {  // its shadow memory counts as data, and is terabytes
    BROOD_CHECK(lower_limit(RLIMIT_DATA, "RLIMIT_DATA", kDataBytes, kDataBytes));
  }
  return lower_limit(RLIMIT_CORE, "RLIMIT_CORE", 1, 1);  // why not 0: isolate/spec.cc
}

Status leave_namespaces() {
  if (::unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) != 0) {
    return fail_errno("unshare", "mount, ipc, uts");
  }
  return {};
}

Status seal() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return fail_errno("prctl", "PR_SET_NO_NEW_PRIVS");
  }
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
    return fail_errno("prctl", "PR_SET_DUMPABLE");
  }
  return {};
}

constexpr const char* kAllowed[] = {
    "accept",         "accept4",   "brk",          "clock_gettime",  "close",
    "connect",        "epoll_ctl", "epoll_wait",   "epoll_pwait",    "exit_group",
    "fcntl",          "futex",     "getpeername",  "getrandom",      "getsockname",
    "getsockopt",     "ioctl",     "madvise",      "mremap",         "munmap",
    "poll",           "ppoll",     "read",         "readv",          "recvfrom",
    "recvmsg",        "sendmsg",   "sendto",       "setsockopt",     "shutdown",
    "write",          "writev",    "rt_sigreturn", "rt_sigprocmask", "timerfd_settime",
    "restart_syscall"};
constexpr const char* kAllowedWhenSanitized[] = {"sigaltstack", "gettid", "getpid", "sched_yield",
                                                 "pipe2"};

int allow(scmp_filter_ctx filter, const char* name) {
  const int number = ::seccomp_syscall_resolve_name(name);
  return number == __NR_SCMP_ERROR ? 0 : ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
}

// Memory, but none that can be executed; sockets of the internet, and no others.
int allow_some(scmp_filter_ctx filter) {
  int error = 0;
  for (const char* name : {"mmap", "mprotect"}) {
    error = error != 0
                ? error
                : ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, ::seccomp_syscall_resolve_name(name),
                                     1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  }
  for (const unsigned family : {AF_INET, AF_INET6}) {
    error = error != 0 ? error
                       : ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                                            SCMP_A0(SCMP_CMP_EQ, family));
  }
  return error;
}

int fill(scmp_filter_ctx filter) {
  int error = ::seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  for (const char* name : kAllowed) {
    error = error != 0 ? error : allow(filter, name);
  }
  for (const char* name : kAllowedWhenSanitized) {
    error = error != 0 || !kSanitized ? error : allow(filter, name);
  }
  return error != 0 ? error : allow_some(filter);
}

}  // namespace

Status confine_relay(uid_t uid, int root_fd) {
  BROOD_CHECK(limit_resources());
  BROOD_CHECK(leave_namespaces());
  BROOD_CHECK(enter_root(root_fd));
  BROOD_CHECK(become_powerless(uid, uid));
  BROOD_CHECK(seal());
  return allow_only(fill);
}

}  // namespace cmd
