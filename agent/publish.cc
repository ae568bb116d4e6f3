#include "agent/publish.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>

namespace agent {
namespace {

constexpr std::uint16_t kFirstPort = 1024;

bool take_port(std::string_view text, std::uint16_t& port) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc{} && end == text.data() + text.size() && port != 0;
}

base::Error no_publication(std::string_view text, const std::string& why) {
  return base::Error::because("publish: '" + std::string(text) + "' " + why);
}

socklen_t fill(sockaddr_storage& storage, const netns::Prefix& address, std::uint16_t port) {
  if (address.family == AF_INET) {
    auto* four = reinterpret_cast<sockaddr_in*>(&storage);
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    std::copy_n(address.bytes.begin(), 4, reinterpret_cast<std::uint8_t*>(&four->sin_addr));
    return sizeof *four;
  }
  auto* six = reinterpret_cast<sockaddr_in6*>(&storage);
  six->sin6_family = AF_INET6;
  six->sin6_port = htons(port);
  std::copy_n(address.bytes.begin(), 16, reinterpret_cast<std::uint8_t*>(&six->sin6_addr));
  return sizeof *six;
}

// Where nothing is said: all addresses, of IPv6 too where the host has it.
std::vector<netns::Prefix> addresses_of(const Publication& publication) {
  if (publication.address) {
    return {*publication.address};
  }
  std::vector<netns::Prefix> all{netns::prefix("0.0.0.0")};
  if (base::UniqueFd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0))) {
    all.push_back(netns::prefix("::"));
  }
  return all;
}

}  // namespace

base::Result<Publication> parse_publication(std::string_view text) {
  Publication publication;
  std::string_view rest = text;
  if (const auto slash = rest.rfind('/'); slash != std::string_view::npos) {
    const std::string_view protocol = rest.substr(slash + 1);
    if (protocol != "tcp" && protocol != "udp") {
      return base::fail(no_publication(text, "has no protocol tcp or udp"));
    }
    publication.udp = protocol == "udp";
    rest = rest.substr(0, slash);
  }
  const auto colon = rest.rfind(':');
  if (colon == std::string_view::npos || !take_port(rest.substr(colon + 1), publication.port)) {
    return base::fail(no_publication(text, "is not [ADDRESS:]HOSTPORT:PORT[/udp]"));
  }
  rest = rest.substr(0, colon);
  if (const auto before = rest.rfind(':'); before != std::string_view::npos) {
    std::string_view address = rest.substr(0, before);
    if (address.starts_with('[') && address.ends_with(']')) {
      address = address.substr(1, address.size() - 2);
    }
    auto parsed = netns::parse_prefix(address);
    if (!parsed || address.find('/') != std::string_view::npos) {
      return base::fail(no_publication(text, "begins with no address of this host"));
    }
    publication.address = *parsed;
    rest = rest.substr(before + 1);
  }
  if (!take_port(rest, publication.host_port) || publication.host_port < kFirstPort) {
    return base::fail(no_publication(text, "has no port of this host from 1024 to 65535"));
  }
  return publication;
}

// Of UDP two sockets could have one port with SO_REUSEADDR; of TCP it is for ports that have just
// been given up.
base::Result<base::UniqueFd> bound_socket(const netns::Prefix& address, std::uint16_t port,
                                          int type, Absent absent) {
  base::UniqueFd made(::socket(address.family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  const bool four = address.family == AF_INET;
  const auto set = [&](int level, int option) {
    return ::setsockopt(made.get(), level, option, &on, sizeof on) == 0;
  };
  sockaddr_storage storage{};
  const socklen_t size = fill(storage, address, port);
  const bool bound = made && (type != SOCK_STREAM || set(SOL_SOCKET, SO_REUSEADDR)) &&
                     (four || set(IPPROTO_IPV6, IPV6_V6ONLY)) &&
                     (absent == Absent::refused ||
                      (four ? set(IPPROTO_IP, IP_FREEBIND) : set(IPPROTO_IPV6, IPV6_FREEBIND))) &&
                     ::bind(made.get(), reinterpret_cast<sockaddr*>(&storage), size) == 0 &&
                     (type != SOCK_STREAM || ::listen(made.get(), 128) == 0);
  if (!bound) {
    return base::fail_errno("listen on", address_text(address) + " port " + std::to_string(port));
  }
  return made;
}

base::Result<std::shared_ptr<std::vector<Published>>> bind_published(
    const std::vector<std::string>& publish) {
  const auto bound = std::make_shared<std::vector<Published>>();
  for (const std::string& text : publish) {
    BROOD_TRY(const Publication publication, parse_publication(text));
    for (const netns::Prefix& address : addresses_of(publication)) {
      auto socket = bound_socket(address, publication.host_port,
                                 publication.udp ? SOCK_DGRAM : SOCK_STREAM, Absent::refused);
      if (!socket) {
        return base::fail(std::move(socket.error()).within("publish"));
      }
      bound->push_back({std::move(*socket), publication.port, publication.udp});
    }
  }
  return bound;
}

}  // namespace agent
