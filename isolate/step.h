// The steps of making a sandbox. One name for each, used by the child's report, the error, the
// latency breakdown, the log, the tests and docs/steps.md. Child-safe: no includes but <cstdint>.
#pragma once

#include <cstdint>

namespace isolate {

enum class Step : std::uint32_t {
  none = 0,
  // Identity
  identity,          // no groups, uid and gid 0 of the new user namespace
  session,           // a session of its own, umask 022
  cgroup_namespace,  // after the child is in its cgroup: the namespace's root is where it is made
  // File systems
  private_mounts,  // nothing that is mounted here reaches another namespace
  attach_root,     // zygote: the image
  scratch,         // sandbox: the size-limited tmpfs that everything writable lives on
  overlay,         // sandbox: the image below, the scratch tmpfs above
  devices,         // /dev
  shared_memory,   // /dev/shm
  proc,            // a fresh /proc of the new pid namespace
  mask_proc,       // what in /proc tells of or acts on the host
  temporary,       // /tmp
  run,             // zygote: /run, with the runtime's programs and the image once more
  code,            // sandbox: the slave mount at which the function's code appears
  layers,          // sandbox: the same for its layers
  enter_root,      // pivot_root, and the host's tree is gone
  resolver,        // sandbox: /etc/resolv.conf, where its network has a resolver
  // Host name, network
  hostname,
  loopback,
  // Powers
  rlimits,
  bounding_set,    // no capability can come back
  final_identity,  // the ordinary user that runs the handler
  capabilities,    // permitted, effective, inheritable, ambient
  no_new_privileges,
  undumpable,  // nobody inside may read or trace this process
  landlock,
  seccomp,  // last: everything above needs what it refuses
  // The zygote's way on
  die_with_agent,
  descriptors,
  execute,
};

constexpr const char* step_name(Step step) {
  constexpr const char* kNames[] = {"none",
                                    "identity",
                                    "session",
                                    "cgroup_namespace",
                                    "private_mounts",
                                    "attach_root",
                                    "scratch",
                                    "overlay",
                                    "devices",
                                    "shared_memory",
                                    "proc",
                                    "mask_proc",
                                    "temporary",
                                    "run",
                                    "code",
                                    "layers",
                                    "enter_root",
                                    "resolver",
                                    "hostname",
                                    "loopback",
                                    "rlimits",
                                    "bounding_set",
                                    "final_identity",
                                    "capabilities",
                                    "no_new_privileges",
                                    "undumpable",
                                    "landlock",
                                    "seccomp",
                                    "die_with_agent",
                                    "descriptors",
                                    "execute"};
  const auto index = static_cast<std::uint32_t>(step);
  return index < sizeof kNames / sizeof *kNames ? kNames[index] : "unknown";
}

}  // namespace isolate
