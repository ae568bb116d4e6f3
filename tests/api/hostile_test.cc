// The HTTP surface as ill-behaved clients use it. Whatever they do, the others are served.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <chrono>
#include <random>

#include "api/json.h"
#include "tests/support/live_server.h"
#include "tests/support/raw_client.h"

using Json = nlohmann::json;
using namespace std::chrono_literals;
using tests::FakeService;
using tests::LiveServer;
using tests::RawClient;
using tests::request_of;
using tests::Response;

namespace {

bool still_serves(LiveServer& server) {
  RawClient client(server.socket_path());
  return client.ask(request_of("GET", "/version")).status == 200;
}

bool is_known_code(const std::string& code) {
  const auto& codes = api::error_codes();
  return std::find(codes.begin(), codes.end(), code) != codes.end();
}

struct Malformed {
  const char* what;
  std::string bytes;
  int status;
};

const std::string kPost = "POST /functions/echo/invocations HTTP/1.1\r\nHost: b\r\n";

std::vector<Malformed> malformed_requests() {
  return {
      {"not HTTP", "hello\r\n\r\n", 400},
      {"TLS hello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 15), 400},
      {"no version", "GET /version\r\n\r\n", 400},
      {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"HTTP/1.2", "GET /version HTTP/1.2\r\nHost: b\r\n\r\n", 505},
      {"no Host", "GET /version HTTP/1.1\r\n\r\n", 400},
      {"two Hosts", "GET /version HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"space before the colon", "GET /version HTTP/1.1\r\nHost : b\r\n\r\n", 400},
      {"NUL in a header", std::string("GET /version HTTP/1.1\r\nHost: a\0b\r\n\r\n", 37), 400},
      {"bare CR in a header", "GET /version HTTP/1.1\r\nHost: b\r\nA: x\ry\r\n\r\n", 400},
      {"space in the target", "GET /ver sion HTTP/1.1\r\nHost: b\r\n\r\n", 505},
      {"length and chunked",
       kPost + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"chunked and length",
       kPost + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400},
      {"two lengths", kPost + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400},
      {"a negative length", kPost + "Content-Length: -1\r\n\r\n", 400},
      {"a length with a sign", kPost + "Content-Length: +1\r\n\r\nx", 400},
      {"a hexadecimal length", kPost + "Content-Length: 0x1\r\n\r\nx", 400},
      {"a length that overflows", kPost + "Content-Length: 18446744073709551616\r\n\r\n", 400},
      {"another encoding", kPost + "Transfer-Encoding: gzip\r\n\r\n", 501},
      {"chunked inside another", kPost + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
      {"chunked not last", kPost + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 501},
      {"chunked in disguise", kPost + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
      {"chunked twice",
       kPost + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"chunked in HTTP/1.0",
       "POST /functions/echo/invocations HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       501},
      {"a chunk size that is none",
       kPost + "Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n", 400},
      {"a chunk size that overflows",
       kPost + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx\r\n0\r\n\r\n", 400},
      {"an endless chunk extension",
       kPost + "Transfer-Encoding: chunked\r\n\r\n1;a=" + std::string(40'000, 'x'), 400},
      {"a chunk longer than its size",
       kPost + "Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n", 400},
      {"another expectation", kPost + "Expect: miracles\r\n\r\n", 417},
      {"another version of the API",
       "GET /version HTTP/1.1\r\nHost: b\r\nBrood-Api-Version: 2\r\n\r\n", 400},
      {"a head over the limit",
       "GET /version HTTP/1.1\r\nHost: b\r\nA: " + std::string(17'000, 'x') + "\r\n\r\n", 431},
      {"a request line over the limit", "GET /" + std::string(17'000, 'x') + " HTTP/1.1\r\n\r\n",
       431},
      {"many headers",
       [] {
         std::string head = "GET /version HTTP/1.1\r\nHost: b\r\n";
         for (int i = 0; i < 5000; ++i) head += "a:\r\n";
         return head + "\r\n";
       }(),
       431},
      {"a body where none is taken", request_of("GET", "/version", "x"), 400},
      {"a chunked body where none is taken",
       request_of("GET", "/version", "", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400},
      {"a document of another type",
       request_of("PUT", "/functions/x", "x", "Content-Type: text/yaml\r\n"), 415},
      {"an archive of another type",
       request_of("POST", "/code", "x", "Content-Type: image/png\r\n"), 415},
      {"a document over its limit",
       "PUT /functions/x HTTP/1.1\r\nHost: b\r\nContent-Length: 1048577\r\n\r\n", 413},
      {"a JSON bomb", request_of("PUT", "/functions/x", std::string(1 << 20, '[')), 400},
      {"CONNECT", "CONNECT /version HTTP/1.1\r\nHost: b\r\n\r\n", 405},
      {"an absolute target", "GET http://b/version HTTP/1.1\r\nHost: b\r\n\r\n", 400},
  };
}

}  // namespace

TEST_CASE("a malformed request gets an error of the one shape, and harms nobody") {
  LiveServer server;
  for (const Malformed& malformed : malformed_requests()) {
    CAPTURE(malformed.what);
    RawClient client(server.socket_path());
    const Response response = client.ask(malformed.bytes);
    CHECK(response.whole);
    CHECK(response.status == malformed.status);
    CHECK(response.header("content-type") == "application/json");
    CHECK(response.header("brood-api-version") == "1");
    const Json error = Json::parse(response.body)["error"];
    CHECK(is_known_code(error["code"].get<std::string>()));
    CHECK_FALSE(error["message"].get<std::string>().empty());
  }
  CHECK(still_serves(server));
  CHECK(server.on_loop([](FakeService& fake, api::Server&) { return fake.invocations.size(); }) ==
        0);
}

TEST_CASE("nothing after a request of unclear framing is taken for another request") {
  LiveServer server;
  for (const char* framing :
       {"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", "Transfer-Encoding: gzip\r\n\r\n"}) {
    CAPTURE(framing);
    RawClient client(server.socket_path());
    client.send(kPost + framing + request_of("DELETE", "/functions/plain"));
    CHECK(client.receive().status >= 400);
    CHECK(client.is_closed_by_peer());
  }
  CHECK(server.on_loop([](FakeService& fake, api::Server&) { return fake.list().size(); }) == 15);
}

TEST_CASE("an answer names the methods that a path has") {
  LiveServer server;
  RawClient client(server.socket_path());
  const Response response = client.ask(request_of("POST", "/functions/echo"));
  CHECK(response.status == 405);
  CHECK(response.header("allow") == "GET, PUT, DELETE");
}

TEST_CASE("a head that does not come in time is given up") {
  api::ServerOptions options;
  options.head_timeout = 100ms;
  LiveServer server(options);
  RawClient client(server.socket_path());
  client.send("GET /version HTTP/1.1\r\n");
  const auto began = std::chrono::steady_clock::now();
  // One byte at a time does not buy more time.
  Response response;
  std::thread drip([&] {
    for (int i = 0; i < 40 && client.send("a"); ++i) std::this_thread::sleep_for(10ms);
  });
  response = client.receive();
  drip.join();
  CHECK(response.status == 408);
  CHECK(std::chrono::steady_clock::now() - began < 3s);
}

TEST_CASE("a body that does not come in time is given up") {
  api::ServerOptions options;
  options.body_timeout = 100ms;
  LiveServer server(options);
  RawClient client(server.socket_path());
  CHECK(client.ask(kPost + "Content-Length: 10\r\n\r\nhalf").status == 408);
  RawClient upload(server.socket_path());
  CHECK(upload.ask("POST /code HTTP/1.1\r\nHost: b\r\nContent-Length: 10\r\n\r\nhalf").status ==
        408);
  CHECK(server.eventually([](FakeService& f, api::Server&) { return f.uploads_dropped == 1; }));
}

TEST_CASE("a connection that idles is closed, one that waits for its invocation is not") {
  api::ServerOptions options;
  options.idle_timeout = options.head_timeout = options.body_timeout = 100ms;
  LiveServer server(options);
  RawClient waiting(server.socket_path());
  waiting.send(request_of("POST", "/functions/hold/invocations", "1"));
  RawClient idle(server.socket_path());
  CHECK(idle.is_closed_by_peer());
  std::this_thread::sleep_for(200ms);
  server.on_loop([](FakeService& fake, api::Server&) { return fake.release_held(), 0; });
  CHECK(waiting.receive().status == 200);
}

TEST_CASE("a client that does not read its answer is given up") {
  api::ServerOptions options;
  options.body_timeout = 200ms;
  LiveServer server(options);
  server.on_loop([](FakeService& fake, api::Server&) { return fake.payload_limit_ = 8 << 20; });
  RawClient client(server.socket_path());
  client.send(request_of("POST", "/functions/echo/invocations", std::string(4 << 20, 'x')));
  REQUIRE(server.eventually(
      [](FakeService& fake, api::Server&) { return fake.invocations.size() == 1; }));
  CHECK(server.eventually([](FakeService&, api::Server& api) { return api.connections() == 0; }));
}

TEST_CASE("a thousand idle connections leave the server quick for the next") {
  LiveServer server;
  std::vector<std::unique_ptr<RawClient>> idle;
  for (int i = 0; i < 1000; ++i) {
    try {
      idle.push_back(std::make_unique<RawClient>(server.socket_path()));
    } catch (const std::exception&) {
      tests::RawClient* none = nullptr;
      REQUIRE(none != nullptr);  // out of descriptors: the test's host allows too few
    }
  }
  REQUIRE(
      server.eventually([](FakeService&, api::Server& api) { return api.connections() == 1000; }));
  RawClient client(server.socket_path());
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) {
    REQUIRE(client.ask(request_of("POST", "/functions/echo/invocations", "1")).status == 200);
  }
  CHECK(std::chrono::steady_clock::now() - began < 2s);
}

TEST_CASE("beyond the most connections the longest idle one makes room, a busy one never") {
  api::ServerOptions options;
  options.max_connections = 3;
  LiveServer server(options);
  RawClient first(server.socket_path());
  first.send(request_of("POST", "/functions/hold/invocations", "1"));
  REQUIRE(
      server.eventually([](FakeService& f, api::Server&) { return f.invocations.size() == 1; }));
  RawClient oldest(server.socket_path());
  oldest.ask(request_of("GET", "/version"));
  RawClient newer(server.socket_path());
  newer.ask(request_of("GET", "/version"));
  CHECK(still_serves(server));
  CHECK(oldest.is_closed_by_peer());
  newer.send(request_of("POST", "/functions/hold/invocations", "1"));
  CHECK(server.eventually([](FakeService& f, api::Server&) { return f.invocations.size() == 2; }));
}

TEST_CASE("with all connections busy a client is turned away with an answer") {
  api::ServerOptions options;
  options.max_connections = 1;
  LiveServer server(options);
  RawClient busy(server.socket_path());
  busy.send(request_of("POST", "/functions/hold/invocations", "1"));
  REQUIRE(
      server.eventually([](FakeService& f, api::Server&) { return f.invocations.size() == 1; }));
  RawClient extra(server.socket_path());
  const Response response = extra.receive();
  CHECK(response.status == 503);
  CHECK(Json::parse(response.body)["error"]["code"] == "unavailable");
  CHECK(extra.is_closed_by_peer());
  server.on_loop([](FakeService& fake, api::Server&) { return fake.release_held(), 0; });
  CHECK(busy.receive().status == 200);
}

TEST_CASE("random bytes and random mutations never stop the server") {
  LiveServer server;
  std::mt19937 random(11);
  const std::string seed = request_of("PUT", "/functions/fuzz", "{\"code\": \"sha256:aa\"}") +
                           request_of("GET", "/functions/logger/logs?tail=1");
  for (int round = 0; round < 300; ++round) {
    std::string bytes = seed;
    for (auto changes = 1 + random() % 6; changes > 0; --changes) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    bytes.resize(1 + random() % bytes.size());
    RawClient client(server.socket_path());
    client.send(bytes);
  }
  CHECK(still_serves(server));
}
