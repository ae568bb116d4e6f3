#include "tests/netns/town.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <vector>

#include "base/file.h"
#include "netns/links.h"
#include "netns/namespace.h"
#include "tests/support/skip.h"

namespace tests {
namespace {

using base::Status;
using base::UniqueFd;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

Address address_of(const std::string& text, std::uint16_t port) {
  Address address;
  auto* four = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* six = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (::inet_pton(AF_INET, text.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    address.size = sizeof *four;
  } else {
    REQUIRE(::inet_pton(AF_INET6, text.c_str(), &six->sin6_addr) == 1);
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    address.size = sizeof *six;
  }
  return address;
}

UniqueFd socket_in(int netns_fd, int family, int type, int protocol = 0) {
  UniqueFd made;
  const auto status = netns::run_inside(netns_fd, [&]() -> Status {
    made.reset(::socket(family, type | SOCK_CLOEXEC, protocol));
    return made ? Status{} : Status(base::fail_errno("socket"));
  });
  INFO((status ? "" : status.error().message()));
  REQUIRE(status);
  return made;
}

bool readable(int fd, std::chrono::milliseconds patience, short events = POLLIN) {
  pollfd asked{fd, events, 0};
  return ::poll(&asked, 1, static_cast<int>(patience.count())) > 0;
}

UniqueFd listening(int netns_fd, int type, std::uint16_t port) {
  UniqueFd fd = socket_in(netns_fd, AF_INET6, type | SOCK_NONBLOCK);
  const int off = 0;
  const int on = 1;
  const int room = 8 << 20;
  ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  Address any = address_of("::", port);
  REQUIRE(::bind(fd.get(), any.get(), any.size) == 0);
  if (type == SOCK_STREAM) {
    REQUIRE(::listen(fd.get(), 64) == 0);
  }
  return fd;
}

std::uint16_t checksum(const void* bytes, std::size_t size) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < size; i += 2) {
    std::uint16_t word = 0;
    std::memcpy(&word, static_cast<const char*>(bytes) + i, std::min<std::size_t>(2, size - i));
    sum += word;
  }
  sum = (sum >> 16) + (sum & 0xffff);
  return static_cast<std::uint16_t>(~(sum + (sum >> 16)));
}

void wire(int from, const char* name, int to, const char* peer_name) {
  REQUIRE(netns::run_inside(from, [&]() -> Status {
    BROOD_TRY(netns::Links links, netns::Links::open());
    return links.add({.name = name,
                      .mac = "02:00:00:00:00:01",
                      .peer_name = peer_name,
                      .peer_mac = "02:00:00:00:00:02",
                      .peer_netns_fd = to});
  }));
}

struct Place {
  const char* interface;
  std::vector<const char*> addresses;
  std::vector<std::pair<const char*, const char*>> neighbours;  // address, mac
  std::vector<std::pair<const char*, const char*>> routes;      // to, via
};

void furnish(int netns_fd, const Place& place) {
  const auto status = netns::run_inside(netns_fd, [&]() -> Status {
    BROOD_TRY(netns::Links links, netns::Links::open());
    BROOD_TRY(const int lo, links.index_of("lo"));
    BROOD_CHECK(links.raise(lo));
    BROOD_TRY(const int index, links.index_of(place.interface));
    BROOD_CHECK(links.raise(index));
    for (const char* address : place.addresses) {
      BROOD_CHECK(links.add_address(index, netns::prefix(address)));
    }
    for (const auto& [address, mac] : place.neighbours) {
      BROOD_CHECK(links.add_neighbour(index, netns::prefix(address), mac));
    }
    for (const auto& [to, via] : place.routes) {
      BROOD_CHECK(links.add_route(index, {.to = netns::prefix(to), .via = netns::prefix(via)}));
    }
    return {};
  });
  INFO((status ? "" : status.error().message()));
  REQUIRE(status);
}

// An address with its length is no range to parse_prefix.
void add_address(int netns_fd, const char* interface, const char* address, unsigned length) {
  REQUIRE(netns::run_inside(netns_fd, [&]() -> Status {
    BROOD_TRY(netns::Links links, netns::Links::open());
    BROOD_TRY(const int index, links.index_of(interface));
    netns::Prefix prefix = netns::prefix(address);
    prefix.length = length;
    return links.add_address(index, prefix);
  }));
}

void set_in(int netns_fd, const char* path) {
  REQUIRE(netns::run_inside(netns_fd, [&]() -> Status {
    BROOD_TRY(const UniqueFd file, base::open_at(AT_FDCWD, path, O_WRONLY));
    return ::write(file.get(), "1", 1) == 1 ? Status{} : Status(base::fail_errno("write", path));
  }));
}

}  // namespace

Town::Town() {
  need_root();
  host_ = netns::make().value();
  outside_ = netns::make().value();
  set_in(host(), "/proc/sys/net/ipv4/ip_forward");
  set_in(host(), "/proc/sys/net/ipv6/conf/all/forwarding");
  wire(host(), "lan", outside(), "lan");
  furnish(host(), {.interface = "lan", .addresses = {}, .neighbours = {}, .routes = {}});
  furnish(outside(), {.interface = "lan",
                      .addresses = {kPrivate4, kPrivate6, kMetadata},
                      .neighbours = {},
                      .routes = {}});
  add_address(host(), "lan", kHost4, 24);
  add_address(host(), "lan", kHost6, 64);
  add_address(outside(), "lan", kPublic4, 24);
  add_address(outside(), "lan", kOther4, 24);
  add_address(outside(), "lan", kPublic6, 64);
  const char* theirs = "02:00:00:00:00:02";
  furnish(host(), {.interface = "lan",
                   .addresses = {},
                   .neighbours = {{kPublic4, theirs}, {kOther4, theirs}, {kPublic6, theirs}},
                   .routes = {{"0.0.0.0/0", kPublic4}, {"::/0", kPublic6}}});
  furnish(outside(), {.interface = "lan",
                      .addresses = {},
                      .neighbours = {{kHost4, "02:00:00:00:00:01"}, {kHost6, "02:00:00:00:00:01"}},
                      .routes = {{"0.0.0.0/0", kHost4}, {"::/0", kHost6}}});
}

std::unique_ptr<netns::Router> Town::router(const std::string& instance) const {
  std::unique_ptr<netns::Router> made;
  const auto status = netns::run_inside(host(), [&]() -> Status {
    BROOD_TRY(made, netns::Router::make({.instance = instance, .ipv6 = true}));
    return {};
  });
  INFO((status ? "" : status.error().message()));
  REQUIRE(status);
  return made;
}

UniqueFd Town::sandbox() {
  UniqueFd made = netns::make().value();
  furnish(made.get(), {.interface = "lo", .addresses = {}, .neighbours = {}, .routes = {}});
  return made;
}

// --- what answers --------------------------------------------------------------------------------

Echo::Echo(int netns_fd, std::uint16_t port)
    : tcp_(listening(netns_fd, SOCK_STREAM, port)),
      udp_(listening(netns_fd, SOCK_DGRAM, port)),
      wake_(::eventfd(0, EFD_CLOEXEC)),
      thread_([this] { serve(); }) {}

Echo::~Echo() {
  const std::uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
  thread_.join();
}

void Echo::serve() {
  for (;;) {
    pollfd asked[] = {{wake_.get(), POLLIN, 0}, {tcp_.get(), POLLIN, 0}, {udp_.get(), POLLIN, 0}};
    ::poll(asked, 3, -1);
    if (asked[0].revents != 0) {
      return;
    }
    if (const UniqueFd taken(::accept4(tcp_.get(), nullptr, nullptr, SOCK_CLOEXEC)); taken) {
      (void)!::send(taken.get(), "x", 1, MSG_NOSIGNAL);
    }
    char text[2048];
    Address from;
    from.size = sizeof from.storage;
    for (ssize_t got = 0;
         (got = ::recvfrom(udp_.get(), text, sizeof text, 0, from.get(), &from.size)) >= 0;) {
      ++datagrams_;
      bytes_ += static_cast<std::uint64_t>(got);
      (void)::sendto(udp_.get(), text, std::min<std::size_t>(1, static_cast<std::size_t>(got)),
                     MSG_DONTWAIT, from.get(), from.size);
      const std::lock_guard lock(mutex_);
      ++sources_[std::string(reinterpret_cast<char*>(&from.storage), from.size)];
      ++texts_[std::string(text, std::min<std::size_t>(16, static_cast<std::size_t>(got)))];
    }
  }
}

std::size_t Echo::sources() const {
  const std::lock_guard lock(mutex_);
  return sources_.size();
}

bool Echo::heard(const std::string& text) const {
  const std::lock_guard lock(mutex_);
  return texts_.contains(text);
}

// --- what asks -----------------------------------------------------------------------------------

bool tcp(int netns_fd, const std::string& address, std::uint16_t port,
         std::chrono::milliseconds patience) {
  Address to = address_of(address, port);
  const UniqueFd fd = socket_in(netns_fd, to.family(), SOCK_STREAM | SOCK_NONBLOCK);
  if (::connect(fd.get(), to.get(), to.size) != 0 && errno != EINPROGRESS) {
    return false;
  }
  char answer = 0;
  return readable(fd.get(), patience) && ::recv(fd.get(), &answer, 1, 0) == 1;
}

bool udp(int netns_fd, const std::string& address, std::uint16_t port,
         std::chrono::milliseconds patience) {
  Address to = address_of(address, port);
  const UniqueFd fd = socket_in(netns_fd, to.family(), SOCK_DGRAM);
  char answer = 0;
  return ::connect(fd.get(), to.get(), to.size) == 0 && ::send(fd.get(), "y", 1, 0) == 1 &&
         readable(fd.get(), patience) && ::recv(fd.get(), &answer, 1, 0) == 1;
}

bool ping(int netns_fd, const std::string& address, std::chrono::milliseconds patience) {
  Address to = address_of(address, 0);
  const bool four = to.family() == AF_INET;
  const UniqueFd fd = socket_in(netns_fd, to.family(), SOCK_RAW,
                                four ? static_cast<int>(IPPROTO_ICMP) : IPPROTO_ICMPV6);
  icmphdr request{};  // the same layout as ICMPv6's
  request.type = four ? static_cast<std::uint8_t>(ICMP_ECHO) : ICMP6_ECHO_REQUEST;
  request.un.echo.id = 77;
  request.checksum = four ? checksum(&request, sizeof request) : std::uint16_t{0};
  if (::sendto(fd.get(), &request, sizeof request, 0, to.get(), to.size) < 0) {
    return false;
  }
  const auto last = std::chrono::steady_clock::now() + patience;
  while (std::chrono::steady_clock::now() < last) {
    char text[256] = {};
    if (!readable(fd.get(), 50ms) || ::recv(fd.get(), text, sizeof text, 0) < 8) {
      continue;
    }
    const auto type = static_cast<std::uint8_t>(four ? text[20] : text[0]);
    if (type == (four ? static_cast<std::uint8_t>(ICMP_ECHOREPLY) : ICMP6_ECHO_REPLY)) {
      return true;
    }
  }
  return false;
}

void send_spoofed(int netns_fd, const std::string& source, const std::string& address,
                  std::uint16_t port, const std::string& text) {
  Address to = address_of(address, 0);
  const bool four = to.family() == AF_INET;
  udphdr datagram{};
  datagram.uh_sport = htons(4444);
  datagram.uh_dport = htons(port);
  datagram.uh_ulen = htons(static_cast<std::uint16_t>(sizeof datagram + text.size()));
  std::string bytes;
  if (four) {
    ip head{};
    head.ip_v = 4;
    head.ip_hl = 5;
    head.ip_ttl = 64;
    head.ip_p = IPPROTO_UDP;
    ::inet_pton(AF_INET, source.c_str(), &head.ip_src);
    ::inet_pton(AF_INET, address.c_str(), &head.ip_dst);
    bytes.append(reinterpret_cast<char*>(&head), sizeof head);
    bytes.append(reinterpret_cast<char*>(&datagram), sizeof datagram).append(text);
    const UniqueFd fd = socket_in(netns_fd, AF_INET, SOCK_RAW, IPPROTO_RAW);
    REQUIRE(::sendto(fd.get(), bytes.data(), bytes.size(), 0, to.get(), to.size) > 0);
    return;
  }
  ip6_hdr head{};
  head.ip6_vfc = 0x60;
  head.ip6_plen = datagram.uh_ulen;
  head.ip6_nxt = IPPROTO_UDP;
  head.ip6_hlim = 64;
  ::inet_pton(AF_INET6, source.c_str(), &head.ip6_src);
  ::inet_pton(AF_INET6, address.c_str(), &head.ip6_dst);
  struct {
    in6_addr from, to;
    std::uint32_t length, next;
  } pseudo{head.ip6_src, head.ip6_dst,
           htonl(static_cast<std::uint32_t>(sizeof datagram + text.size())), htonl(IPPROTO_UDP)};
  std::string summed(reinterpret_cast<char*>(&pseudo), sizeof pseudo);
  summed.append(reinterpret_cast<char*>(&datagram), sizeof datagram).append(text);
  datagram.uh_sum = checksum(summed.data(), summed.size());
  bytes.append("\x02\x62\x72\x6f\x6f\x02\x02\x62\x72\x6f\x6f\x03\x86\xdd", 14);
  bytes.append(reinterpret_cast<char*>(&head), sizeof head);
  bytes.append(reinterpret_cast<char*>(&datagram), sizeof datagram).append(text);
  send_frame(netns_fd, bytes);
}

void send_frame(int netns_fd, const std::string& bytes) {
  REQUIRE(netns::run_inside(netns_fd, [&]() -> Status {
    const UniqueFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(::if_nametoindex(netns::kInside));
    return ::sendto(fd.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&to),
                    sizeof to) > 0
               ? Status{}
               : Status(base::fail_errno("sendto"));
  }));
}

void flood(int netns_fd, const std::string& address, std::uint16_t port, std::size_t size,
           int ports, std::chrono::milliseconds time) {
  Address to = address_of(address, port);
  std::vector<UniqueFd> sockets;
  for (int i = 0; i < ports; ++i) {
    sockets.push_back(socket_in(netns_fd, to.family(), SOCK_DGRAM | SOCK_NONBLOCK));
    (void)::connect(sockets.back().get(), to.get(), to.size);
  }
  const std::string text(size, 'f');
  const auto last = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < last) {
    for (const UniqueFd& one : sockets) {
      (void)!::send(one.get(), text.data(), text.size(), 0);
    }
  }
}

}  // namespace tests
