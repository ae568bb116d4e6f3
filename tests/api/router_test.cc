#include "api/router.h"

#include <catch2/catch.hpp>

#include <random>

using api::Endpoint;
using api::route;

namespace {

const std::string kDigest(64, 'a');

int status_of(std::string_view method, std::string_view target) {
  const auto found = route(method, target);
  return found ? 200 : found.error().status;
}

}  // namespace

TEST_CASE("every pattern is reached by its own method and path") {
  for (const api::RoutePattern& pattern : api::route_patterns()) {
    std::string path(pattern.path);
    if (const auto at = path.find("{name}"); at != std::string::npos) path.replace(at, 6, "word");
    if (const auto at = path.find("{digest}"); at != std::string::npos) {
      path.replace(at, 8, "sha256:" + kDigest);
    }
    if (const auto at = path.find("{sandbox}"); at != std::string::npos) {
      path.replace(at, 9, "run.base-1");
    }
    if (const auto at = path.find("{command}"); at != std::string::npos) path.replace(at, 9, "web");
    const auto found = route(pattern.method, path);
    REQUIRE(found);
    CHECK(found->endpoint == pattern.endpoint);
  }
}

TEST_CASE("a name and a digest are taken from the path, decoded once") {
  CHECK(route("GET", "/functions/w%6frd-count")->name == "word-count");
  CHECK(route("HEAD", "/code/sha256:" + kDigest)->digest == kDigest);
  CHECK(route("HEAD", "/code/sha256%3A" + kDigest)->digest == kDigest);
  CHECK(status_of("GET", "/functions/w%256frd") == 400);
}

TEST_CASE("a command is named by what a name or an id may be, and removed by force or not") {
  CHECK(route("GET", "/commands/0123456789ab/logs?tail=1&follow=true")->logs.follow);
  CHECK(route("DELETE", "/commands/web")->force == false);
  CHECK(route("DELETE", "/commands/web?force=true")->force);
  CHECK(route("DELETE", "/commands/web?force=true")->command == "web");
  for (const char* wrong : {"/commands/WEB", "/commands/a%2fb", "/commands/web?force=yes",
                            "/commands/web?tail=1", "/commands/"}) {
    CAPTURE(wrong);
    CHECK(status_of("DELETE", wrong) >= 400);
  }
}

TEST_CASE("a signal is a number or a name, and TERM where none is named") {
  CHECK(route("POST", "/sandboxes/web/signal?signal=stop")->signal == 0);
  CHECK(route("POST", "/sandboxes/run.base-1/signal")->signal == 15);
  CHECK(route("POST", "/sandboxes/run.base-1/signal?signal=9")->signal == 9);
  CHECK(route("POST", "/sandboxes/run.base-1/signal?signal=INT")->signal == 2);
  CHECK(route("POST", "/sandboxes/run.base-1/signal?signal=SIGHUP")->signal == 1);
  for (const char* wrong : {"0", "-1", "65", "NOTHING", "SIG", "", "9x"}) {
    CAPTURE(wrong);
    CHECK(status_of("POST", std::string("/sandboxes/x/signal?signal=") + wrong) == 400);
  }
}

TEST_CASE("a sandbox's id can name nothing else") {
  CHECK(route("POST", "/sandboxes/run.base-1/pause")->sandbox == "run.base-1");
  for (const char* wrong : {"", "A", "a%2e", "a%2Fb", "a b"}) {
    CAPTURE(wrong);
    CHECK(status_of("POST", std::string("/sandboxes/") + wrong + "/pause") == 400);
  }
  CHECK(status_of("POST", "/sandboxes/" + std::string(129, 'a') + "/pause") == 400);
}

TEST_CASE("only exact paths are known") {
  CHECK(status_of("GET", "/functions") == 200);
  for (const char* target :
       {"/", "/functions/x/", "/nothing", "/functions/x/invocations/y", "/Version", "/version/",
        "/functions/x/logs/", "/version/../version", "//version/x", "/code"}) {
    CAPTURE(target);
    CHECK(status_of("GET", target) != 200);
  }
  for (const char* target : {"//version", "//functions", "/functions//invocations", "/functions/",
                             "/functions/..", "/functions/.", "/functions/%2e%2e"}) {
    CAPTURE(target);
    CHECK_FALSE(route("GET", target));
  }
}

TEST_CASE("a target that is no path is refused") {
  for (const char* target : {"", "*", "version", "http://brood/version", "?tail=1"}) {
    CAPTURE(target);
    CHECK(status_of("GET", target) == 400);
  }
  CHECK(status_of("GET", "/" + std::string(5000, 'a')) == 400);
}

TEST_CASE("a path asked with another method names the methods it has") {
  const auto refused = route("POST", "/functions/x");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().status == 405);
  CHECK(refused.error().allow == "GET, PUT, DELETE");
  CHECK(route("get", "/version").error().status == 405);
  CHECK(route("GET", "/code/sha256:" + kDigest).error().allow == "HEAD");
}

TEST_CASE("names and digests of another form are refused") {
  for (const char* name : {"UPPER", "-x", "a.b", "a%2fb", "a%00b", "a%", "a%2", "a%zz", "%20"}) {
    CAPTURE(name);
    CHECK(status_of("GET", "/functions/" + std::string(name)) == 400);
  }
  CHECK(status_of("GET", "/functions/" + std::string(64, 'a')) == 400);
  CHECK(status_of("GET", "/functions/" + std::string(63, 'a')) == 200);
  for (const std::string& digest :
       {kDigest, "sha256:" + kDigest + "a", "sha256:" + std::string(63, 'a'),
        "sha256:" + std::string(64, 'A'), "sha512:" + kDigest, std::string("sha256:")}) {
    CAPTURE(digest);
    CHECK(status_of("HEAD", "/code/" + digest) == 400);
  }
}

TEST_CASE("the query of a log is read with its bounds") {
  const auto found =
      route("GET", "/functions/x/logs?tail=5&after=18446744073709551615&follow=true");
  REQUIRE(found);
  CHECK(found->logs.tail == 5);
  CHECK(found->logs.after == UINT64_MAX);
  CHECK(found->logs.follow);
  CHECK(route("GET", "/functions/x/logs")->logs.tail == 100);
  CHECK_FALSE(route("GET", "/functions/x/logs?follow=false")->logs.follow);
  for (const char* query :
       {"tail=-1", "tail=10001", "tail=", "tail=1x", "after=18446744073709551616", "follow=yes",
        "follow", "tail=1&tail=2", "tail=%3", "lines=3", "=1"}) {
    CAPTURE(query);
    CHECK(status_of("GET", "/functions/x/logs?" + std::string(query)) == 400);
  }
  CHECK(status_of("GET", "/version?tail=1") == 400);
}

TEST_CASE("the file name of an upload is a name, never a path") {
  CHECK(route("POST", "/code?file=handler.py")->file == "handler.py");
  CHECK(route("POST", "/code?file=a%20b.py")->file == "a b.py");
  for (const char* name : {"", ".", "..", "a%2fb", "%0a", "a/b"}) {
    CAPTURE(name);
    CHECK(status_of("POST", "/code?file=" + std::string(name)) == 400);
  }
  CHECK_FALSE(api::is_file_name(std::string(256, 'a')));
}

TEST_CASE("arbitrary bytes never get past the rules for names") {
  std::mt19937 random(7);
  const std::string alphabet = "/functionscodelgw%2e.?=&{}~\x80\x01 ";
  for (int i = 0; i < 20'000; ++i) {
    std::string target = i % 2 == 0 ? "/functions/" : "/";
    for (auto size = random() % 24; size > 0; --size)
      target += alphabet[random() % alphabet.size()];
    if (const auto found = route("GET", target)) {
      for (const char c : found->name) {
        const bool fine = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        REQUIRE(fine);
      }
    }
  }
}
