// Trials of kernel features. Each runs in a forked child with namespaces of its own, which takes
// everything it made with it. None allocates a resource on the host that outlives the call.
#pragma once

#include <string>
#include <string_view>

namespace agent {

struct Trial {
  int error = 0;          // 0: it works; else the errno that stopped it
  std::string_view step;  // the call that failed
  bool works() const { return error == 0; }
  std::string text() const;  // "works", or "mount overlay: Operation not permitted (EPERM)"
};

// A user namespace that makes another one inside itself with mount, pid, ipc, uts and net
// namespaces: what a zygote does for each sandbox.
Trial try_nested_user_namespaces();
// A mount that is given its flags while it is nowhere, then moved into place: open_tree,
// mount_setattr, move_mount.
Trial try_detached_mount(const std::string& scratch_dir);
// A detached mount of `directory` seen through the ids of a user namespace.
Trial try_idmapped_mount(const std::string& directory);
// A writable overlay with userxattr, mounted in a user namespace on a tmpfs, from which a file and
// a directory of the lower layer can be removed.
Trial try_overlay_in_user_namespace(const std::string& scratch_dir);
// The same, and a directory made where one of the lower layer was removed: it must hide what was
// below, for which the upper layer needs user.* attributes.
Trial try_overlay_replaced_directory(const std::string& scratch_dir);
// user.* attributes on tmpfs (kernel 6.6).
Trial try_tmpfs_user_attributes(const std::string& scratch_dir);
// A mount made by the agent that appears in a sandbox which is already locked down.
Trial try_mount_propagation(const std::string& scratch_dir);
// A child born in the cgroup behind `cgroup_fd`.
Trial try_clone_into_cgroup(int cgroup_fd);
// A descriptor that receives seccomp notifications.
Trial try_seccomp_notification();

// The version of Landlock's interface; 0 where there is none.
int landlock_version();
// Whether the seccomp filter action (SECCOMP_RET_…) is known.
bool seccomp_action_known(unsigned action);

}  // namespace agent
