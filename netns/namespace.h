// Network namespaces by descriptor. The thread that calls never changes its own namespace: work
// that must happen inside another one is done by a helper thread that enters it and ends.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>

#include "base/error.h"
#include "base/fd.h"

namespace netns {

// The network namespace of a process. By pid the caller must know that the process is still the one
// it means; a pidfd knows that by itself (setns(2) takes it as it is, since Linux 5.8).
base::Result<base::UniqueFd> open_of_pid(pid_t pid);
// ESRCH: the process has ended.
base::Result<base::UniqueFd> open_of_pidfd(int pidfd);
base::Result<base::UniqueFd> open_own();

// The inode number that /proc/PID/ns/net shows: equal for descriptors of one namespace.
base::Result<std::uint64_t> identity(int netns_fd);

// A new one, with nothing but a loopback that is down. It lives as long as a descriptor of it, a
// process or a socket in it does. Needs CAP_SYS_ADMIN.
base::Result<base::UniqueFd> make();

// Runs `work` on a helper thread inside the namespace of `netns_fd` (a namespace or a pidfd) and
// waits for it. Needs CAP_SYS_ADMIN over that namespace and the caller's own. What `work` returns
// is returned; it must not throw. A socket that it makes stays in that namespace for good.
base::Status run_inside(int netns_fd, const std::function<base::Status()>& work);

}  // namespace netns
