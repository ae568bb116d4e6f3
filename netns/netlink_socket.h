// What this folder's uses of libnl have in common. A socket belongs to the network namespace in
// which it is made, for good.
#pragma once

#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <cerrno>
#include <memory>
#include <string>

#include "base/error.h"

namespace netns {

struct FreeNetlinkSocket {
  void operator()(nl_sock* socket) const { nl_socket_free(socket); }
};
using NetlinkSocket = std::unique_ptr<nl_sock, FreeNetlinkSocket>;

inline tl::unexpected<base::Error> fail_netlink(const std::string& operation, int code) {
  return base::fail_because(operation + ": " + nl_geterror(code));
}

// In the namespace of the thread that calls.
inline base::Result<NetlinkSocket> connect_rtnetlink() {
  NetlinkSocket socket(nl_socket_alloc());
  if (!socket) {
    return base::fail(base::Error("nl_socket_alloc", ENOMEM));
  }
  if (const int code = nl_connect(socket.get(), NETLINK_ROUTE); code < 0) {
    return fail_netlink("connect to rtnetlink", code);
  }
  return socket;
}

}  // namespace netns
