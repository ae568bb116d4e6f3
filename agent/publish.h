// Ports of the host that lead to a port of a sandbox: what is asked, and the sockets it takes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "netns/prefix.h"

namespace agent {

struct Publication {
  std::optional<netns::Prefix> address{};  // of the host; nothing: all it has
  std::uint16_t host_port = 0;             // from 1024: the agent may bind no other
  std::uint16_t port = 0;                  // of the sandbox
  bool udp = false;
};
constexpr std::size_t kMostPublished = 16;

// [ADDRESS:]HOSTPORT:PORT[/tcp|udp], an IPv6 address in brackets. Pure.
base::Result<Publication> parse_publication(std::string_view text);

// A socket of the host's that is bound, and where what comes to it shall go.
struct Published {
  base::UniqueFd socket;
  std::uint16_t port = 0;
  bool udp = false;
};
// At once, in the calling thread's namespace; all or none. EADDRINUSE: somebody else listens there.
base::Result<std::shared_ptr<std::vector<Published>>> bind_published(
    const std::vector<std::string>& publish);

enum class Absent { refused, taken };  // an address that is not there, or not yet
// A socket of SOCK_STREAM, which listens, or SOCK_DGRAM.
base::Result<base::UniqueFd> bound_socket(const netns::Prefix& address, std::uint16_t port,
                                          int type, Absent absent);

}  // namespace agent
