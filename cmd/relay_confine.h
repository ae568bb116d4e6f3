// What brood-relay gives up before it is told of a socket.
#pragma once

#include <sys/types.h>

#include "base/error.h"

namespace cmd {

// In this order: resource limits; namespaces of its own but for the network's, which is what it
// connects in; an empty root (borrowed); no groups, the unprivileged uid and gid, no capability;
// no_new_privs, not dumpable; and a seccomp allow-list that kills. What it can still do is to use
// sockets that it has, and to connect with new ones.
base::Status confine_relay(uid_t uid, int root_fd);

}  // namespace cmd
