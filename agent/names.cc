#include "agent/names.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace agent {

using base::Result;
using base::Status;

namespace {

constexpr int kMostAtOnce = 64;

NamesOrder naming(const netns::NamePattern& pattern) {
  NamesOrder order{};
  order.kind = NamesKind::name;
  order.below = pattern.below ? 1 : 0;
  pattern.name.copy(order.name, sizeof order.name - 1);
  return order;
}

NamesOrder asking(const RelayTarget& resolver) {
  NamesOrder order{};
  order.kind = NamesKind::resolver;
  order.port = resolver.port;
  order.family = static_cast<std::uint32_t>(resolver.address.family);
  std::memcpy(order.address, resolver.address.bytes.data(), sizeof order.address);
  return order;
}

// Nothing: it is no address.
Result<std::vector<netns::Prefix>> addresses_of(const NamesReport& report) {
  if (report.count > kMostAnswered) {
    return base::fail_because("it reported too many addresses");
  }
  std::vector<netns::Prefix> addresses;
  for (std::uint32_t i = 0; i < report.count; ++i) {
    const auto& one = report.addresses[i];
    if (one.family != AF_INET && one.family != AF_INET6) {
      return base::fail_because("it reported an address of no family");
    }
    netns::Prefix address{.family = static_cast<int>(one.family), .bytes = {}, .length = 0};
    const std::size_t size = one.family == AF_INET ? 4 : 16;
    std::copy_n(one.bytes, size, address.bytes.begin());
    address.length = static_cast<unsigned>(8 * size);
    addresses.push_back(address);
  }
  return addresses;
}

}  // namespace

Status Names::start(const RelayTarget& resolver) {
  resolver_ = resolver;
  program_ = {};
  BROOD_TRY(program_, start_confined(options_));
  for (const netns::NameGroup& group : book_.groups()) {
    for (const netns::NamePattern& pattern : group.names) {
      BROOD_CHECK(send(naming(pattern)));
    }
  }
  BROOD_CHECK(send(asking(resolver_)));
  NamesOrder serve{};
  serve.kind = NamesKind::serve;
  return send(serve, socket_.get());
}

Status Names::set_resolver(const RelayTarget& resolver) {
  resolver_ = resolver;
  return program_.control ? send(asking(resolver)) : Status{};
}

Result<bool> Names::look_after() {
  if (program_.process && !program_.process.ref().ended()) {
    return false;
  }
  spdlog::warn("brood-names has ended; it is started again");
  BROOD_CHECK(start(resolver_));
  return true;
}

bool Names::hear(const Admit& admit) {
  Heard heard;
  Status sound;
  bool there = true;
  for (int i = 0; i < kMostAtOnce && sound; ++i) {
    NamesReport report{};
    const ssize_t got = ::recv(control(), &report, sizeof report, MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
      break;
    }
    if (got <= 0) {
      there = false;
      break;
    }
    sound = got == sizeof report ? take(report, heard)
                                 : Status(base::fail_because("it reported in a wrong size"));
  }
  if (!sound) {
    spdlog::error("brood-names: {}; it is ended", sound.error().message());
  }
  if (!sound || !there) {
    book_.forget(heard.admissions);
    program_ = {};
    return false;
  }
  Status done = heard.admissions.empty() ? Status{} : admit(heard.admissions);
  if (!done) {
    spdlog::error("networks: what names stand for: {}", done.error().message());
    book_.forget(heard.admissions);
  }
  for (const std::uint64_t question : heard.questions) {
    NamesOrder verdict{};
    verdict.kind = NamesKind::verdict;
    verdict.question = question;
    verdict.good = done ? 1 : 0;
    if (!send(verdict)) {
      break;  // it does not listen; its questions end by themselves
    }
  }
  return true;
}

// Held against the list once more: what it is allowed is not its own to say.
Status Names::take(const NamesReport& report, Heard& heard) {
  const std::string_view name(report.name, ::strnlen(report.name, sizeof report.name));
  if (!netns::is_name(name) || !netns::is_named(book_.groups(), name)) {
    return base::fail_because("it reported a name that its list has not");
  }
  BROOD_TRY(const std::vector<netns::Prefix> addresses, addresses_of(report));
  const auto admissions = book_.learn(name, addresses, report.seconds, NameBook::Clock::now());
  heard.admissions.insert(heard.admissions.end(), admissions.begin(), admissions.end());
  heard.questions.push_back(report.question);
  return {};
}

// Never waits for it: it may have been taken over.
Status Names::send(const NamesOrder& order, int fd) {
  return send_message(control(), &order, sizeof order, fd, WhenFull::fail);
}

}  // namespace agent
