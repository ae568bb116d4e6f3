// The HTTP surface as well-behaved clients use it.
#include <sys/stat.h>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>

#include "base/digest.h"
#include "tests/support/live_server.h"
#include "tests/support/raw_client.h"

using Json = nlohmann::json;
using tests::FakeService;
using tests::LiveServer;
using tests::RawClient;
using tests::request_of;
using tests::Response;

namespace {

std::string invoke(std::string_view function, std::string_view body = "",
                   std::string_view headers = "") {
  return request_of("POST", "/functions/" + std::string(function) + "/invocations", body, headers);
}

std::string chunked(std::string_view target, const std::vector<std::string>& pieces) {
  std::string request = request_of("POST", target, "", "Transfer-Encoding: chunked\r\n");
  for (const std::string& piece : pieces) {
    char size[20];
    std::snprintf(size, sizeof size, "%zx\r\n", piece.size());
    request += size + piece + "\r\n";
  }
  return request + "0\r\n\r\n";
}

agent::InvocationRequest last_invocation(LiveServer& server) {
  return server.on_loop([](FakeService& fake, api::Server&) { return fake.invocations.back(); });
}

}  // namespace

TEST_CASE("an invocation's payload reaches the function and its answer the client") {
  LiveServer server;
  RawClient client(server.socket_path());
  const Response response = client.ask(invoke("echo", "{\"a\": 1}"));
  REQUIRE(response.whole);
  CHECK(response.status == 200);
  CHECK(response.body == "{\"a\": 1}");
  CHECK(response.header("content-type") == "application/json");
  CHECK(response.header("brood-api-version") == "1");
  CHECK(response.header("brood-invocation") == "0123456789abcdef");
  CHECK(response.header("brood-start") == "cold");
  CHECK(response.header("brood-trace") == "queued=1.5,answered=250.0");
  const auto request = last_invocation(server);
  CHECK(request.client_uid == ::getuid());
  CHECK(request.received_ns > 0);
}

TEST_CASE("a connection is kept for one request after the other") {
  LiveServer server;
  RawClient client(server.socket_path());
  for (int i = 0; i < 100; ++i) {
    const std::string body = std::to_string(i);
    REQUIRE(client.ask(invoke("echo", body)).body == body);
  }
  CHECK(client.ask(request_of("GET", "/nothing")).status == 404);
  CHECK(client.ask(request_of("GET", "/version")).status == 200);
  CHECK(server.on_loop([](FakeService&, api::Server& api) { return api.connections(); }) == 1);
}

TEST_CASE("pipelined requests are answered in their order") {
  LiveServer server;
  RawClient client(server.socket_path());
  std::string all;
  for (int i = 0; i < 200; ++i) all += invoke("echo", std::to_string(i));
  client.send(all);
  for (int i = 0; i < 200; ++i) REQUIRE(client.receive().body == std::to_string(i));
}

TEST_CASE("Connection: close and HTTP/1.0 close behind the answer") {
  LiveServer server;
  RawClient asked(server.socket_path());
  CHECK(
      asked.ask(request_of("GET", "/version", "", "Connection: close\r\n")).header("connection") ==
      "close");
  CHECK(asked.is_closed_by_peer());
  RawClient old(server.socket_path());
  CHECK(old.ask("GET /version HTTP/1.0\r\n\r\n").status == 200);
  CHECK(old.is_closed_by_peer());
}

TEST_CASE("the content type decides between JSON and bytes") {
  LiveServer server;
  RawClient client(server.socket_path());
  const std::vector<std::pair<std::string, agent::ContentKind>> cases{
      {"", agent::ContentKind::json},
      {"application/json", agent::ContentKind::json},
      {"Application/JSON; charset=utf-8", agent::ContentKind::json},
      {"application/cloudevents+json", agent::ContentKind::json},
      {"application/x-www-form-urlencoded", agent::ContentKind::json},
      {"text/plain", agent::ContentKind::bytes},
      {"application/octet-stream", agent::ContentKind::bytes},
      {"+json", agent::ContentKind::bytes}};
  for (const auto& [type, kind] : cases) {
    CAPTURE(type);
    REQUIRE(client.ask(invoke("plain", "[]", type.empty() ? "" : "Content-Type: " + type + "\r\n"))
                .status == 200);
    CHECK((last_invocation(server).kind == kind));
  }
}

TEST_CASE("an empty JSON body is null, empty bytes stay empty") {
  LiveServer server;
  RawClient client(server.socket_path());
  CHECK(client.ask(invoke("echo")).body == "null");
  CHECK(client.ask(invoke("echo", "", "Content-Type: text/plain\r\n")).body.empty());
}

TEST_CASE("a chunked payload is put together") {
  LiveServer server;
  RawClient client(server.socket_path());
  CHECK(client.ask(chunked("/functions/echo/invocations", {"[1", ", 2", "]"})).body == "[1, 2]");
  const std::string large(40'000, 'x');
  const bool same =
      client.ask(chunked("/functions/echo/invocations", {large, "y"})).body == large + "y";
  CHECK(same);
  CHECK(client.ask(invoke("echo", "1")).body == "1");
}

TEST_CASE("a request that comes byte by byte is one request") {
  LiveServer server;
  RawClient client(server.socket_path());
  for (const char byte : invoke("echo", "[true]")) client.send({&byte, 1});
  CHECK(client.receive().body == "[true]");
  for (const char byte : chunked("/functions/echo/invocations", {"[", "2]"})) {
    client.send({&byte, 1});
  }
  CHECK(client.receive().body == "[2]");
}

TEST_CASE("every ending has its status and its document") {
  LiveServer server;
  RawClient client(server.socket_path());
  for (std::size_t i = 1; i < agent::kEndingCount; ++i) {
    const auto ending = static_cast<agent::Ending>(i);
    const std::string name(agent::ending_name(ending));
    CAPTURE(name);
    const Response response = client.ask(invoke("end-" + name, "1"));
    CHECK(response.status == agent::http_status_of(ending));
    CHECK(response.header("brood-ending") == name);
    const Json error = Json::parse(response.body)["error"];
    CHECK(error["code"] == name);
    CHECK(error["ending"] == name);
    CHECK(error["message"] == "it ended as " + name);
  }
}

TEST_CASE("a payload over the limit is refused before it is read, and when it is passed") {
  LiveServer server;
  const std::string at_limit(64 << 10, 'x');
  RawClient exact(server.socket_path());
  CHECK(exact.ask(invoke("echo", at_limit)).body.size() == at_limit.size());
  RawClient announced(server.socket_path());
  announced.send(
      "POST /functions/echo/invocations HTTP/1.1\r\nHost: b\r\nContent-Length: 65537\r\n\r\n");
  Response response = announced.receive();
  CHECK(response.status == 413);
  CHECK(Json::parse(response.body)["error"]["code"] == "payload_too_large");
  CHECK(Json::parse(response.body)["error"]["ending"] == "payload_too_large");
  CHECK(response.header("brood-ending") == "payload_too_large");
  RawClient streamed(server.socket_path());
  response = streamed.ask(chunked("/functions/echo/invocations", {at_limit, "x"}));
  CHECK(response.status == 413);
  CHECK(streamed.is_closed_by_peer());
  const auto reached = server.on_loop([](FakeService& f, api::Server&) {
    return std::count_if(f.invocations.begin(), f.invocations.end(),
                         [](const auto& request) { return !request.body_refused; });
  });
  CHECK(reached == 1);
}

TEST_CASE("a client that sends all of a refused body still reads the answer") {
  LiveServer server;
  RawClient client(server.socket_path());
  const Response response = client.ask(invoke("echo", std::string(1 << 20, 'x')));
  CHECK(response.status == 413);
  CHECK(client.is_closed_by_peer());
}

TEST_CASE("Expect: 100-continue is invited, or refused before the body") {
  LiveServer server;
  RawClient client(server.socket_path());
  const std::string head =
      "POST /functions/echo/invocations HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\n";
  client.send(head + "Content-Length: 2\r\n\r\n");
  CHECK(client.receive(RawClient::BodyExpected::no).status == 100);
  client.send("[]");
  CHECK(client.receive().body == "[]");
  RawClient large(server.socket_path());
  large.send(head + "Content-Length: 99999999\r\n\r\n");
  CHECK(large.receive().status == 413);
}

TEST_CASE("a client that hangs up cancels its invocation") {
  LiveServer server;
  const auto wait_for = [&](std::size_t invocations, int cancelled) {
    return server.eventually([&](FakeService& fake, api::Server&) {
      return fake.invocations.size() == invocations && fake.cancelled == cancelled;
    });
  };
  RawClient client(server.socket_path());
  client.send(invoke("hold", "1"));
  REQUIRE(wait_for(1, 0));
  client.close();
  CHECK(wait_for(1, 1));
  server.on_loop([](FakeService& fake, api::Server&) { return fake.release_held(), 0; });

  RawClient patient(server.socket_path());
  patient.send(invoke("hold", "1"));
  REQUIRE(wait_for(2, 1));
  SECTION("one that only stops sending gets its answer") {
    patient.stop_sending();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    server.on_loop([](FakeService& fake, api::Server&) { return fake.release_held(), 0; });
    CHECK(patient.receive().status == 200);
    CHECK(patient.is_closed_by_peer());
    CHECK(wait_for(2, 1));
  }
  SECTION("one that stops sending and then hangs up cancels too") {
    patient.stop_sending();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    patient.close();
    CHECK(wait_for(2, 2));
  }
}

TEST_CASE("an invocation of no function is not found, and the connection goes on") {
  LiveServer server;
  RawClient client(server.socket_path());
  const Response response = client.ask(invoke("nobody", "{}"));
  CHECK(response.status == 404);
  CHECK(Json::parse(response.body)["error"]["code"] == "not_found");
  CHECK(client.ask(invoke("echo", "1")).body == "1");
}

TEST_CASE("a function that is there and not taken is told apart from one that is not there") {
  LiveServer server;
  server.on_loop([](FakeService& fake, api::Server&) { return fake.draining = true; });
  RawClient client(server.socket_path());
  const Response response = client.ask(invoke("echo", "{}"));
  CHECK(response.status == 503);
  CHECK(Json::parse(response.body)["error"]["code"] == "draining");
}

TEST_CASE("code is uploaded in pieces, known afterwards, and deployed by its digest") {
  LiveServer server;
  RawClient client(server.socket_path());
  std::string archive(700'000, '\0');
  for (std::size_t i = 0; i < archive.size(); ++i) archive[i] = static_cast<char>(i * 7);
  const std::string digest = "sha256:" + base::sha256_hex(archive);
  client.send(request_of("HEAD", "/code/" + digest));
  CHECK(client.receive(RawClient::BodyExpected::no).status == 404);

  const Response uploaded =
      client.ask(request_of("POST", "/code", archive, "Content-Type: application/x-tar\r\n"));
  CHECK(uploaded.status == 201);
  CHECK(Json::parse(uploaded.body)["digest"] == digest);
  client.send(request_of("HEAD", "/code/" + digest));
  const Response known = client.receive(RawClient::BodyExpected::no);
  CHECK(known.status == 200);
  CHECK(known.body.empty());
  CHECK(Json::parse(client.ask(chunked("/code", {archive.substr(0, 5), archive.substr(5)}))
                        .body)["digest"] == digest);

  const std::string document = "{\"code\": \"" + digest + "\", \"memory\": \"64MiB\"}";
  const Response created = client.ask(request_of("PUT", "/functions/new", document));
  CHECK(created.status == 201);
  CHECK(Json::parse(created.body)["created"] == true);
  CHECK(Json::parse(created.body)["function"]["settings"]["memory"] == 64 << 20);
  CHECK(client.ask(request_of("PUT", "/functions/new", document)).status == 200);
  CHECK(server.on_loop([](FakeService& f, api::Server&) {
    return f.deployments.back().client_uid;
  }) == ::getuid());
}

TEST_CASE("a single file's name comes by header or by query") {
  LiveServer server;
  RawClient client(server.socket_path());
  client.ask(request_of("POST", "/code", "x = 1", "Brood-File-Name: handler.py\r\n"));
  client.ask(request_of("POST", "/code?file=app.py", "x = 2"));
  CHECK(server.on_loop([](FakeService& f, api::Server&) { return f.uploaded_names; }) ==
        std::vector<std::string>{"handler.py", "app.py"});
  CHECK(client.ask(request_of("POST", "/code", "x", "Brood-File-Name: ../x\r\n")).status == 400);
}

TEST_CASE("an upload that is too large or cut off leaves nothing") {
  LiveServer server;
  RawClient large(server.socket_path());
  CHECK(large.ask(request_of("POST", "/code", std::string((1 << 20) + 1, 'x'))).status == 413);
  RawClient cut(server.socket_path());
  cut.send("POST /code HTTP/1.1\r\nHost: b\r\nContent-Length: 100\r\n\r\nhalf");
  cut.close();
  CHECK(server.eventually(
      [](FakeService& f, api::Server&) { return f.uploads_dropped == 2 && f.code.empty(); }));
}

TEST_CASE("refusals of the service keep their status, code and sentence") {
  LiveServer server;
  RawClient client(server.socket_path());
  const Response bomb = client.ask(request_of("POST", "/code", "bomb"));
  CHECK(bomb.status == 400);
  CHECK(Json::parse(bomb.body)["error"]["code"] == "invalid_archive");
  const std::string code = "{\"code\": \"sha256:" + std::string(64, 'a') + "\"";
  CHECK_THAT(client.ask(request_of("PUT", "/functions/x", code + ", \"runtime\": \"cobol\"}")).body,
             Catch::Contains("there is no runtime 'cobol'"));
  CHECK_THAT(client.ask(request_of("PUT", "/functions/x", code + ", \"memry\": 1}")).body,
             Catch::Contains("'memry'"));
  CHECK(client.ask(request_of("DELETE", "/functions/nobody")).status == 404);
  CHECK(client.ask(request_of("DELETE", "/functions/plain")).status == 200);
  CHECK(client.ask(request_of("GET", "/functions/plain")).status == 404);
}

TEST_CASE("logs come as JSON lines, from where they are asked") {
  LiveServer server;
  RawClient client(server.socket_path());
  const auto lines = [&](const std::string& query) {
    const Response response = client.ask(request_of("GET", "/functions/logger/logs" + query));
    CHECK(response.header("content-type") == "application/x-ndjson");
    return std::count(response.body.begin(), response.body.end(), '\n');
  };
  CHECK(lines("") == 3);
  CHECK(lines("?tail=2") == 2);
  CHECK(lines("?tail=0") == 0);
  CHECK(lines("?after=2") == 1);
  CHECK(client.ask(request_of("GET", "/functions/nobody/logs")).status == 404);
}

TEST_CASE("a followed log grows until the client leaves") {
  LiveServer server;
  RawClient client(server.socket_path());
  client.send(request_of("GET", "/functions/logger/logs?tail=0&follow=true"));
  const Response head = client.receive();
  CHECK(head.status == 200);
  CHECK(head.header("transfer-encoding") == "chunked");
  const auto add = [&](const std::string& text) {
    server.on_loop(
        [&](FakeService& fake, api::Server&) { return fake.add_log_line("logger", text), 0; });
  };
  add("fourth");
  const std::string piece = client.read_some();
  CHECK_THAT(piece, Catch::Contains("fourth"));
  CHECK_THAT(piece, !Catch::Contains("third"));
  add("fifth");
  CHECK_THAT(client.read_some(), Catch::Contains("fifth") && !Catch::Contains("fourth"));
  CHECK(server.on_loop([](FakeService& fake, api::Server&) { return fake.followers; }) == 1);
  client.close();
  CHECK(server.eventually(
      [](FakeService& f, api::Server& api) { return f.followers == 0 && api.connections() == 0; }));
}

TEST_CASE("lines that come while a client does not read are not lost and not doubled") {
  LiveServer server;
  RawClient client(server.socket_path());
  client.send(request_of("GET", "/functions/logger/logs?tail=0&follow=true"));
  client.receive();
  constexpr int kLines = 3000;
  server.on_loop([](FakeService& fake, api::Server&) {
    for (int i = 0; i < kLines; ++i) {
      fake.add_log_line("logger", "line" + std::to_string(i) + ";" + std::string(500, 'x'));
    }
    return 0;
  });
  std::string all;
  while (all.find("line" + std::to_string(kLines - 1) + ";") == std::string::npos) {
    const std::string piece = client.read_some();
    REQUIRE_FALSE(piece.empty());
    all += piece;
  }
  std::size_t at = 0;
  for (int i = 0; i < kLines; ++i) {
    at = all.find("line" + std::to_string(i) + ";", at);
    REQUIRE(at != std::string::npos);
  }
  CHECK(std::count(all.begin(), all.end(), '{') == kLines);
}

TEST_CASE("draining answers what runs, ends what follows, closes what idles, and is told") {
  LiveServer server;
  RawClient idle(server.socket_path());
  idle.ask(request_of("GET", "/version"));
  RawClient running(server.socket_path());
  running.send(invoke("hold", "1"));
  RawClient following(server.socket_path());
  following.send(request_of("GET", "/functions/logger/logs?follow=true"));
  following.receive();
  REQUIRE(server.eventually(
      [](FakeService& fake, api::Server&) { return fake.invocations.size() == 1; }));

  std::promise<void> drained;
  server.on_loop([&](FakeService&, api::Server& api) {
    api.drain([&] { drained.set_value(); });
    return 0;
  });
  auto done = drained.get_future();
  CHECK(idle.is_closed_by_peer());
  CHECK(following.is_closed_by_peer());
  CHECK_THROWS(RawClient(server.socket_path()));
  CHECK(done.wait_for(std::chrono::milliseconds(50)) == std::future_status::timeout);
  server.on_loop([](FakeService& fake, api::Server&) { return fake.release_held(), 0; });
  CHECK(running.receive().status == 200);
  CHECK(running.is_closed_by_peer());
  CHECK(done.wait_for(std::chrono::seconds(5)) == std::future_status::ready);
}

TEST_CASE("stopping cuts everything off, cancels what runs and removes the socket") {
  LiveServer server;
  RawClient running(server.socket_path());
  running.send(invoke("hold", "1"));
  REQUIRE(server.eventually(
      [](FakeService& fake, api::Server&) { return fake.invocations.size() == 1; }));
  server.on_loop([](FakeService&, api::Server& api) { return api.stop(), 0; });
  CHECK(running.is_closed_by_peer());
  CHECK(server.on_loop([](FakeService& fake, api::Server&) { return fake.cancelled; }) == 1);
  struct stat info {};
  CHECK(::stat(server.socket_path().c_str(), &info) != 0);
  // A late answer finds nobody and does no harm.
  server.on_loop([](FakeService& fake, api::Server&) { return fake.release_held(), 0; });
}
