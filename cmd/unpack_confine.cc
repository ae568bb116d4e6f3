#include "cmd/unpack_confine.h"

#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

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

Status limit_resources(const Confinement& how) {
  // A write beyond RLIMIT_FSIZE is to fail with EFBIG, which is told; its signal would kill.
  ::signal(SIGXFSZ, SIG_IGN);
  // SIGXCPU comes at the soft limit; at the hard one SIGKILL, which would not say why.
  BROOD_CHECK(lower_limit(RLIMIT_CPU, "RLIMIT_CPU", how.cpu_seconds, how.cpu_seconds + 5));
  BROOD_CHECK(lower_limit(RLIMIT_FSIZE, "RLIMIT_FSIZE", how.file_bytes, how.file_bytes));
  BROOD_CHECK(lower_limit(RLIMIT_NOFILE, "RLIMIT_NOFILE", 16, 16));
  BROOD_CHECK(lower_limit(RLIMIT_NPROC, "RLIMIT_NPROC", 0, 0));
  // 1, not 0: at 0 the kernel would still start a core_pattern helper (isolate/spec.cc).
  BROOD_CHECK(lower_limit(RLIMIT_CORE, "RLIMIT_CORE", 1, 1));
  if (!kSanitized) {  // its shadow memory alone is terabytes of address space
    // zstd's largest window by default is 128 MiB; libarchive's libraries map some 60.
    constexpr rlim_t kAddressSpace = 512UL << 20;
    BROOD_CHECK(lower_limit(RLIMIT_AS, "RLIMIT_AS", kAddressSpace, kAddressSpace));
  }
  return {};
}

Status leave_namespaces(int mounts_fd) {
  if (mounts_fd >= 0 && (::setns(mounts_fd, CLONE_NEWNS) != 0 || ::close(mounts_fd) != 0)) {
    return fail_errno("setns", "a mount namespace");
  }
  if (::unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0) {
    return fail_errno("unshare", "mount, net, ipc, uts");
  }
  if (::unshare(CLONE_NEWCGROUP) != 0 && errno != EINVAL) {  // EINVAL: a kernel without it
    return fail_errno("unshare", "cgroup");
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
  // Here and no sooner: the kernel forgets it when the uid changes.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) {
    return fail_errno("prctl", "PR_SET_PDEATHSIG");
  }
  return {};
}

// Files are made with openat2 only: libc opens by openat, so a library that looks for a plug-in, a
// locale or a time zone (which the archive may just have put at that place) is killed.
constexpr const char* kAllowed[] = {
    "openat2", "mkdirat", "symlinkat",  "linkat",        "read",      "write",
    "close",   "fstat",   "newfstatat", "lseek",         "brk",       "munmap",
    "mremap",  "madvise", "futex",      "clock_gettime", "getrandom", "exit_group"};

constexpr const char* kAllowedWhenSanitized[] = {"sigaltstack", "gettid", "getpid", "sched_yield",
                                                 "pipe2"};

int allow(scmp_filter_ctx filter, const char* name) {
  return ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, ::seccomp_syscall_resolve_name(name), 0);
}

// Memory may be had, but none that can be executed.
int allow_without_exec(scmp_filter_ctx filter, const char* name) {
  return ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, ::seccomp_syscall_resolve_name(name), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

int fill(scmp_filter_ctx filter) {
  int error = ::seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  for (const char* name : kAllowed) {
    error = error != 0 ? error : allow(filter, name);
  }
  if (kSanitized) {
    for (const char* name : kAllowedWhenSanitized) {
      error = error != 0 ? error : allow(filter, name);
    }
  }
  error = error != 0 ? error : allow_without_exec(filter, "mmap");
  return error != 0 ? error : allow_without_exec(filter, "mprotect");
}

}  // namespace

Status confine(const Confinement& how) {
  BROOD_CHECK(limit_resources(how));
  BROOD_CHECK(leave_namespaces(how.mounts_fd));
  BROOD_CHECK(enter_root(how.root_fd));
  BROOD_CHECK(become_powerless(how.uid, how.gid));
  BROOD_CHECK(seal());
  return allow_only(fill);
}

}  // namespace cmd
