#include "tests/soak/attack.h"

#include <vector>

#include "bench/http.h"

namespace soak {
namespace {

constexpr std::size_t kConnectionsAtOnce = 100;

std::string request_for(const Attack& attack) {
  const std::string function = attack.from == From::cold ? kColdNoise : kNoise;
  const std::string body = R"({"do":")" + std::string(attack.does) + R"(","seconds":1})";
  return bench::request_of("POST", "/functions/" + function + "/invocations", body,
                           "Content-Type: application/json\r\n");
}

}  // namespace

Attacker::Attacker(const Attack& attack, std::string socket_path)
    : attack_(attack), socket_path_(std::move(socket_path)) {
  thread_ = std::thread([this] {
    attack_.from == From::client ? flood_with_connections() : invoke_again_and_again();
  });
}

void Attacker::stop() {
  stopping_ = true;
  if (thread_.joinable()) {
    thread_.join();
  }
}

void Attacker::invoke_again_and_again() {
  const std::string request = request_for(attack_);
  auto connection = bench::Connection::open(socket_path_);
  while (!stopping_ && problem_.empty()) {
    if (!connection) {
      problem_ = connection.error().message();
      return;
    }
    const auto answer = connection->ask(request);
    if (!answer) {
      problem_ = answer.error().message();
    } else if (answer->header("Brood-Ending") != attack_.ending || answer->body == "0") {
      problem_ = std::string(answer->header("Brood-Ending")) + ": " + std::string(answer->body);
    } else {
      ++done_;
    }
  }
}

void Attacker::flood_with_connections() {
  while (!stopping_ && problem_.empty()) {
    std::vector<bench::Connection> held;
    while (!stopping_ && held.size() < kConnectionsAtOnce) {
      auto connection = bench::Connection::open(socket_path_);
      if (!connection) {
        problem_ = connection.error().message();
        return;
      }
      held.push_back(std::move(*connection));
      ++done_;
    }
  }
}

}  // namespace soak
