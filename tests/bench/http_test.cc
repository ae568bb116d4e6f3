#include "bench/http.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <thread>

#include "base/file.h"
#include "tests/support/scratch.h"

namespace {

using tests::ScratchDirectory;

// Takes one connection, waits for a request, and sends each piece in a write of its own.
class OneAnswer {
 public:
  explicit OneAnswer(std::vector<std::string> pieces)
      : path_(scratch_.path() + "/socket"), listener_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path_.c_str());
    REQUIRE(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener_.get(), 1) == 0);
    thread_ = std::thread([this, pieces = std::move(pieces)] {
      const base::UniqueFd peer(::accept(listener_.get(), nullptr, nullptr));
      // All of it: a socket that is closed with unread bytes resets its peer.
      char request[4096];
      (void)!::read(peer.get(), request, sizeof request);
      for (const std::string& piece : pieces) {
        (void)base::write_all(peer.get(), piece);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
  }
  ~OneAnswer() { thread_.join(); }

  const std::string& path() const { return path_; }

 private:
  ScratchDirectory scratch_;
  std::string path_;
  base::UniqueFd listener_;
  std::thread thread_;
};

TEST_CASE("an answer is read whole, however it is cut") {
  const OneAnswer agent(
      {"HTTP/1.1 200 OK\r", "\nContent-Length: 5\r\nBrood-Start: cold\r\n\r", "\nhel", "lo"});
  auto connection = bench::Connection::open(agent.path());
  REQUIRE(connection);
  const auto answer = connection->ask(bench::request_of("GET", "/status"));
  REQUIRE(answer);
  CHECK(answer->status == 200);
  CHECK(answer->body == "hello");
  CHECK(answer->header("Brood-Start") == "cold");
  CHECK(answer->header("Brood").empty());
  CHECK(answer->took_ns >= 60'000'000);
}

TEST_CASE("an answer larger than the buffer is read whole") {
  const std::string body(300'000, 'x');
  const OneAnswer agent({"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n", body});
  auto connection = bench::Connection::open(agent.path());
  REQUIRE(connection);
  const auto answer = connection->ask(bench::request_of("GET", "/status"));
  REQUIRE(answer);
  CHECK(answer->body == body);
}

TEST_CASE("an agent that leaves before it has answered is an error") {
  const OneAnswer agent({"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"});
  auto connection = bench::Connection::open(agent.path());
  REQUIRE(connection);
  const auto answer = connection->ask(bench::request_of("GET", "/status"));
  REQUIRE_FALSE(answer);
  CHECK_THAT(answer.error().message(), Catch::Contains("closed the connection"));
}

TEST_CASE("more than one answer to a request is an error") {
  const OneAnswer agent({"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n"});
  auto connection = bench::Connection::open(agent.path());
  REQUIRE(connection);
  CHECK_FALSE(connection->ask(bench::request_of("GET", "/status")));
}

TEST_CASE("without an agent the error says how to start one") {
  const ScratchDirectory scratch;
  const auto connection = bench::Connection::open(scratch.path() + "/none.sock");
  REQUIRE_FALSE(connection);
  CHECK(connection.error().code() == ENOENT);
  CHECK_THAT(connection.error().message(), Catch::Contains("broodd"));
}

TEST_CASE("a request has a length only where there may be a body") {
  CHECK(bench::request_of("GET", "/a") == "GET /a HTTP/1.1\r\nHost: brood\r\n\r\n");
  CHECK(bench::request_of("POST", "/a", "xy", "A: b\r\n") ==
        "POST /a HTTP/1.1\r\nHost: brood\r\nA: b\r\nContent-Length: 2\r\n\r\nxy");
}

}  // namespace
