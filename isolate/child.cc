// The child side. Compiled without exceptions, RTTI or stack protector, and held by a test to an
// allow-list of symbols: it runs between clone and exec, where nothing of libc's state may be
// relied on.
#include "isolate/child.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "isolate/plan.h"

namespace {

using isolate::Mask;
using isolate::MaskKind;
using isolate::Plan;
using isolate::Step;

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

// 0, or the errno of a system call.
template <typename... Args>
int call(long number, Args... args) {
  return ::syscall(number, args...) == -1 ? errno : 0;
}

constexpr unsigned long kPlain = MS_NOSUID | MS_NODEV | MS_NOEXEC;

int do_mount(const char* source, const char* target, const char* type, unsigned long flags,
             const char* options) {
  return call(SYS_mount, source, target, type, flags, options);
}

int make_directory(const char* path, unsigned mode) {
  const int error = call(SYS_mkdirat, AT_FDCWD, path, mode);
  // The umask is set already: modes wider than 0755 need to be said again.
  return error != 0 ? error : call(SYS_fchmodat, AT_FDCWD, path, mode);
}

// A path below the root under construction. Plans keep both parts short; one that does not fit is
// refused.
class Path {
 public:
  Path(const char* root, const char* below) {
    append(root);
    append(below);
  }
  const char* text() const { return text_; }
  int error() const { return error_; }

 private:
  void append(const char* part) {
    for (; *part != '\0'; ++part) {
      if (length_ + 1 >= sizeof text_) {
        error_ = ENAMETOOLONG;
        return;
      }
      text_[length_++] = *part;
    }
    text_[length_] = '\0';
  }
  char text_[96] = {};
  unsigned length_ = 0;
  int error_ = 0;
};

int attach(int mount_fd, const char* target) {
  return call(SYS_move_mount, mount_fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
}

int identity() {
  if (const int error = call(SYS_setgroups, 0L, nullptr)) {
    return error;
  }
  if (const int error = call(SYS_setresgid, 0, 0, 0)) {
    return error;
  }
  return call(SYS_setresuid, 0, 0, 0);
}

int session() {
  ::syscall(SYS_umask, 022);
  return call(SYS_setsid);
}

int scratch(const Plan& plan) {
  if (const int error =
          do_mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, plan.scratch_options)) {
    return error;
  }
  struct Entry {
    const char* path;
    unsigned mode;
  };
  constexpr Entry kEntries[] = {{"/tmp/upper", 0755}, {"/tmp/work", 0755}, {"/tmp/root", 0755},
                                {"/tmp/tmp", 01777},  {"/tmp/shm", 01777}, {"/tmp/lower", 0755},
                                {"/tmp/empty", 0555}};
  for (const Entry& entry : kEntries) {
    if (const int error = make_directory(entry.path, entry.mode)) {
      return error;
    }
  }
  return do_mount("tmpfs", "/tmp/empty", "tmpfs", MS_RDONLY | kPlain,
                  "size=4k,nr_inodes=2,mode=0555");
}

// The whole of an image's root is the lower layer. userxattr: an overlay mounted inside a user
// namespace may not use trusted.* attributes.
int overlay(const Plan& plan, const brood_child_values& values) {
  if (values.lower_fd >= 0) {
    if (const int error = attach(values.lower_fd, "/tmp/lower")) {
      return error;
    }
    return do_mount("overlay", plan.root, "overlay", MS_NOSUID | MS_NODEV,
                    "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr");
  }
  return do_mount("overlay", plan.root, "overlay", MS_NOSUID | MS_NODEV,
                  "lowerdir=/run/image,upperdir=/tmp/upper,workdir=/tmp/work,userxattr");
}

// The device nodes sit on a read-only tmpfs that the agent made: a user namespace may not make any.
int devices(const Plan& plan, const brood_child_values& values) {
  const Path target(plan.root, "/dev");
  if (values.dev_fd >= 0) {
    return attach(values.dev_fd, target.text());
  }
  return do_mount("/dev", target.text(), nullptr, MS_BIND, nullptr);
}

int bind(const Plan& plan, const char* source, const char* below) {
  const Path target(plan.root, below);
  return do_mount(source, target.text(), nullptr, MS_BIND, nullptr);
}

int shared_memory(const Plan& plan) {
  const Path target(plan.root, "/dev/shm");
  if (const int error = bind(plan, "/tmp/shm", "/dev/shm")) {
    return error;
  }
  return do_mount(nullptr, target.text(), nullptr, MS_REMOUNT | MS_BIND | kPlain, nullptr);
}

int proc(const Plan& plan) {
  const Path target(plan.root, "/proc");
  return do_mount("proc", target.text(), "proc", kPlain, plan.proc_options);
}

int mask(const Plan& plan, const Mask& mask, const char* null_device) {
  const Path target(plan.root, mask.path);
  if (target.error() != 0) {
    return target.error();
  }
  switch (mask.kind) {
    case MaskKind::file:
      return do_mount(null_device, target.text(), nullptr, MS_BIND, nullptr);
    case MaskKind::directory:
      return do_mount("/tmp/empty", target.text(), nullptr, MS_BIND, nullptr);
    case MaskKind::read_only:
      if (const int error = do_mount(target.text(), target.text(), nullptr, MS_BIND, nullptr)) {
        return error;
      }
      return do_mount(nullptr, target.text(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | kPlain,
                      nullptr);
  }
  return EINVAL;
}

// By a zygote's device, or by the one that has just been brought along: the host's would tell of
// the file system that it lies in.
int mask_proc(const Plan& plan, const brood_child_values& values) {
  const Path own(plan.root, "/dev/null");
  const char* null_device = values.dev_fd >= 0 ? own.text() : "/dev/null";
  if (call(SYS_faccessat, AT_FDCWD, null_device, F_OK) != 0) {
    return ENODEV;  // below, what is not there is what need not be masked
  }
  for (std::uint32_t i = 0; i < plan.mask_count; ++i) {
    const int error = mask(plan, plan.masks[i], null_device);
    if (error != 0 && error != ENOENT) {
      return error;
    }
  }
  return 0;
}

int run(const Plan& plan, const brood_child_values& values) {
  const Path target(plan.root, "/run");
  if (const int error = attach(values.run_fd, target.text())) {
    return error;
  }
  const Path support(plan.root, "/run/brood");
  if (const int error = attach(values.support_fd, support.text())) {
    return error;
  }
  const Path lower(plan.root, "/run/image");
  return attach(values.lower_fd, lower.text());
}

int code(const Plan& plan, const brood_child_values& values) {
  const Path target(plan.root, BROOD_CODE_DIR);
  if (const int error = make_directory(target.text(), 0755)) {
    return error;
  }
  return attach(values.code_fd, target.text());
}

// An image may come without the folder; one in which it is anything else has no such step.
int layers(const Plan& plan, const brood_child_values& values) {
  const Path target(plan.root, BROOD_LAYERS_DIR);
  const int error = attach(values.layers_fd, target.text());
  if (error != ENOENT) {
    return error;
  }
  if (const int made = make_directory(target.text(), 0755)) {
    return made;
  }
  return attach(values.layers_fd, target.text());
}

// The old root is stacked on the new one and then taken away, so no path to it is ever named.
int enter_root(const Plan& plan) {
  if (const int error = call(SYS_chdir, plan.root)) {
    return error;
  }
  if (const int error = call(SYS_pivot_root, ".", ".")) {
    return error;
  }
  if (const int error = call(SYS_umount2, ".", MNT_DETACH)) {
    return error;
  }
  return call(SYS_chdir, "/");
}

// In the sandbox's own overlay. The image's may be a link to somewhere: it is replaced, not
// followed.
int resolver(const Plan& plan) {
  constexpr const char* kFile = "/etc/resolv.conf";
  const int made = call(SYS_mkdirat, AT_FDCWD, "/etc", 0755);
  const int removed = call(SYS_unlinkat, AT_FDCWD, kFile, 0);
  if ((made != 0 && made != EEXIST) || (removed != 0 && removed != ENOENT)) {
    return made != 0 && made != EEXIST ? made : removed;
  }
  const long file = ::syscall(SYS_openat, AT_FDCWD, kFile,
                              O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (file < 0) {
    return errno;
  }
  std::size_t length = 0;
  while (length < sizeof plan.resolver && plan.resolver[length] != '\0') {
    ++length;
  }
  const int error = call(SYS_write, file, plan.resolver, length);
  ::syscall(SYS_close, file);
  return error;
}

int hostname(const brood_child_values& values) {
  std::size_t length = 0;
  while (values.hostname[length] != '\0') {
    ++length;
  }
  return call(SYS_sethostname, values.hostname, length);
}

int loopback() {
  const long socket = ::syscall(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) {
    return errno;
  }
  ifreq request{};
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  const int error = call(SYS_ioctl, socket, 0x8914 /* SIOCSIFFLAGS */, &request);
  ::syscall(SYS_close, socket);
  return error;
}

int rlimits(const Plan& plan) {
  for (std::uint32_t i = 0; i < plan.rlimit_count; ++i) {
    const isolate::Rlimit& wanted = plan.rlimits[i];
    rlimit64 now{};
    if (const int error = call(SYS_prlimit64, 0, wanted.resource, nullptr, &now)) {
      return error;
    }
    rlimit64 next{};
    next.rlim_max = wanted.hard < now.rlim_max ? wanted.hard : now.rlim_max;
    next.rlim_cur = wanted.soft < next.rlim_max ? wanted.soft : next.rlim_max;
    if (const int error = call(SYS_prlimit64, 0, wanted.resource, &next, nullptr)) {
      return error;
    }
  }
  return 0;
}

int bounding_set(const Plan& plan) {
  for (std::uint32_t cap = 0; cap <= plan.last_capability; ++cap) {
    if ((plan.keep_capabilities >> cap & 1) == 0) {
      if (const int error = call(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0)) {
        return error;
      }
    }
  }
  if (plan.keep_capabilities != 0) {
    return 0;
  }
  // uid 0 shall mean nothing, for good.
  constexpr unsigned long kBits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
                                  SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                                  SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
  return call(SYS_prctl, PR_SET_SECUREBITS, kBits, 0, 0, 0);
}

int final_identity(const Plan& plan) {
  if (const int error = call(SYS_setresgid, plan.gid, plan.gid, plan.gid)) {
    return error;
  }
  return call(SYS_setresuid, plan.uid, plan.uid, plan.uid);
}

int capabilities(const Plan& plan) {
  if (const int error = call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)) {
    return error;
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  for (int i = 0; i < 2; ++i) {
    const auto kept = static_cast<std::uint32_t>(plan.keep_capabilities >> (32 * i));
    data[i].effective = kept;
    data[i].permitted = kept;
  }
  return call(SYS_capset, &header, data);
}

struct RulesetAttributes {  // struct landlock_ruleset_attr of ABI 6; older kernels take its
                            // beginning
  std::uint64_t handled_fs;
  std::uint64_t handled_net;
  std::uint64_t scoped;
};
struct [[gnu::packed]] PathRule {
  std::uint64_t allowed;
  std::int32_t parent_fd;
};

int allow_below(long ruleset, const char* path, std::uint64_t access) {
  const long fd = ::syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
  if (fd < 0) {
    return errno;
  }
  const PathRule rule{access, static_cast<std::int32_t>(fd)};
  const int error = call(SYS_landlock_add_rule, ruleset, 1 /* PATH_BENEATH */, &rule, 0);
  ::syscall(SYS_close, fd);
  return error;
}

int landlock(const Plan& plan) {
  const isolate::LandlockRules& rules = plan.landlock;
  const RulesetAttributes attributes{rules.handled, 0, rules.scoped};
  const std::size_t size = rules.abi >= 6 ? sizeof attributes : sizeof attributes.handled_fs;
  const long ruleset = ::syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
  if (ruleset < 0) {
    return errno;
  }
  struct Entry {
    const char* path;
    std::uint64_t access;
  };
  const Entry entries[] = {{"/", rules.read_only},
                           {"/tmp", rules.read_write},
                           {"/dev/shm", rules.read_write},
                           {"/dev", rules.devices},
                           {"/proc", rules.devices}};
  int error = 0;
  for (const Entry& entry : entries) {
    if (error == 0) {
      error = allow_below(ruleset, entry.path, entry.access);
    }
  }
  if (error == 0) {
    error = call(SYS_landlock_restrict_self, ruleset, 0);
  }
  ::syscall(SYS_close, ruleset);
  return error;
}

int seccomp(const Plan& plan, brood_child_values& values) {
  sock_fprog program{};
  program.len = static_cast<unsigned short>(plan.seccomp_count);
  program.filter = const_cast<sock_filter*>(plan.seccomp);
  const long result = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, plan.seccomp_flags, &program);
  if (result < 0) {
    return errno;
  }
  if ((plan.seccomp_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) != 0) {
    values.seccomp_listener = static_cast<int>(result);
  }
  return 0;
}

int run_step(const Plan& plan, Step step, brood_child_values& values) {
  switch (step) {
    case Step::identity:
      return identity();
    case Step::session:
      return session();
    case Step::cgroup_namespace:
      return call(SYS_unshare, CLONE_NEWCGROUP);
    case Step::private_mounts:
      return do_mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    case Step::attach_root:
      return attach(values.root_fd, plan.root);
    case Step::scratch:
      return scratch(plan);
    case Step::overlay:
      return overlay(plan, values);
    case Step::devices:
      return devices(plan, values);
    case Step::shared_memory:
      return shared_memory(plan);
    case Step::proc:
      return proc(plan);
    case Step::mask_proc:
      return mask_proc(plan, values);
    case Step::temporary:
      return bind(plan, "/tmp/tmp", "/tmp");
    case Step::run:
      return run(plan, values);
    case Step::code:
      return code(plan, values);
    case Step::layers:
      return layers(plan, values);
    case Step::enter_root:
      return enter_root(plan);
    case Step::resolver:
      return resolver(plan);
    case Step::hostname:
      return hostname(values);
    case Step::loopback:
      return loopback();
    case Step::rlimits:
      return rlimits(plan);
    case Step::bounding_set:
      return bounding_set(plan);
    case Step::final_identity:
      return final_identity(plan);
    case Step::capabilities:
      return capabilities(plan);
    case Step::no_new_privileges:
      return call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    case Step::undumpable:
      return call(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    case Step::landlock:
      return landlock(plan);
    case Step::seccomp:
      return seccomp(plan, values);
    case Step::die_with_agent:
      return call(SYS_prctl, PR_SET_PDEATHSIG, 9 /* SIGKILL */, 0, 0, 0);
    case Step::none:
    case Step::descriptors:
    case Step::execute:
      break;
  }
  return EINVAL;
}

#ifdef BROOD_TEST_SEAM
// tests/seam: an errno in a step's upper half is what it fails with, instead of being run.
int run_or_fail_step(const Plan& plan, Step step, brood_child_values& values) {
  const auto number = static_cast<std::uint32_t>(step);
  const int wanted = static_cast<int>(number >> 16);
  return wanted != 0 ? wanted : run_step(plan, step, values);
}
#else
constexpr auto run_or_fail_step = run_step;
#endif

std::int64_t now_ns() {
  timespec now{};
  ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

const Plan* as_plan(const void* bytes, std::size_t size) {
  const auto* plan = static_cast<const Plan*>(bytes);
  if (size != sizeof(Plan) || plan->magic != isolate::kPlanMagic ||
      plan->version != isolate::kPlanVersion || plan->step_count > BROOD_MAX_STEPS ||
      plan->mask_count > isolate::kMaxMasks || plan->rlimit_count > isolate::kMaxRlimits ||
      plan->seccomp_count > isolate::kMaxFilter) {
    return nullptr;
  }
  return plan;
}

}  // namespace

extern "C" {

int brood_enter(const void* bytes, std::size_t size, brood_child_values* values,
                brood_setup_report* report) {
  report->magic = BROOD_SETUP_MAGIC;
  report->step = 0;
  report->error = 0;
  report->steps_done = 0;
  for (auto& micros : report->step_us) {
    micros = 0;
  }
  values->seccomp_listener = -1;
  const Plan* plan = as_plan(bytes, size);
  if (plan == nullptr) {
    report->error = EINVAL;
    return EINVAL;
  }
  std::int64_t before = now_ns();
  for (std::uint32_t i = 0; i < plan->step_count; ++i) {
    const Step step = plan->steps[i];
    if (const int error = run_or_fail_step(*plan, step, *values)) {
      report->step = static_cast<std::uint32_t>(step) & 0xffff;
      report->error = error;
      return error;
    }
    const std::int64_t after = now_ns();
    report->step_us[i] = static_cast<std::uint32_t>((after - before) / 1000);
    report->steps_done = i + 1;
    before = after;
  }
  return 0;
}

std::uint64_t brood_clone_flags(const void* bytes, std::size_t size) {
  const Plan* plan = as_plan(bytes, size);
  return plan == nullptr ? 0 : plan->clone_flags;
}

int brood_keep_fds(int first, const int* fds, int count) {
  // First out of the way of the targets, then into place: sources and targets may overlap.
  constexpr int kMost = 8;
  int parked[kMost];
  if (count > kMost) {
    return EINVAL;
  }
  for (int i = 0; i < count; ++i) {
    const long copy = ::syscall(SYS_fcntl, fds[i], F_DUPFD_CLOEXEC, first + count + kMost);
    if (copy < 0) {
      return errno;
    }
    parked[i] = static_cast<int>(copy);
  }
  for (int i = 0; i < count; ++i) {
    if (const int error = call(SYS_dup3, parked[i], first + i, 0)) {
      return error;
    }
  }
  return call(SYS_close_range, first + count, ~0U, 0);
}

}  // extern "C"
