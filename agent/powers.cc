#include "agent/powers.h"

#include <seccomp.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>

namespace agent {
namespace {

using base::Error;
using base::fail;
using base::fail_because;
using base::fail_errno;
using base::Status;

// A name that this architecture or libseccomp does not know is skipped.
constexpr const char* kNeverCalled[] = {
    // another kernel, or other code in this one
    "kexec_load", "kexec_file_load", "create_module", "init_module", "finit_module",
    "delete_module", "bpf", "reboot",
    // the machine's state
    "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "settimeofday", "stime",
    "clock_settime", "clock_adjtime", "adjtimex", "setdomainname", "syslog", "vhangup", "_sysctl",
    "nfsservctl", "iopl", "ioperm", "modify_ldt", "lookup_dcookie", "uselib",
    // other processes' memory and descriptors
    "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp",
    "perf_event_open",
    // files past every path and mount
    "open_by_handle_at", "name_to_handle_at", "fanotify_init", "fanotify_mark",
    // large kernel surfaces
    "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "keyctl", "add_key",
    "request_key", "memfd_secret", "vmsplice", "remap_file_pages"};

// Sanitized, a process looks for leaks by tracing itself.
constexpr bool kSanitized =
#ifdef __SANITIZE_ADDRESS__
    true;
#else
    false;
#endif

Status check_alone() {
  std::error_code error;
  const std::filesystem::directory_iterator threads("/proc/self/task", error);
  if (error || std::distance(begin(threads), end(threads)) != 1) {
    return fail_because("powers are given up by one thread, before there are others");
  }
  return {};
}

bool is_kept(cap_value_t capability) {
  return std::find(kKeptCapabilities.begin(), kKeptCapabilities.end(), capability) !=
         kKeptCapabilities.end();
}

Status shrink_bounding_set() {
  for (cap_value_t capability = 0; CAP_IS_SUPPORTED(capability); ++capability) {
    if (!is_kept(capability) && ::cap_drop_bound(capability) != 0) {
      return fail_errno("drop from the bounding set", std::to_string(capability));
    }
  }
  return {};
}

using Capabilities = std::unique_ptr<_cap_struct, decltype([](cap_t caps) { ::cap_free(caps); })>;

// Only what is there is kept: root of a container may lack some, and then says so when it is asked
// for what needs it.
Status shrink_sets() {
  const Capabilities have(::cap_get_proc());
  const Capabilities kept(::cap_init());
  if (!have || !kept) {
    return fail_errno("cap_get_proc");
  }
  for (const cap_value_t capability : kKeptCapabilities) {
    cap_flag_value_t permitted = CAP_CLEAR;
    if (::cap_get_flag(have.get(), capability, CAP_PERMITTED, &permitted) == 0 &&
        permitted == CAP_SET) {
      ::cap_set_flag(kept.get(), CAP_PERMITTED, 1, &capability, CAP_SET);
      ::cap_set_flag(kept.get(), CAP_EFFECTIVE, 1, &capability, CAP_SET);
    }
  }
  if (::cap_reset_ambient() != 0) {
    return fail_errno("cap_reset_ambient");
  }
  if (::cap_set_proc(kept.get()) != 0) {
    return fail_errno("cap_set_proc");
  }
  return {};
}

using Filter = std::unique_ptr<void, decltype([](scmp_filter_ctx ctx) { ::seccomp_release(ctx); })>;

// Filters are inherited, and the gravest verdict of all wins: kill, errno, notification, trace,
// allow. A kill or an errno from this one would hide the notification by which a sandbox's own
// filter tells the agent of a deadly call. A trace is graver than allow alone, so it changes
// nothing that the filter of a sandbox or a zygote says; and where nobody traces for it
// (PTRACE_O_TRACESECCOMP), the kernel answers ENOSYS.
// By number only, so that the kernel knows beforehand which calls need no filter to be run.
int fill(scmp_filter_ctx filter) {
  int error = ::seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  const auto refuse = [&](const char* name) {
    const int number = ::seccomp_syscall_resolve_name(name);
    if (error == 0 && number >= 0) {
      error = ::seccomp_rule_add(filter, SCMP_ACT_TRACE(0), number, 0);
    }
  };
  std::for_each(std::begin(kNeverCalled), std::end(kNeverCalled), refuse);
  if (!kSanitized) {
    refuse("ptrace");
  }
  return error;
}

Status filter_calls() {
  const Filter filter(::seccomp_init(SCMP_ACT_ALLOW));
  if (!filter) {
    return fail_because("seccomp_init failed");
  }
  if (const int error = fill(filter.get()); error != 0) {
    return fail(Error("build the agent's seccomp filter", -error));
  }
  if (const int error = ::seccomp_load(filter.get()); error != 0) {
    return fail(Error("load the agent's seccomp filter", -error));
  }
  return {};
}

}  // namespace

Status give_up_powers() {
  BROOD_CHECK(check_alone());
  BROOD_CHECK(shrink_bounding_set());
  BROOD_CHECK(shrink_sets());
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return fail_errno("prctl", "PR_SET_NO_NEW_PRIVS");
  }
  return filter_calls();
}

}  // namespace agent
