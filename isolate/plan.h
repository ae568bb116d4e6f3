// A plan: every decision about one kind of process, made beforehand by the parent, in a value
// without pointers. It goes to zygotes as bytes. Child-safe.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <type_traits>

#include "isolate/step.h"
#include "isolate/wire.h"

namespace isolate {

constexpr std::uint32_t kPlanMagic = 0x62726f6f;  // "broo"
constexpr std::uint32_t kPlanVersion = 2;
constexpr std::uint32_t kMaxMasks = 48;
constexpr std::uint32_t kMaxRlimits = 16;
constexpr std::uint32_t kMaxFilter = 2048;  // instructions; the kernel's own bound is 4096

enum class MaskKind : std::uint32_t { file, directory, read_only };

struct Mask {
  char path[40];  // below the new root, with a leading slash; skipped where it does not exist
  MaskKind kind;
};

struct Rlimit {
  std::uint32_t resource;
  std::uint32_t reserved;
  std::uint64_t soft;
  std::uint64_t hard;  // clamped in the child to what it may set: raising needs CAP_SYS_RESOURCE
};

// Access bits as linux/landlock.h has them, cut to what this kernel knows.
struct LandlockRules {
  std::uint64_t handled;
  std::uint64_t read_only;   // allowed below /
  std::uint64_t read_write;  // allowed below /tmp and /dev/shm
  std::uint64_t devices;     // allowed below /dev and /proc
  std::uint64_t scoped;      // since ABI 6
  std::uint32_t abi;         // 0: the kernel has none, and no step for it is planned
  std::uint32_t reserved;
};

struct Plan {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint32_t step_count;
  Step steps[BROOD_MAX_STEPS];

  std::uint64_t clone_flags;  // CLONE_NEW*, without the cgroup namespace
  char root[24];              // where the new root is put together, before it is entered
  char scratch_options[96];   // of the scratch tmpfs
  char proc_options[32];
  char resolver[64];  // what /etc/resolv.conf says; empty: there is no step for it
  std::uint32_t uid;  // final_identity; inside
  std::uint32_t gid;
  std::uint64_t keep_capabilities;  // a bit set; 0 in a sandbox
  std::uint32_t last_capability;    // of this kernel

  std::uint32_t mask_count;
  Mask masks[kMaxMasks];
  std::uint32_t rlimit_count;
  Rlimit rlimits[kMaxRlimits];
  LandlockRules landlock;
  std::uint32_t seccomp_flags;
  std::uint32_t seccomp_count;
  sock_filter seccomp[kMaxFilter];
};
static_assert(std::is_trivially_copyable_v<Plan>);

}  // namespace isolate
