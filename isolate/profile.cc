#include "isolate/profile.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/bpf_common.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cstdlib>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <span>

#include "base/fd.h"

#ifndef TIOCLINUX
#define TIOCLINUX 0x541C
#endif

namespace isolate {
namespace {

// Grouped by what they are for. A name that this architecture or libseccomp does not know is
// skipped.
constexpr const char* kAllowed[] = {
    // files
    "access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup",
    "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod",
    "fchmodat", "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr",
    "flock", "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync", "ftruncate", "futimesat",
    "getcwd", "getdents", "getdents64", "getxattr", "lchown", "lgetxattr", "link", "linkat",
    "listxattr", "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat", "mkdir", "mkdirat",
    "newfstatat", "open", "openat", "openat2", "pread64", "preadv", "preadv2", "pwrite64",
    "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "removexattr",
    "rename", "renameat", "renameat2", "rmdir", "sendfile", "setxattr", "splice", "stat", "statfs",
    "statx", "symlink", "symlinkat", "sync_file_range", "tee", "truncate", "umask", "unlink",
    "unlinkat", "utime", "utimensat", "utimes", "write", "writev",
    // polling, events
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "inotify_add_watch", "inotify_init",
    "inotify_init1", "inotify_rm_watch", "pipe", "pipe2", "poll", "ppoll", "pselect6", "select",
    "signalfd", "signalfd4", "timerfd_create", "timerfd_gettime", "timerfd_settime",
    // memory
    "brk", "madvise", "membarrier", "memfd_create", "mincore", "mlock", "mlock2", "mlockall",
    "mmap", "mprotect", "mremap", "msync", "munlock", "munlockall", "munmap", "pkey_alloc",
    "pkey_free", "pkey_mprotect",
    // processes and threads
    "arch_prctl", "execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_waitv",
    "get_robust_list", "get_thread_area", "getpgid", "getpgrp", "getpid", "getppid", "getpriority",
    "getrlimit", "getrusage", "getsid", "gettid", "ioprio_get", "ioprio_set", "pidfd_open",
    "pidfd_send_signal", "restart_syscall", "rseq", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity", "sched_setattr",
    "sched_setparam", "sched_setscheduler", "sched_yield", "set_robust_list", "set_thread_area",
    "set_tid_address", "setpgid", "setpriority", "setsid", "vfork", "wait4", "waitid", "waitpid",
    // identity: nothing to gain without capabilities, and programs ask
    "capget", "capset", "getegid", "geteuid", "getgid", "getgroups", "getresgid", "getresuid",
    "getuid", "setfsgid", "setfsuid", "setgid", "setgroups", "setregid", "setresgid", "setresuid",
    "setreuid", "setuid",
    // signals
    "alarm", "getitimer", "kill", "pause", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo",
    "setitimer", "sigaltstack", "tgkill", "tkill",
    // time
    "clock_getres", "clock_gettime", "clock_nanosleep", "gettimeofday", "nanosleep", "time",
    "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "times",
    // sockets; the families are limited below
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
    "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    // System V and POSIX ipc, in the sandbox's own namespace
    "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink",
    "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat",
    "shmctl", "shmdt", "shmget",
    // sync and syncfs are not here: they make the host write out its disks, and all that can be
    // written inside is memory
    // Linux AIO is not here: io_setup's contexts are host-wide (fs.aio-max-nr)
    // self-restriction
    "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp",
    // the rest
    "getcpu", "getrandom", "ioctl", "sysinfo", "uname"};

// Known, and refused: EPERM, as without the privilege.
constexpr const char* kRefused[] = {"mount",
                                    "umount2",
                                    "umount",
                                    "pivot_root",
                                    "chroot",
                                    "move_mount",
                                    "open_tree",
                                    "fsopen",
                                    "fsconfig",
                                    "fsmount",
                                    "fspick",
                                    "mount_setattr",
                                    "unshare",
                                    "setns",
                                    "ptrace",
                                    "process_vm_readv",
                                    "process_vm_writev",
                                    "process_madvise",
                                    "process_mrelease",
                                    "kcmp",
                                    "pidfd_getfd",
                                    "bpf",
                                    "perf_event_open",
                                    "fanotify_init",
                                    "fanotify_mark",
                                    "quotactl",
                                    "quotactl_fd",
                                    "syslog",
                                    "sethostname",
                                    "setdomainname",
                                    "settimeofday",
                                    "clock_settime",
                                    "clock_adjtime",
                                    "adjtimex",
                                    "mknod",
                                    "mknodat",
                                    "modify_ldt",
                                    "lookup_dcookie",
                                    "name_to_handle_at",
                                    "userfaultfd",
                                    "keyctl",
                                    "add_key",
                                    "request_key",
                                    "memfd_secret",
                                    "vmsplice",
                                    "mbind",
                                    "set_mempolicy",
                                    "migrate_pages",
                                    "move_pages",
                                    "get_mempolicy",
                                    "set_mempolicy_home_node",
                                    "remap_file_pages",
                                    "vhangup",
                                    "nfsservctl",
                                    "uselib",
                                    "ustat",
                                    "sysfs",
                                    "io_cancel",
                                    "io_destroy",
                                    "io_getevents",
                                    "io_setup",
                                    "io_submit",
                                    "io_pgetevents"};

// Nobody asks for these by mistake.
constexpr const char* kDeadly[] = {
    "kexec_load",    "kexec_file_load", "init_module", "finit_module", "delete_module",
    "create_module", "reboot",          "swapon",      "swapoff",      "open_by_handle_at",
    "iopl",          "ioperm",          "acct",        "_sysctl"};

// What the agent never calls.
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

// What a zygote and the making of a sandbox never need. Nothing of kDeadly: filters add up, and an
// errno from this one would win over the notification that a sandbox's own filter gives. None of
// those calls does anything for a zygote, which has no capability outside of its user namespace.
constexpr const char* kZygoteRefused[] = {"bpf",
                                          "perf_event_open",
                                          "io_uring_setup",
                                          "io_uring_enter",
                                          "io_uring_register",
                                          "userfaultfd",
                                          "keyctl",
                                          "add_key",
                                          "request_key",
                                          "name_to_handle_at",
                                          "ptrace",
                                          "process_vm_readv",
                                          "process_vm_writev",
                                          "kcmp",
                                          "pidfd_getfd",
                                          "quotactl",
                                          "syslog",
                                          "settimeofday",
                                          "clock_settime",
                                          "clock_adjtime",
                                          "adjtimex",
                                          "mknod",
                                          "mknodat",
                                          "modify_ldt",
                                          "fanotify_init",
                                          "fanotify_mark",
                                          "memfd_secret",
                                          "vmsplice",
                                          "fspick"};

constexpr std::uint64_t kNewNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
                                         CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
constexpr int kPrctl[] = {PR_SET_PDEATHSIG,
                          PR_GET_PDEATHSIG,
                          PR_GET_DUMPABLE,
                          PR_SET_DUMPABLE,
                          PR_GET_KEEPCAPS,
                          PR_SET_NAME,
                          PR_GET_NAME,
                          PR_GET_SECCOMP,
                          PR_SET_SECCOMP,
                          PR_CAPBSET_READ,
                          PR_GET_TIMERSLACK,
                          PR_SET_TIMERSLACK,
                          PR_SET_NO_NEW_PRIVS,
                          PR_GET_NO_NEW_PRIVS,
                          PR_SET_THP_DISABLE,
                          PR_GET_THP_DISABLE,
                          PR_GET_TID_ADDRESS,
                          PR_SET_CHILD_SUBREAPER,
                          PR_GET_CHILD_SUBREAPER,
                          PR_GET_SECUREBITS,
                          PR_GET_SPECULATION_CTRL,
                          0x53564d41 /* PR_SET_VMA */};

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = SCMP_ARCH_X86_64;
constexpr std::uint32_t kAuditArch = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = SCMP_ARCH_AARCH64;
constexpr std::uint32_t kAuditArch = AUDIT_ARCH_AARCH64;
#else
constexpr std::uint32_t kArchitecture = 0;
constexpr std::uint32_t kAuditArch = 0;
#endif

class Builder {
 public:
  static base::Result<Builder> begin(std::uint32_t default_action) {
    if (kArchitecture == 0) {
      return base::fail(base::Error("compile the seccomp filter for this architecture", ENOTSUP));
    }
    Builder builder;
    builder.context_.reset(::seccomp_init(default_action));
    if (builder.context_ == nullptr) {
      return base::fail(base::Error("seccomp_init", ENOMEM));
    }
    // A binary tree over the numbers: loading walks it for every number, so its depth is what
    // counts.
    builder.note(::seccomp_attr_set(builder.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2), "optimize");
    builder.note(::seccomp_attr_set(builder.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS),
                 "badarch");
    return builder;
  }

  void rule(std::uint32_t action, const char* name,
            std::initializer_list<scmp_arg_cmp> arguments = {}) {
    const int number = ::seccomp_syscall_resolve_name_arch(kArchitecture, name);
    if (number < 0) {
      return;  // not a call of this architecture
    }
    note(::seccomp_rule_add_exact_array(get(), action, number,
                                        static_cast<unsigned>(arguments.size()), arguments.begin()),
         name);
  }
  void rules(std::uint32_t action, std::span<const char* const> names) {
    for (const char* name : names) {
      rule(action, name);
    }
  }

  base::Result<Filter> finish() {
    if (error_ != 0) {
      return base::fail(base::Error("compile the seccomp rule for", -error_, failed_));
    }
    const base::UniqueFd memory(::memfd_create("seccomp", MFD_CLOEXEC));
    if (!memory || ::seccomp_export_bpf(get(), memory.get()) != 0) {
      return base::fail_errno("seccomp_export_bpf");
    }
    const off_t size = ::lseek(memory.get(), 0, SEEK_END);
    Filter filter(static_cast<std::size_t>(size) / sizeof(sock_filter));
    if (::pread(memory.get(), filter.data(), static_cast<std::size_t>(size), 0) != size) {
      return base::fail_errno("read the compiled filter");
    }
    return filter;
  }

 private:
  scmp_filter_ctx get() const { return context_.get(); }
  void note(int result, const char* what) {
    if (result < 0 && error_ == 0) {
      error_ = result;
      failed_ = what;
    }
  }
  std::unique_ptr<void, decltype([](void* context) { ::seccomp_release(context); })> context_;
  int error_ = 0;
  std::string failed_;
};

// Every family that Linux has a number for, so that a refused one is answered as a kernel without
// it would.
void limit_socket_families(Builder& builder) {
  constexpr std::uint32_t kFamilyCount = 48;
  constexpr std::uint32_t kNetlinkProtocols = 32;  // MAX_LINKS of linux/netlink.h
  for (std::uint32_t family = 0; family < kFamilyCount; ++family) {
    if (family != AF_NETLINK) {
      const bool allowed = family == AF_UNIX || family == AF_INET || family == AF_INET6;
      builder.rule(allowed ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EAFNOSUPPORT), "socket",
                   {SCMP_A0_32(SCMP_CMP_EQ, family)});
    }
  }
  // getifaddrs and getaddrinfo ask rtnetlink (protocol 0) which addresses there are.
  for (std::uint32_t protocol = 0; protocol < kNetlinkProtocols; ++protocol) {
    builder.rule(protocol == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPROTONOSUPPORT), "socket",
                 {SCMP_A0_32(SCMP_CMP_EQ, AF_NETLINK), SCMP_A2_32(SCMP_CMP_EQ, protocol)});
  }
}

// A process may lower its limits, but for the one of core dumps: it stands at the value that keeps
// the kernel from starting a helper (isolate/spec.cc), and 0 would let it. EINVAL, as where there
// is no such limit: programs that mean well (gpg) go on without, and would end at EPERM. The kernel
// reads the resource from the lower half of its register, so a mask takes the upper away; and since
// a mask cannot be compared for "other than", every other resource is named.
void keep_core_limit(Builder& builder) {
  constexpr std::uint64_t kLowerHalf = 0xffffffff;
  constexpr auto kRefuse = SCMP_ACT_ERRNO(EINVAL);
  for (std::uint64_t resource = 0; resource < RLIM_NLIMITS; ++resource) {
    const scmp_arg_cmp first = SCMP_A0(SCMP_CMP_MASKED_EQ, kLowerHalf, resource);
    const scmp_arg_cmp second = SCMP_A1(SCMP_CMP_MASKED_EQ, kLowerHalf, resource);
    if (resource != RLIMIT_CORE) {
      builder.rule(SCMP_ACT_ALLOW, "setrlimit", {first});
      builder.rule(SCMP_ACT_ALLOW, "prlimit64", {second});
      continue;
    }
    builder.rule(kRefuse, "setrlimit", {first});
    builder.rule(SCMP_ACT_ALLOW, "prlimit64", {second, SCMP_A2(SCMP_CMP_EQ, 0)});
    builder.rule(kRefuse, "prlimit64", {second, SCMP_A2(SCMP_CMP_NE, 0)});
  }
}

// libseccomp takes one comparison an argument, so "any ioctl but these two, whatever stands in the
// upper half of the register" (which the kernel ignores) cannot be said to it. It is put in front
// by hand:
//   native architecture and ioctl and lower half of argument 1 in {TIOCSTI, TIOCLINUX} -> EPERM
// Both push input into the terminal of whoever runs the sandbox.
void refuse_terminal_injection(Filter& filter) {
  const auto load = [](std::size_t offset) {
    return sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset));
  };
  const auto unless_equal_skip = [](std::uint32_t value, std::uint8_t skip) {
    return sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip);
  };
  const auto number =
      static_cast<std::uint32_t>(::seccomp_syscall_resolve_name_arch(kArchitecture, "ioctl"));
  const Filter front = {
      load(offsetof(seccomp_data, arch)),
      unless_equal_skip(kAuditArch, 6),
      load(offsetof(seccomp_data, nr)),
      unless_equal_skip(number, 4),
      load(offsetof(seccomp_data, args) +
           sizeof(std::uint64_t)),  // little endian: the lower half first
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TIOCSTI, 1, 0),
      unless_equal_skip(TIOCLINUX, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
  };
  filter.insert(filter.begin(), front.begin(), front.end());
}

// By hand, too: of a call that may make a file, the mode counts only where the flags say that it
// does, and says nothing otherwise.
class SetIdRefusal {
 public:
  // The call's mode is the argument of this number; `flags`: and counts where that one creates.
  void call(const char* name, unsigned mode, int flags = -1) {
    const int number = ::seccomp_syscall_resolve_name_arch(kArchitecture, name);
    if (number < 0) {
      return;
    }
    Filter body;
    if (flags >= 0) {
      constexpr std::uint32_t kCreates = O_CREAT | (O_TMPFILE & ~O_DIRECTORY);
      body.push_back(argument(static_cast<unsigned>(flags)));
      body.push_back(sock_filter BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kCreates, 0, 3));
    }
    body.push_back(argument(mode));
    body.push_back(sock_filter BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, S_ISUID | S_ISGID, 0, 1));
    body.push_back(sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
    add(number, body);
  }
  void missing(const char* name) {
    const int number = ::seccomp_syscall_resolve_name_arch(kArchitecture, name);
    if (number >= 0) {
      add(number, {sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS)});
    }
  }
  void put_before(Filter& filter) {
    Filter front = {
        sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
        sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kAuditArch, 1, 0),
        // Another architecture is the rest's to judge; the jump may be long.
        sock_filter BPF_STMT(BPF_JMP | BPF_JA, static_cast<std::uint32_t>(calls_.size())),
    };
    front.insert(front.end(), calls_.begin(), calls_.end());
    filter.insert(filter.begin(), front.begin(), front.end());
  }

 private:
  static sock_filter argument(unsigned index) {
    // Little endian: the lower half first. The kernel takes modes and flags from there alone.
    return sock_filter BPF_STMT(
        BPF_LD | BPF_W | BPF_ABS,
        static_cast<std::uint32_t>(offsetof(seccomp_data, args) + index * sizeof(std::uint64_t)));
  }
  void add(int number, const Filter& body) {
    calls_.push_back(sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
    calls_.push_back(sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                          static_cast<std::uint32_t>(number), 0,
                                          static_cast<std::uint8_t>(body.size())));
    calls_.insert(calls_.end(), body.begin(), body.end());
  }
  Filter calls_;
};

void refuse_set_id(Filter& filter) {
  SetIdRefusal refusal;
  refusal.call("chmod", 1);
  refusal.call("fchmod", 1);
  refusal.call("fchmodat", 2);
  refusal.call("fchmodat2", 2);
  refusal.call("creat", 1);
  refusal.call("open", 2, 1);
  refusal.call("openat", 3, 2);
  refusal.missing("openat2");
  refusal.put_before(filter);
}

}  // namespace

base::Result<Filter> compile_sandbox_filter(Deadly deadly, SetId set_id) {
  BROOD_TRY(Builder builder, Builder::begin(SCMP_ACT_ERRNO(ENOSYS)));
  builder.rules(SCMP_ACT_ALLOW, kAllowed);
  builder.rules(SCMP_ACT_ERRNO(EPERM), kRefused);
  builder.rules(deadly == Deadly::notify ? SCMP_ACT_NOTIFY : SCMP_ACT_KILL_PROCESS, kDeadly);
  // clone3's flags are behind a pointer, where a filter cannot look: ENOSYS makes libc use clone.
  builder.rule(SCMP_ACT_ALLOW, "clone", {SCMP_A0(SCMP_CMP_MASKED_EQ, kNewNamespaces, 0)});
  for (std::uint64_t flag = 1; flag <= kNewNamespaces; flag <<= 1) {
    if ((flag & kNewNamespaces) != 0) {
      builder.rule(SCMP_ACT_ERRNO(EPERM), "clone", {SCMP_A0(SCMP_CMP_MASKED_EQ, flag, flag)});
    }
  }
  keep_core_limit(builder);
  limit_socket_families(builder);
  builder.rule(SCMP_ACT_ALLOW, "socketpair", {SCMP_A0_32(SCMP_CMP_EQ, AF_UNIX)});
  for (const int operation : kPrctl) {
    builder.rule(SCMP_ACT_ALLOW, "prctl",
                 {SCMP_A0_32(SCMP_CMP_EQ, static_cast<std::uint32_t>(operation))});
  }
  for (const std::uint32_t persona : {0x0U, 0xffffffffU}) {  // PER_LINUX, and asking
    builder.rule(SCMP_ACT_ALLOW, "personality", {SCMP_A0_32(SCMP_CMP_EQ, persona)});
  }
  BROOD_TRY(Filter filter, builder.finish());
  refuse_terminal_injection(filter);
  if (set_id == SetId::refused) {
    refuse_set_id(filter);
  }
  return filter;
}

base::Result<Filter> compile_zygote_filter() {
  BROOD_TRY(Builder builder, Builder::begin(SCMP_ACT_ALLOW));
  builder.rules(SCMP_ACT_ERRNO(EPERM), kZygoteRefused);
  return builder.finish();
}

// Filters are inherited, and the gravest verdict of all wins: kill, errno, notification, trace,
// allow. A kill or an errno from this one would hide the notification by which a sandbox's own
// filter tells the agent of a deadly call. A trace is graver than allow alone, so it changes
// nothing that the filter of a sandbox or a zygote says; and where nobody traces for it
// (PTRACE_O_TRACESECCOMP), the kernel answers ENOSYS.
// By number only, so that the kernel knows beforehand which calls need no filter to be run.
base::Result<Filter> compile_agent_filter() {
  BROOD_TRY(Builder builder, Builder::begin(SCMP_ACT_ALLOW));
  builder.rules(SCMP_ACT_TRACE(0), kNeverCalled);
  if (!kSanitized) {
    builder.rule(SCMP_ACT_TRACE(0), "ptrace");
  }
  return builder.finish();
}

std::vector<std::string> call_names() {
  constexpr int kBeyondAll = 1024;
  std::vector<std::string> names;
  for (int number = 0; number < kBeyondAll; ++number) {
    char* name = ::seccomp_syscall_resolve_num_arch(kArchitecture, number);
    names.emplace_back(name != nullptr ? name : "");
    ::free(name);
  }
  while (!names.empty() && names.back().empty()) {
    names.pop_back();
  }
  return names;
}

}  // namespace isolate
