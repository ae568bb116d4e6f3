#include "tests/soak/crew.h"

#include <stdexcept>
#include <thread>

namespace soak {
namespace {

constexpr std::size_t kKeptWrongs = 10;

}  // namespace

Crew::Crew(const std::string& socket_path, std::size_t clients) {
  for (std::size_t i = 0; i < clients; ++i) {
    auto connection = bench::Connection::open(socket_path);
    if (!connection) {
      throw std::runtime_error(connection.error().message());
    }
    connections_.push_back(std::move(*connection));
  }
}

void Crew::send(const std::vector<Kind>& deck) {
  next_ = 0;
  std::vector<std::thread> threads;
  for (bench::Connection& connection : connections_) {
    threads.emplace_back([&] { work(connection, deck); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  sent_before_ += deck.size();
}

void Crew::work(bench::Connection& connection, const std::vector<Kind>& deck) {
  for (std::size_t at = next_++; at < deck.size(); at = next_++) {
    if (!ask(connection, deck[at], sent_before_ + at)) {
      return;
    }
  }
}

bool Crew::ask(bench::Connection& connection, Kind kind, std::uint64_t number) {
  const std::string tag = "tag-" + std::to_string(number) + "-";  // no tag is part of another
  const auto answer = connection.ask(request_for(kind, tag));
  if (!answer) {
    note(tag + ": " + answer.error().message());
    return false;
  }
  ++answered_;
  ++counts_[static_cast<std::size_t>(kind)];
  std::string wrong = judge(kind, tag,
                            {.ending = answer->header("Brood-Ending"),
                             .start = answer->header("Brood-Start"),
                             .body = answer->body});
  if (!wrong.empty()) {
    note(std::move(wrong));
  }
  return true;
}

void Crew::note(std::string wrong) {
  const std::lock_guard lock(mutex_);
  ++wrong_count_;
  if (wrongs_.size() < kKeptWrongs) {
    wrongs_.push_back(std::move(wrong));
  }
}

}  // namespace soak
