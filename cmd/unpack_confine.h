// What brood-unpack gives up before it looks at an archive. Single-threaded program, started as
// root.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/error.h"

namespace cmd {

struct Confinement {
  int mounts_fd = -1;  // a mount namespace to go to first; -1: none
  int root_fd = -1;    // becomes "/", and the only directory there is
  uid_t uid = 0;
  gid_t gid = 0;
  std::uint64_t file_bytes = 0;  // no file may grow beyond
  std::uint32_t cpu_seconds = 0;
};

// In this order: resource limits; the given mount namespace, and then namespaces of its own (mount,
// net, ipc, uts, cgroup); chroot; no groups, the unprivileged uid and gid, no capability in any
// set; no_new_privs, not dumpable, dead when the agent dies; and a seccomp allow-list that kills.
// After success only descriptors that are open already, and files made below `root_fd`, can be
// reached. Any failure leaves the process half confined: the caller reports it and leaves.
base::Status confine(const Confinement& how);

}  // namespace cmd
