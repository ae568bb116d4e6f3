// Descriptors that go with bytes over a Unix socket (SCM_RIGHTS).
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace base {

// One sendmsg(2) with MSG_NOSIGNAL and `flags`: the descriptors, which stay the caller's, go with
// the first byte. Answers as that call does.
ssize_t send_with_descriptors(int socket, std::string_view bytes,
                              const std::vector<UniqueFd>& descriptors, int flags);

// One recvmsg(2) with `flags`, again where a signal came between. Whatever comes along is added to
// `descriptors`, close-on-exec. Answers as that call does; EPROTO where `descriptors` would hold
// more than `most`, or the kernel could not hand all of them over.
ssize_t receive_with_descriptors(int socket, void* into, std::size_t size, std::size_t most,
                                 std::vector<UniqueFd>& descriptors, int flags);

}  // namespace base
