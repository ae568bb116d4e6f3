// Clients that send a deck of invocations, each over a connection of its own, and look at every
// answer.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "bench/http.h"
#include "tests/soak/mixture.h"

namespace soak {

class Crew {
 public:
  // Throws when no agent answers.
  Crew(const std::string& socket_path, std::size_t clients);

  // Sends the whole deck and returns when every invocation has its answer. A client whose
  // connection breaks sends no more, and says so in `wrongs`.
  void send(const std::vector<Kind>& deck);

  std::uint64_t answered() const { return answered_; }
  std::uint64_t answered(Kind kind) const { return counts_[static_cast<std::size_t>(kind)]; }
  std::size_t clients() const { return connections_.size(); }
  // The first few answers that were not as they should be, and how many there were.
  const std::vector<std::string>& wrongs() const { return wrongs_; }
  std::uint64_t wrong_count() const { return wrong_count_; }

 private:
  void work(bench::Connection& connection, const std::vector<Kind>& deck);
  bool ask(bench::Connection& connection, Kind kind, std::uint64_t number);
  void note(std::string wrong);

  std::vector<bench::Connection> connections_;
  std::atomic<std::size_t> next_{0};  // in the deck
  std::uint64_t sent_before_ = 0;     // by earlier decks: tags are never used twice
  std::atomic<std::uint64_t> answered_{0};
  std::array<std::atomic<std::uint64_t>, kKinds> counts_{};
  std::mutex mutex_;
  std::vector<std::string> wrongs_;
  std::uint64_t wrong_count_ = 0;
};

}  // namespace soak
