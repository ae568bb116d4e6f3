// What a small confined program of brood's gives up first. Single-threaded, started as root.
#pragma once

#include <seccomp.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/error.h"

namespace cmd {

// Lowered only: raising a hard limit takes CAP_SYS_RESOURCE, which root may lack.
base::Status lower_limit(__rlimit_resource_t resource, const char* name, rlim_t soft, rlim_t hard);

base::Status enter_root(int root_fd);

// No groups, this uid and gid, no capability in any set, and none to be had again.
base::Status become_powerless(uid_t uid, gid_t gid);

// From here on every system call ends the process but those that `fill` adds rules for; it answers
// 0, or what libseccomp did. Needs no_new_privs.
base::Status allow_only(int (*fill)(scmp_filter_ctx filter));

}  // namespace cmd
