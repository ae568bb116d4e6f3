#include "base/descriptors.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

namespace base {

ssize_t send_with_descriptors(int socket, std::string_view bytes,
                              const std::vector<UniqueFd>& descriptors, int flags) {
  std::vector<char> room(CMSG_SPACE(descriptors.size() * sizeof(int)));
  iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    header.msg_control = room.data();
    header.msg_controllen = room.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    for (std::size_t i = 0; i < descriptors.size(); ++i) {
      const int one = descriptors[i].get();
      std::memcpy(CMSG_DATA(rights) + i * sizeof one, &one, sizeof one);
    }
  }
  return ::sendmsg(socket, &header, flags | MSG_NOSIGNAL);
}

ssize_t receive_with_descriptors(int socket, void* into, std::size_t size, std::size_t most,
                                 std::vector<UniqueFd>& descriptors, int flags) {
  std::vector<char> room(CMSG_SPACE(most * sizeof(int)));
  iovec piece{into, size};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = room.data();
  header.msg_controllen = room.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    return got;
  }
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= part->cmsg_len; at += sizeof(int)) {
      int one = -1;
      std::memcpy(&one, reinterpret_cast<const char*>(part) + at, sizeof one);
      descriptors.emplace_back(one);
    }
  }
  if ((header.msg_flags & MSG_CTRUNC) != 0 || descriptors.size() > most) {
    errno = EPROTO;
    return -1;
  }
  return got;
}

}  // namespace base
