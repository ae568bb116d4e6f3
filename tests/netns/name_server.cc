#include "tests/netns/name_server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "netns/namespace.h"

namespace tests {
namespace {

constexpr int kAlias = 5;
constexpr int kSix = 28;
constexpr std::size_t kHeader = 12;

std::string two(int value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value & 0xff)};
}

std::string encoded(std::string name) {
  std::string bytes;
  for (std::size_t dot = 0; !name.empty(); name.erase(0, dot == name.npos ? dot : dot + 1)) {
    dot = name.find('.');
    const std::string label = name.substr(0, dot);
    bytes += static_cast<char>(label.size()) + label;
  }
  return bytes + '\0';
}

std::string record(const std::string& owner, int type, const std::string& data) {
  const std::string seconds{0, 0, 0, 60};
  return encoded(owner) + two(type) + two(1) + seconds + two(static_cast<int>(data.size())) + data;
}

}  // namespace

NameServer::NameServer(int netns_fd, Zone zone)
    : wake_(::eventfd(0, EFD_CLOEXEC)), zone_(std::move(zone)) {
  REQUIRE(netns::run_inside(netns_fd, [&]() -> base::Status {
    socket_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_port = htons(53);
    return ::bind(socket_.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) == 0
               ? base::Status{}
               : base::Status(base::fail_errno("bind"));
  }));
  thread_ = std::thread([this] { serve(); });
}

NameServer::~NameServer() {
  const std::uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
  thread_.join();
}

int NameServer::asked(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = asked_.find(name);
  return found == asked_.end() ? 0 : found->second;
}

int NameServer::asked() const {
  const std::lock_guard lock(mutex_);
  int sum = 0;
  for (const auto& [name, times] : asked_) {
    sum += times;
  }
  return sum;
}

void NameServer::set(const std::string& name, std::vector<std::string> records) {
  const std::lock_guard lock(mutex_);
  zone_[name] = std::move(records);
}

void NameServer::serve() {
  for (;;) {
    pollfd polled[] = {{wake_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}};
    ::poll(polled, 2, -1);
    if (polled[0].revents != 0) {
      return;
    }
    char bytes[1500];
    sockaddr_in from{};
    socklen_t size = sizeof from;
    const ssize_t got = ::recvfrom(socket_.get(), bytes, sizeof bytes, 0,
                                   reinterpret_cast<sockaddr*>(&from), &size);
    if (got > static_cast<ssize_t>(kHeader)) {
      const std::string reply = answer({bytes, static_cast<std::size_t>(got)});
      (void)::sendto(socket_.get(), reply.data(), reply.size(), 0,
                     reinterpret_cast<sockaddr*>(&from), size);
    }
  }
}

std::string NameServer::answer(const std::string& question) {
  std::string name;
  std::size_t at = kHeader;
  while (question.at(at) != 0) {
    const auto length = static_cast<unsigned char>(question[at]);
    name += (name.empty() ? "" : ".") + question.substr(at + 1, length);
    at += length + 1;
  }
  const int type = question.at(at + 2);
  const std::string asked = question.substr(kHeader, at + 5 - kHeader);
  const std::lock_guard lock(mutex_);
  ++asked_[name];
  int count = 0;
  std::string records;
  const bool exists = zone_.contains(name);
  for (std::string owner = name, next; zone_.contains(owner); owner = std::exchange(next, "")) {
    for (const std::string& one : zone_[owner]) {
      const bool six = one.find(':') != std::string::npos;
      std::string data(six ? 16 : 4, '\0');
      if (one.front() == '=') {
        next = one.substr(1);
        records += record(owner, kAlias, encoded(next));
      } else if ((type == kSix) == six &&
                 ::inet_pton(six ? AF_INET6 : AF_INET, one.c_str(), data.data()) == 1) {
        records += record(owner, type, data);
      } else {
        continue;
      }
      ++count;
    }
  }
  return question.substr(0, 2) + two(0x8180 | (exists ? 0 : 3)) + two(1) + two(count) +
         std::string(4, '\0') + asked + records;
}

}  // namespace tests
