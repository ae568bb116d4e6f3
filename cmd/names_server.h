// Answers questions for the names of a list, and no others: what it knows it asks of a resolver,
// and has reported before it says it. Everything is bounded: kMostQuestions under way, kMostOfOne
// of one sandbox; what is over that is dropped, as DNS knows it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cmd/dns_message.h"
#include "netns/names.h"

namespace cmd {

constexpr std::size_t kMostQuestions = 512;
constexpr std::size_t kMostOfOne = 32;
constexpr std::chrono::seconds kQuestionLasts{4};

class NamesServer {
 public:
  // Tells the agent what a name stands for; false: it could not be told.
  using Report =
      std::function<bool(std::uint64_t question, const std::string& name, const DnsAnswer& answer)>;
  NamesServer(boost::asio::io_context& loop, Report report)
      : loop_(loop), socket_(loop), timer_(loop), report_(std::move(report)) {}

  void allow(netns::NamePattern pattern) { list_.push_back(std::move(pattern)); }
  void ask_of(boost::asio::ip::udp::endpoint resolver) { resolver_ = std::move(resolver); }
  // A bound socket of UDP and IPv4; taken over.
  void serve(int socket);
  // On what was reported.
  void decide(std::uint64_t question, bool good);

 private:
  using Udp = boost::asio::ip::udp;
  struct Under {
    Under(boost::asio::io_context& loop, DnsQuestion asked, Udp::endpoint who)
        : question(std::move(asked)), client(std::move(who)), upstream(loop) {}
    DnsQuestion question;
    Udp::endpoint client;
    Udp::socket upstream;
    std::uint64_t number = 0;
    std::uint16_t id = 0;  // of the question to the resolver
    DnsAnswer answer{};
    bool reported = false;
    std::chrono::steady_clock::time_point ends{};
  };

  void receive();
  void take(std::string_view bytes);
  void ask(DnsQuestion question);
  bool send_on(Under& under);
  void hear(const std::shared_ptr<Under>& under);
  void learn(const std::shared_ptr<Under>& under, DnsAnswer answer);
  void finish(std::uint64_t number, const DnsAnswer& answer);
  void reply(const Udp::endpoint& client, const DnsQuestion& question, const DnsAnswer& answer);
  void end_old_later();

  boost::asio::io_context& loop_;
  Udp::socket socket_;
  boost::asio::steady_timer timer_;
  const Report report_;
  std::vector<netns::NamePattern> list_;
  std::optional<Udp::endpoint> resolver_;
  Udp::endpoint from_;
  std::array<char, kDnsDatagram> piece_{};
  std::array<char, 4096> back_{};
  std::map<std::uint64_t, std::shared_ptr<Under>> under_;  // in the order in which they end
  std::map<boost::asio::ip::address, std::size_t> of_one_;
  std::uint64_t last_ = 0;
};

}  // namespace cmd
