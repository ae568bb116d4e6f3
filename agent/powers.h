// What of root's powers the agent keeps. docs/security.md gives each its reason, and a test holds
// that table against the list here.
#pragma once

#include <linux/capability.h>

#include <array>
#include <cstdint>
#include <initializer_list>

#include "base/error.h"

namespace agent {

constexpr std::array<int, 10> kKeptCapabilities = {
    CAP_SYS_ADMIN,     // mounts; namespaces: of zygotes, of brood-unpack, of what a client binds
    CAP_SETUID,        // the uid maps of zygotes; brood-unpack's uid
    CAP_SETGID,        // the same for groups
    CAP_CHOWN,         // the socket's group; a cgroup's cgroup.procs; where an archive is unpacked
    CAP_DAC_OVERRIDE,  // what belongs to those uids by then
    CAP_KILL,          // brood-unpack runs as one of them
    CAP_MKNOD,         // the device nodes of sandboxes
    CAP_NET_ADMIN,     // SO_SNDBUFFORCE on a sandbox's socket
    CAP_SYS_CHROOT,    // brood-unpack, as it confines itself; who enters a mount namespace
    CAP_SETPCAP,       // the same, and what is given up here
};

constexpr std::uint64_t kept_capabilities_mask() {
  std::uint64_t mask = 0;
  for (const int capability : kKeptCapabilities) {
    mask |= std::uint64_t{1} << capability;
  }
  return mask;
}

// Gives up, for this process and all that it will start: every other capability, in the bounding
// set too; the chance to gain any by an exec (no_new_privs); and, by a seccomp filter, the system
// calls that neither the agent nor anything below it makes. A call of these answers ENOSYS; what a
// sandbox's own filter says of it still goes first. Needs root. To be called once, before there is
// a second thread: refuses where there is one. `besides`: capabilities that are kept, too.
base::Status give_up_powers(std::initializer_list<int> besides = {});

}  // namespace agent
