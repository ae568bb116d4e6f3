#include "isolate/spec.h"

#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/capability.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <string_view>

#include "base/syscalls.h"

namespace isolate {
namespace {

constexpr std::uint64_t kNamespaces =
    CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;

// What in /proc tells of the host or acts on it. Modelled on what OCI runtimes mask by default
// (runtime-spec, config-linux.md, "Masked Paths" and "Readonly Paths"), and what else is readable
// by everyone and not namespaced. What only the host's root can open needs no mask: its uid is not
// mapped.
constexpr std::string_view kMaskedFiles[] = {
    "/proc/kcore",         "/proc/keys",          "/proc/key-users",   "/proc/kallsyms",
    "/proc/kmsg",          "/proc/timer_list",    "/proc/sched_debug", "/proc/interrupts",
    "/proc/latency_stats", "/proc/sysrq-trigger", "/proc/modules",     "/proc/config.gz",
    "/proc/cmdline",       "/proc/locks"};
constexpr std::string_view kMaskedDirectories[] = {"/proc/acpi",   "/proc/asound", "/proc/scsi",
                                                   "/proc/bus",    "/proc/fs",     "/proc/irq",
                                                   "/proc/driver", "/proc/tty"};
constexpr std::string_view kReadOnly[] = {"/proc/sys"};

// RLIMIT_CORE: 0 keeps the kernel from writing a core file, but not from starting the helper of a
// core_pattern that begins with a pipe, as root, on what the process chooses to hold. 1 is the
// value that it takes as "no dump at all" (fs/coredump.c), and shorter than any core file.
constexpr std::uint64_t kNoCoreDump = 1;

// Access bits newer than the kernel headers that this is built with.
constexpr std::uint64_t kRefer = 1ULL << 13;             // ABI 2
constexpr std::uint64_t kTruncate = 1ULL << 14;          // ABI 3
constexpr std::uint64_t kIoctlDevice = 1ULL << 15;       // ABI 5
constexpr std::uint64_t kScopeAbstractUnix = 1ULL << 0;  // ABI 6
constexpr std::uint64_t kScopeSignal = 1ULL << 1;        // ABI 6

std::uint64_t known_access(std::uint32_t abi) {
  std::uint64_t known = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;  // all of ABI 1
  known |= abi >= 2 ? kRefer : 0;
  known |= abi >= 3 ? kTruncate : 0;
  known |= abi >= 5 ? kIoctlDevice : 0;
  return known;
}

LandlockRules landlock_rules(std::uint32_t abi, bool writable_root) {
  constexpr std::uint64_t kRead =
      LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
  constexpr std::uint64_t kDeviceNodes =
      LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK;
  const std::uint64_t known = known_access(abi);
  LandlockRules rules{};
  rules.abi = abi;
  rules.handled = known;
  rules.read_only = kRead;
  rules.read_write = known & ~kDeviceNodes;
  if (writable_root) {
    rules.read_only = rules.read_write;
  }
  rules.devices = (kRead | LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate | kIoctlDevice) & known;
  rules.scoped = abi >= 6 ? kScopeAbstractUnix | kScopeSignal : 0;
  return rules;
}

void set_steps(Plan& plan, std::initializer_list<Step> steps) {
  for (const Step step : steps) {
    plan.steps[plan.step_count++] = step;
  }
}

void add_mask(Plan& plan, std::string_view path, MaskKind kind) {
  Mask& mask = plan.masks[plan.mask_count++];
  mask.kind = kind;
  path.copy(mask.path, sizeof mask.path - 1);
}

void add_rlimit(Plan& plan, std::uint32_t resource, std::uint64_t value) {
  plan.rlimits[plan.rlimit_count++] = Rlimit{resource, 0, value, value};
}

base::Status set_filter(Plan& plan, const Filter& filter, std::uint32_t flags) {
  if (filter.empty() || filter.size() > kMaxFilter) {
    return base::fail_because("a seccomp filter of " + std::to_string(filter.size()) +
                              " instructions does not fit a plan");
  }
  plan.seccomp_flags = flags;
  plan.seccomp_count = static_cast<std::uint32_t>(filter.size());
  std::memcpy(plan.seccomp, filter.data(), filter.size() * sizeof(sock_filter));
  return {};
}

base::Status set_resolver(Plan& plan, const std::string& address) {
  const std::string line = "nameserver " + address + "\n";
  if (address.find_first_not_of("0123456789abcdef.:") != std::string::npos ||
      line.size() >= sizeof plan.resolver) {
    return base::fail_because("'" + address + "' is no address of a resolver");
  }
  std::strcpy(plan.resolver, line.c_str());
  return {};
}

Plan empty_plan(const Features& features) {
  Plan plan{};
  plan.magic = kPlanMagic;
  plan.version = kPlanVersion;
  plan.clone_flags = kNamespaces;
  plan.last_capability = features.last_capability;
  return plan;
}

}  // namespace

Features probe_features() {
  Features features;
  const int abi = base::landlock_create_ruleset(nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  features.landlock_abi = abi > 0 ? static_cast<std::uint32_t>(abi) : 0;
  features.last_capability = static_cast<std::uint32_t>(cap_max_bits()) - 1;
  std::uint32_t action = SECCOMP_RET_USER_NOTIF;
  features.seccomp_notify = base::seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
  return features;
}

base::Result<Plan> plan_sandbox(const SandboxSpec& spec, const Features& features) {
  if (spec.scratch_bytes == 0 || spec.scratch_inodes == 0) {
    return base::fail_because("a sandbox's scratch space may not be unlimited (size 0)");
  }
  Plan plan = empty_plan(features);
  std::strcpy(plan.root, "/tmp/root");
  std::snprintf(plan.scratch_options, sizeof plan.scratch_options,
                "size=%llu,nr_inodes=%u,mode=0755",
                static_cast<unsigned long long>(spec.scratch_bytes), spec.scratch_inodes);
  std::strcpy(plan.proc_options, "hidepid=2");
  plan.uid = spec.uid;
  plan.gid = spec.gid;

  set_steps(plan, {Step::identity, Step::session, Step::cgroup_namespace, Step::private_mounts,
                   Step::scratch, Step::overlay, Step::devices, Step::shared_memory, Step::proc,
                   Step::mask_proc, Step::temporary, Step::code});
  if (spec.layers) {
    set_steps(plan, {Step::layers});
  }
  set_steps(plan, {Step::enter_root});
  if (!spec.resolver.empty()) {
    BROOD_CHECK(set_resolver(plan, spec.resolver));
    set_steps(plan, {Step::resolver});
  }
  set_steps(plan,
            {Step::hostname, Step::loopback, Step::rlimits, Step::bounding_set,
             Step::final_identity, Step::capabilities, Step::no_new_privileges, Step::undumpable});
  if (features.landlock_abi > 0) {
    set_steps(plan, {Step::landlock});
    plan.landlock = landlock_rules(features.landlock_abi, spec.writable_root);
  }
  set_steps(plan, {Step::seccomp});

  for (const auto path : kMaskedFiles) {
    add_mask(plan, path, MaskKind::file);
  }
  for (const auto path : kMaskedDirectories) {
    add_mask(plan, path, MaskKind::directory);
  }
  for (const auto path : kReadOnly) {
    add_mask(plan, path, MaskKind::read_only);
  }
  add_rlimit(plan, RLIMIT_CORE, kNoCoreDump);
  add_rlimit(plan, RLIMIT_NOFILE, spec.open_files);
  add_rlimit(plan, RLIMIT_MEMLOCK, spec.locked_bytes);
  add_rlimit(plan, RLIMIT_MSGQUEUE, 64 << 10);
  add_rlimit(plan, RLIMIT_SIGPENDING, 1024);
  add_rlimit(plan, RLIMIT_RTPRIO, 0);
  add_rlimit(plan, RLIMIT_NICE, 0);
  const bool notify = features.seccomp_notify;
  BROOD_CHECK(set_filter(plan, spec.filter, notify ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0));
  return plan;
}

base::Result<Plan> plan_zygote(const ZygoteSpec& spec, const Features& features) {
  Plan plan = empty_plan(features);
  // Any directory that every host has and anyone may enter: the image is stacked on it until it is
  // the root.
  std::strcpy(plan.root, "/tmp");
  plan.keep_capabilities = 1ULL << CAP_SETUID | 1ULL << CAP_SETGID;  // to map its sandboxes' users
  // No cgroup namespace of its own: where cgroup2 is mounted with nsdelegate (systemd does), the
  // kernel lets a process put its children only into cgroups that its namespace shows, and the
  // sandboxes' are beside its own.
  set_steps(plan, {Step::identity, Step::session, Step::private_mounts, Step::attach_root,
                   Step::devices, Step::proc, Step::run, Step::enter_root, Step::hostname,
                   Step::rlimits, Step::bounding_set, Step::capabilities, Step::no_new_privileges,
                   Step::seccomp, Step::die_with_agent});
  add_rlimit(plan, RLIMIT_CORE, kNoCoreDump);
  BROOD_CHECK(set_filter(plan, spec.filter, 0));
  return plan;
}

}  // namespace isolate
