// What a small confined program of brood's gives up first. Single-threaded, started as root.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include "base/error.h"

namespace cmd {

// Lowered only: raising a hard limit takes CAP_SYS_RESOURCE, which root may lack.
base::Status lower_limit(__rlimit_resource_t resource, const char* name, rlim_t soft, rlim_t hard);

base::Status enter_root(int root_fd);

// No groups, this uid and gid, no capability in any set, and none to be had again.
base::Status become_powerless(uid_t uid, gid_t gid);

}  // namespace cmd
