#include "agent/command_streams.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

namespace agent {
namespace {

struct Ends {
  base::UniqueFd read;
  base::UniqueFd write;
};

base::Result<Ends> pipe_of(std::uint32_t host_uid) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return base::fail_errno("pipe2");
  }
  Ends result{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
  if (::fchown(ends[0], host_uid, host_uid) != 0) {
    return base::fail_errno("fchown", "a pipe");
  }
  return result;
}

}  // namespace

base::Result<CommandStreams> make_pipes(std::uint32_t host_uid) {
  CommandStreams streams;
  BROOD_TRY(Ends input, pipe_of(host_uid));
  BROOD_TRY(Ends output, pipe_of(host_uid));
  BROOD_TRY(Ends error, pipe_of(host_uid));
  streams.inside = {std::move(input.read), std::move(output.write), std::move(error.write)};
  streams.outside.push_back(std::move(input.write));
  streams.outside.push_back(std::move(output.read));
  streams.outside.push_back(std::move(error.read));
  return streams;
}

void attach_descriptors(msghdr& header, char* room, const std::array<base::UniqueFd, 3>& three) {
  const int fds[] = {three[0].get(), three[1].get(), three[2].get()};
  header.msg_control = room;
  header.msg_controllen = CMSG_SPACE(sizeof fds);
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof fds);
  std::memcpy(CMSG_DATA(rights), fds, sizeof fds);
}

base::Result<CommandStreams> make_terminal(std::uint32_t host_uid, std::uint16_t rows,
                                           std::uint16_t columns) {
  base::UniqueFd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!master) {
    return base::fail_errno("open", "/dev/ptmx");
  }
  winsize size{};
  size.ws_row = rows;
  size.ws_col = columns;
  if (::unlockpt(master.get()) != 0 || ::ioctl(master.get(), TIOCSWINSZ, &size) != 0) {
    return base::fail_errno("set up", "a terminal");
  }
  // By the master, not by a name: whatever stands at /dev/pts of whichever namespace.
  const base::UniqueFd slave(::ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  // The mode first: the agent has no CAP_FOWNER, and what it has given away it cannot change.
  if (!slave || ::fchmod(slave.get(), 0600) != 0 ||
      ::fchown(slave.get(), host_uid, host_uid) != 0) {
    return base::fail_errno("open", "a terminal");
  }
  CommandStreams streams;
  for (base::UniqueFd& stream : streams.inside) {
    stream.reset(::fcntl(slave.get(), F_DUPFD_CLOEXEC, 0));
    if (!stream) {
      return base::fail_errno("fcntl F_DUPFD_CLOEXEC");
    }
  }
  streams.outside.push_back(std::move(master));
  return streams;
}

}  // namespace agent
