// A host, what lies outside it, and sandboxes, as network namespaces made for a test: nothing of it
// touches the machine's own network. Outside answers on every address that it has, by TCP, UDP and
// ICMP; the host hands packets on, and answers on every address of its own.
#pragma once

#include <netinet/in.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/fd.h"
#include "netns/router.h"

namespace tests {

// Answers TCP and UDP of both families on a port, in a namespace, from a thread of its own: says
// back what it is told, and keeps count of what it is told by UDP.
class Echo {
 public:
  Echo(int netns_fd, std::uint16_t port);
  ~Echo();
  std::uint64_t datagrams() const { return datagrams_; }
  std::uint64_t bytes() const { return bytes_; }
  std::size_t sources() const;  // addresses with ports that datagrams came from
  bool heard(const std::string& text) const;

 private:
  void serve();
  base::UniqueFd tcp_, udp_, wake_;
  std::atomic<std::uint64_t> datagrams_{0}, bytes_{0};
  mutable std::mutex mutex_;
  std::map<std::string, int> sources_, texts_;
  std::thread thread_;
};

class Town {
 public:
  // Skips the test without root.
  Town();

  std::unique_ptr<netns::Router> router(const std::string& instance = "0123456789ab") const;
  static base::UniqueFd sandbox();  // a namespace with a loopback that is up

  int host() const { return host_.get(); }
  int outside() const { return outside_.get(); }

  static constexpr const char* kPublic4 = "203.0.113.7";
  static constexpr const char* kOther4 = "203.0.113.8";
  static constexpr const char* kPublic6 = "2001:db8:1::7";
  static constexpr const char* kPrivate4 = "192.168.77.7";
  static constexpr const char* kPrivate6 = "fd12:3456::7";
  static constexpr const char* kMetadata = "169.254.169.254";
  static constexpr const char* kHost4 = "203.0.113.1";
  static constexpr const char* kHost6 = "2001:db8:1::1";

 private:
  base::UniqueFd host_, outside_;
};

using namespace std::chrono_literals;
constexpr auto kPatience = 1500ms;  // for what is to come
constexpr auto kSilence = 300ms;    // for what is not

// From inside a namespace, as root of it. True: it was answered.
bool tcp(int netns_fd, const std::string& address, std::uint16_t port,
         std::chrono::milliseconds patience = kPatience);
bool udp(int netns_fd, const std::string& address, std::uint16_t port,
         std::chrono::milliseconds patience = kPatience);
bool ping(int netns_fd, const std::string& address, std::chrono::milliseconds patience = kPatience);

// A datagram under somebody else's address, by a raw socket.
void send_spoofed(int netns_fd, const std::string& source, const std::string& address,
                  std::uint16_t port, const std::string& text);
// As many datagrams as go in this time, each of `size` bytes; from as many ports as `ports`.
void flood(int netns_fd, const std::string& address, std::uint16_t port, std::size_t size,
           int ports, std::chrono::milliseconds time);
// A frame as it is, out of eth0.
void send_frame(int netns_fd, const std::string& bytes);

}  // namespace tests
