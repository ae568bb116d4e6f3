// From what is wanted (a Spec) to a Plan. Pure: what the kernel has comes in as values, so plans
// are tested without root.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "isolate/plan.h"

namespace isolate {

// What plans depend on; found by `probe_features`.
struct Features {
  std::uint32_t landlock_abi = 0;      // 0: none
  std::uint32_t last_capability = 40;  // CAP_CHECKPOINT_RESTORE, as of Linux 5.9
  bool seccomp_notify = true;          // since 5.0
};
// Asks the running kernel. Needs no privilege and changes nothing.
Features probe_features();

// A seccomp filter as the kernel takes it. At most kMaxFilter instructions.
using Filter = std::vector<sock_filter>;

struct SandboxSpec {
  std::uint64_t scratch_bytes = 64ULL << 20;  // everything writable: overlay upper, /tmp, /dev/shm
  std::uint32_t scratch_inodes = 16'384;
  std::uint32_t uid = 1000;  // runs the handler; inside
  std::uint32_t gid = 1000;
  bool layers = false;         // there is a place for a function's layers
  bool writable_root = false;  // Landlock lets it write wherever the modes of its overlay do
  std::uint32_t open_files = 1024;
  std::uint64_t locked_bytes = 64 << 10;
  std::string resolver{};  // an address that answers DNS; empty: /etc/resolv.conf is the image's
  Filter filter;
};

struct ZygoteSpec {
  Filter filter;
};

// Fails when the filter is empty or too long, a size is 0, or the resolver is no address.
base::Result<Plan> plan_sandbox(const SandboxSpec& spec, const Features& features);
base::Result<Plan> plan_zygote(const ZygoteSpec& spec, const Features& features);

}  // namespace isolate
