#include "isolate/seccomp.h"

#include <fcntl.h>

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>

#include "isolate/profile.h"
#include "tests/support/filter_verdict.h"

namespace {

#if defined(__x86_64__)
constexpr std::uint32_t kNative = AUDIT_ARCH_X86_64;
#else
constexpr std::uint32_t kNative = AUDIT_ARCH_AARCH64;
#endif
constexpr std::uint32_t kEperm = SECCOMP_RET_ERRNO | EPERM;
constexpr std::uint32_t kEnosys = SECCOMP_RET_ERRNO | ENOSYS;

std::uint32_t verdict(const isolate::Filter& filter, long number,
                      std::initializer_list<std::uint64_t> arguments = {},
                      std::uint32_t arch = kNative) {
  seccomp_data data{};
  data.nr = static_cast<int>(number);
  data.arch = arch;
  std::size_t i = 0;
  for (const std::uint64_t argument : arguments) {
    data.args[i++] = argument;
  }
  return tests::filter_verdict(filter, data);
}

const isolate::Filter& filter() {
  static const isolate::Filter kFilter = isolate::sandbox_filter(isolate::Deadly::notify);
  return kFilter;
}

}  // namespace

TEST_CASE("ordinary calls pass, unknown ones do not exist") {
  for (const long number :
       {SYS_read, SYS_write, SYS_openat, SYS_mmap, SYS_futex, SYS_exit_group, SYS_getrandom}) {
    CHECK(verdict(filter(), number) == SECCOMP_RET_ALLOW);
  }
  for (const long number :
       {500, 1000, 1023, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register}) {
    INFO(number);
    CHECK(verdict(filter(), number) == kEnosys);
  }
}

TEST_CASE("what builds or leaves namespaces is refused") {
  for (const long number :
       {SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_unshare, SYS_setns, SYS_fsopen,
        SYS_open_tree, SYS_move_mount, SYS_mount_setattr, SYS_ptrace, SYS_process_vm_readv, SYS_bpf,
        SYS_keyctl, SYS_userfaultfd, SYS_perf_event_open, SYS_name_to_handle_at}) {
    INFO(isolate::syscall_name(static_cast<int>(number)));
    CHECK(verdict(filter(), number) == kEperm);
  }
  CHECK(verdict(filter(), SYS_clone3) == kEnosys);
}

TEST_CASE("clone is refused with any namespace flag and allowed with none") {
  CHECK(verdict(filter(), SYS_clone,
                {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD}) ==
        SECCOMP_RET_ALLOW);
  CHECK(verdict(filter(), SYS_clone, {17 /* SIGCHLD */}) == SECCOMP_RET_ALLOW);
  for (const std::uint64_t flag : {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                   CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET}) {
    INFO(flag);
    CHECK(verdict(filter(), SYS_clone, {flag | 17}) == kEperm);
  }
}

TEST_CASE("calls that only an attacker makes are told to the agent") {
  for (const long number :
       {SYS_kexec_load, SYS_init_module, SYS_reboot, SYS_open_by_handle_at, SYS_swapon}) {
    CHECK(verdict(filter(), number) == SECCOMP_RET_USER_NOTIF);
  }
  const auto without_notify = isolate::sandbox_filter(isolate::Deadly::kill);
  CHECK(verdict(without_notify, SYS_reboot) == SECCOMP_RET_KILL_PROCESS);
}

TEST_CASE("a zygote's filter does not speak over a sandbox's") {
  // Filters add up, and the kernel takes an errno before a notification.
  const auto zygote = isolate::zygote_filter();
  for (const long number : {SYS_kexec_load, SYS_init_module, SYS_finit_module, SYS_delete_module,
                            SYS_reboot, SYS_swapon, SYS_swapoff, SYS_open_by_handle_at, SYS_acct}) {
    INFO(isolate::syscall_name(static_cast<int>(number)));
    CHECK(verdict(zygote, number) == SECCOMP_RET_ALLOW);
  }
  CHECK(verdict(zygote, SYS_bpf) == kEperm);
}

TEST_CASE("another ABI's calls are death") {
  CHECK(verdict(filter(), 20, {}, AUDIT_ARCH_I386) == SECCOMP_RET_KILL_PROCESS);
  CHECK(verdict(filter(), 0x40000000 | 39, {}) == SECCOMP_RET_KILL_PROCESS);
}

TEST_CASE("only local and internet sockets can be made, and netlink's routing family") {
  for (const std::uint64_t family : {AF_UNIX, AF_INET, AF_INET6}) {
    CHECK(verdict(filter(), SYS_socket, {family, SOCK_STREAM, 0}) == SECCOMP_RET_ALLOW);
  }
  CHECK(verdict(filter(), SYS_socket, {AF_NETLINK, SOCK_RAW, 0}) == SECCOMP_RET_ALLOW);
  CHECK(verdict(filter(), SYS_socket, {AF_NETLINK, SOCK_RAW, 12}) ==
        (SECCOMP_RET_ERRNO | EPROTONOSUPPORT));  // netfilter
  for (const std::uint64_t family :
       {AF_PACKET, AF_ALG, AF_VSOCK, AF_KEY, AF_RDS, AF_TIPC, AF_CAN, AF_XDP}) {
    INFO(family);
    CHECK(verdict(filter(), SYS_socket, {family, SOCK_RAW, 0}) ==
          (SECCOMP_RET_ERRNO | EAFNOSUPPORT));
  }
  CHECK(verdict(filter(), SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0}) == SECCOMP_RET_ALLOW);
  CHECK(verdict(filter(), SYS_socketpair, {AF_TIPC, SOCK_STREAM, 0}) == kEnosys);
}

TEST_CASE("input cannot be pushed into a terminal, whatever stands in the register's upper half") {
  for (const std::uint64_t request :
       {0x5412ULL, 0x541cULL, 0x1'0000'5412ULL, 0xffffffff'0000541cULL}) {
    CHECK(verdict(filter(), SYS_ioctl, {1, request, 0}) == kEperm);
  }
  for (const std::uint64_t request : {0x5401ULL, 0x5413ULL, 0x541bULL, 0x5421ULL}) {
    CHECK(verdict(filter(), SYS_ioctl, {1, request, 0}) == SECCOMP_RET_ALLOW);
  }
}

TEST_CASE("limits can be changed, but for that of core dumps") {
  constexpr std::uint32_t kEinval = SECCOMP_RET_ERRNO | EINVAL;
  for (const std::uint64_t core : {0x4ULL, 0x1'0000'0004ULL}) {  // the kernel reads 32 bits
    CHECK(verdict(filter(), SYS_setrlimit, {core, 0x1000}) == kEinval);
    CHECK(verdict(filter(), SYS_prlimit64, {0, core, 0x1000, 0}) == kEinval);
    CHECK(verdict(filter(), SYS_prlimit64, {0, core, 0x1'0000'0000, 0}) == kEinval);
    CHECK(verdict(filter(), SYS_prlimit64, {0, core, 0, 0x1000}) == SECCOMP_RET_ALLOW);
  }
  CHECK(verdict(filter(), SYS_setrlimit, {RLIMIT_NOFILE, 0x1000}) == SECCOMP_RET_ALLOW);
  CHECK(verdict(filter(), SYS_prlimit64, {0, RLIMIT_NOFILE, 0x1000, 0}) == SECCOMP_RET_ALLOW);
  CHECK(verdict(filter(), SYS_getrlimit, {RLIMIT_CORE, 0x1000}) == SECCOMP_RET_ALLOW);
}

TEST_CASE("a sandbox cannot make the host write out its disks") {
  for (const long number : {SYS_sync, SYS_syncfs}) {
    CHECK(verdict(filter(), number) == kEnosys);
  }
}

TEST_CASE("prctl and personality pass only with operations that are listed") {
  CHECK(verdict(filter(), SYS_prctl, {PR_SET_NAME}) == SECCOMP_RET_ALLOW);
  CHECK(verdict(filter(), SYS_prctl, {PR_SET_SECUREBITS}) == kEnosys);
  CHECK(verdict(filter(), SYS_prctl, {PR_SET_MM}) == kEnosys);
  CHECK(verdict(filter(), SYS_personality, {0xffffffff}) == SECCOMP_RET_ALLOW);
  CHECK(verdict(filter(), SYS_personality, {0x0400000}) == kEnosys);  // READ_IMPLIES_EXEC
}

TEST_CASE("filters fit a plan, and are short enough to load fast") {
  CHECK(filter().size() < 1000);
  CHECK(isolate::zygote_filter().size() < 200);
}

TEST_CASE(
    "where set-id bits are refused, no call makes a file with one, and all else is as it was") {
  const isolate::Filter strict =
      isolate::sandbox_filter(isolate::Deadly::notify, isolate::SetId::refused);
  const std::uint32_t refused = SECCOMP_RET_ERRNO | EPERM;
  for (const std::uint64_t mode : {04755U, 02755U, 06777U}) {
    CAPTURE(mode);
    CHECK(verdict(strict, SYS_fchmod, {3, mode}) == refused);
    CHECK(verdict(strict, SYS_fchmodat, {3, 0, mode}) == refused);
    CHECK(verdict(strict, 452 /* fchmodat2 */, {3, 0, mode}) != SECCOMP_RET_ALLOW);
    CHECK(verdict(strict, SYS_openat, {3, 0, O_CREAT | O_WRONLY, mode}) == refused);
    CHECK(verdict(strict, SYS_openat, {3, 0, O_TMPFILE | O_WRONLY, mode}) == refused);
    CHECK(verdict(strict, SYS_openat, {3, 0, O_RDONLY, mode}) == SECCOMP_RET_ALLOW);
    CHECK(verdict(strict, SYS_openat, {3, 0, O_DIRECTORY, mode}) == SECCOMP_RET_ALLOW);
    CHECK(verdict(strict, SYS_fchmod, {3, mode | (1ULL << 40)}) == refused);
    CHECK(verdict(filter(), SYS_fchmod, {3, mode}) == SECCOMP_RET_ALLOW);
#ifdef SYS_open
    CHECK(verdict(strict, SYS_chmod, {0, mode}) == refused);
    CHECK(verdict(strict, SYS_creat, {0, mode}) == refused);
    CHECK(verdict(strict, SYS_open, {0, O_CREAT, mode}) == refused);
    CHECK(verdict(strict, SYS_open, {0, O_RDONLY, mode}) == SECCOMP_RET_ALLOW);
#endif
  }
  CHECK(verdict(strict, SYS_openat2) == kEnosys);
  CHECK(verdict(strict, SYS_fchmod, {3, 0755}) == SECCOMP_RET_ALLOW);
  CHECK(verdict(strict, SYS_openat, {3, 0, O_CREAT, 01777}) == SECCOMP_RET_ALLOW);
  for (long number = 0; number < 600; ++number) {
    CAPTURE(number);
    const auto usual = verdict(filter(), number);
    CHECK((number == SYS_openat2 || verdict(strict, number) == usual));
    CHECK(verdict(strict, number, {}, 0x40000003 /* i386 */) ==
          verdict(filter(), number, {}, 0x40000003));
  }
}

TEST_CASE("the filters that were built in are those that the profile says") {
  const auto same = [](const isolate::Filter& built_in, const isolate::Filter& compiled) {
    return built_in.size() == compiled.size() && !built_in.empty() &&
           std::memcmp(built_in.data(), compiled.data(), built_in.size() * sizeof(sock_filter)) ==
               0;
  };
  for (const auto deadly : {isolate::Deadly::notify, isolate::Deadly::kill}) {
    for (const auto set_id : {isolate::SetId::allowed, isolate::SetId::refused}) {
      CHECK(same(isolate::sandbox_filter(deadly, set_id),
                 isolate::compile_sandbox_filter(deadly, set_id).value()));
    }
  }
  CHECK(same(isolate::zygote_filter(), isolate::compile_zygote_filter().value()));
  CHECK(same(isolate::agent_filter(), isolate::compile_agent_filter().value()));
  CHECK(isolate::syscall_name(SYS_reboot) == "reboot");
  CHECK(isolate::syscall_name(SYS_landlock_restrict_self) == "landlock_restrict_self");
  CHECK(isolate::syscall_name(999'999) == "999999");
  CHECK(isolate::syscall_name(-1) == "-1");
}
