// docs/openapi.yaml is the contract: what it has, the server does, and nothing else.
#include <algorithm>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "api/json.h"
#include "api/router.h"
#include "tests/support/live_server.h"
#include "tests/support/raw_client.h"
#include "tests/support/schema.h"

using Json = nlohmann::json;
using tests::LiveServer;
using tests::OpenApi;
using tests::RawClient;
using tests::request_of;
using tests::Response;

namespace {

const std::set<std::string> kMethods{"get", "head", "put", "post", "delete", "patch", "options"};

OpenApi contract() {
  return OpenApi(BROOD_SOURCE_DIR "/docs/openapi.yaml");
}

std::string lower(std::string_view text) {
  std::string lowered(text);
  std::transform(lowered.begin(), lowered.end(), lowered.begin(), ::tolower);
  return lowered;
}

std::set<std::string> set_of(const YAML::Node& list) {
  const auto entries = list.as<std::vector<std::string>>();
  return {entries.begin(), entries.end()};
}

struct Exchange {
  const char* method;
  const char* path;    // as the contract has it
  std::string target;  // as it is asked
  std::string body;
  int status;
};

const std::string kCode = "sha256:" + std::string(64, 'a');

std::vector<Exchange> exchanges() {
  std::vector<Exchange> all{
      {"GET", "/version", "/version", "", 200},
      {"GET", "/status", "/status", "", 200},
      {"GET", "/metrics", "/metrics", "", 200},
      {"GET", "/sandboxes", "/sandboxes", "", 200},
      {"GET", "/runtimes", "/runtimes", "", 200},
      {"POST", "/commands", "/commands", R"({"arguments": ["echo", "x"]})", 200},
      {"POST", "/commands", "/commands", R"({"arguments": ["never"]})", 200},
      {"POST", "/commands", "/commands", R"({"arguments": [""]})", 400},
      {"POST", "/commands", "/commands", R"({"arguments": ["x"], "image": "missing"})", 404},
      {"POST", "/commands", "/commands", R"({"arguments": ["x"], "detached": true})", 201},
      {"POST", "/commands", "/commands", R"({"arguments": ["never"], "detached": true})", 500},
      {"POST", "/commands", "/commands", R"({"arguments": ["x"], "name": "-"})", 400},
      {"GET", "/commands", "/commands", "", 200},
      {"GET", "/commands/{command}", "/commands/0123456789ab", "", 200},
      {"GET", "/commands/{command}", "/commands/nobody", "", 404},
      {"GET", "/commands/{command}", "/commands/NAME", "", 400},
      {"DELETE", "/commands/{command}", "/commands/web?force=true", "", 200},
      {"DELETE", "/commands/{command}", "/commands/web?force=x", "", 400},
      {"DELETE", "/commands/{command}", "/commands/nobody", "", 404},
      {"GET", "/commands/{command}/wait", "/commands/web/wait", "", 200},
      {"GET", "/commands/{command}/wait", "/commands/nobody/wait", "", 404},
      {"GET", "/commands/{command}/logs", "/commands/web/logs?follow=true", "", 200},
      {"GET", "/commands/{command}/logs", "/commands/nobody/logs", "", 404},
      {"GET", "/commands/{command}/logs", "/commands/web/logs?tail=x", "", 400},
      {"POST", "/commands/{command}/attach", "/commands/web/attach", "", 409},
      {"POST", "/commands/{command}/attach", "/commands/nobody/attach", "", 404},
      {"POST", "/commands/{command}/detach", "/commands/web/detach", "", 409},
      {"POST", "/sandboxes/{sandbox}/signal", "/sandboxes/run.base-1/signal?signal=9", "", 200},
      {"POST", "/sandboxes/{sandbox}/signal", "/sandboxes/run.base-1/signal?signal=stop", "", 200},
      {"POST", "/sandboxes/{sandbox}/signal", "/sandboxes/run.base-2/signal", "", 404},
      {"POST", "/sandboxes/{sandbox}/signal", "/sandboxes/run.base-1/signal?signal=x", "", 400},
      {"POST", "/sandboxes/{sandbox}/commands", "/sandboxes/run.base-1/commands",
       R"({"arguments": ["echo", "x"]})", 200},
      {"POST", "/sandboxes/{sandbox}/commands", "/sandboxes/run.base-2/commands",
       R"({"arguments": ["echo", "x"]})", 404},
      {"POST", "/sandboxes/{sandbox}/commands", "/sandboxes/run.base-1/commands",
       R"({"arguments": ["echo"], "memory": "1GiB"})", 400},
      {"POST", "/sandboxes/{sandbox}/pause", "/sandboxes/run.base-1/pause", "", 200},
      {"POST", "/sandboxes/{sandbox}/resume", "/sandboxes/run.base-1/resume", "", 200},
      {"PUT", "/layers/{name}", "/layers/fonts", "{\"code\": \"" + kCode + "\"}", 200},
      {"PUT", "/layers/{name}", "/layers/fonts", "{}", 400},
      {"PUT", "/layers/{name}", "/layers/FONTS", "{\"code\": \"" + kCode + "\"}", 400},
      {"GET", "/layers", "/layers", "", 200},
      {"DELETE", "/layers/{name}", "/layers/fonts", "", 200},
      {"DELETE", "/layers/{name}", "/layers/fonts", "", 404},
      {"DELETE", "/layers/{name}", "/layers/used", "", 409},
      {"POST", "/code", "/code", "bytes", 201},
      {"POST", "/code", "/code?file=..", "bytes", 400},
      {"POST", "/code", "/code", "bomb", 400},
      {"HEAD", "/code/{digest}", "/code/" + kCode, "", 404},
      {"HEAD", "/code/{digest}", "/code/nonsense", "", 400},
      {"GET", "/functions", "/functions", "", 200},
      {"GET", "/functions/{name}", "/functions/echo", "", 200},
      {"GET", "/functions/{name}", "/functions/nobody", "", 404},
      {"GET", "/functions/{name}", "/functions/NAME", "", 400},
      {"PUT", "/functions/{name}", "/functions/new", "{\"code\": \"" + kCode + "\"}", 201},
      {"PUT", "/functions/{name}", "/functions/new", "{\"code\": \"" + kCode + "\"}", 200},
      {"PUT", "/functions/{name}", "/functions/new", "{}", 400},
      {"DELETE", "/functions/{name}", "/functions/new", "", 200},
      {"DELETE", "/functions/{name}", "/functions/new", "", 404},
      {"POST", "/functions/{name}/invocations", "/functions/echo/invocations", "{}", 200},
      {"POST", "/functions/{name}/invocations", "/functions/nobody/invocations", "{}", 404},
      {"POST", "/functions/{name}/invocations", "/functions/echo/invocations",
       std::string(100 << 10, 'x'), 413},
      {"GET", "/functions/{name}/logs", "/functions/logger/logs", "", 200},
      {"GET", "/functions/{name}/logs", "/functions/nobody/logs", "", 404},
      {"GET", "/functions/{name}/logs", "/functions/logger/logs?tail=x", "", 400},
  };
  for (std::size_t i = 1; i < agent::kEndingCount; ++i) {
    const auto ending = static_cast<agent::Ending>(i);
    all.push_back({"POST", "/functions/{name}/invocations",
                   "/functions/end-" + std::string(agent::ending_name(ending)) + "/invocations",
                   "1", agent::http_status_of(ending)});
  }
  return all;
}

// Each document of a body: a line is one in x-ndjson.
std::vector<Json> documents_of(const Response& response) {
  if (response.header("content-type") != "application/x-ndjson") {
    return {Json::parse(response.body)};
  }
  std::vector<Json> documents;
  std::istringstream lines(response.body);
  for (std::string line; std::getline(lines, line);) {
    documents.push_back(Json::parse(line));
  }
  return documents;
}

void check_body(const OpenApi& api, const YAML::Node& promised, const Response& response) {
  const std::string header = response.header("content-type");
  const std::string type = header.substr(0, header.find(';'));
  const YAML::Node content = promised["content"][type];
  REQUIRE(content.IsDefined());
  if (type.find("json") == std::string::npos) {
    return;
  }
  for (const Json& document : documents_of(response)) {
    CAPTURE(document.dump());
    CHECK(api.problems(document, content["schema"]) == std::vector<std::string>{});
  }
}

}  // namespace

TEST_CASE("the contract and the router have the same paths and methods") {
  const OpenApi api = contract();
  std::set<std::string> documented;
  for (const auto& path : api.root()["paths"]) {
    for (const auto& entry : path.second) {
      if (kMethods.count(entry.first.as<std::string>()) != 0) {
        documented.insert(entry.first.as<std::string>() + " " + path.first.as<std::string>());
      }
    }
  }
  std::set<std::string> routed;
  for (const api::RoutePattern& pattern : api::route_patterns()) {
    routed.insert(lower(pattern.method) + " " + std::string(pattern.path));
  }
  CHECK(documented == routed);
}

TEST_CASE("the contract has every ending and every error's code, and no other") {
  const OpenApi api = contract();
  std::set<std::string> endings;
  for (std::size_t i = 0; i < agent::kEndingCount; ++i) {
    endings.emplace(agent::ending_name(static_cast<agent::Ending>(i)));
  }
  CHECK(set_of(api.schema("Ending")["enum"]) == endings);
  const auto& codes = api::error_codes();
  CHECK(set_of(api.schema("ErrorCode")["enum"]) ==
        std::set<std::string>(codes.begin(), codes.end()));
}

TEST_CASE("each operation answers what the contract says, in its status and its schema") {
  const OpenApi api = contract();
  LiveServer server;
  std::set<std::string> operations;
  for (const Exchange& exchange : exchanges()) {
    CAPTURE(exchange.method, exchange.target);
    RawClient client(server.socket_path());
    client.send(request_of(exchange.method, exchange.target, exchange.body));
    const bool head = std::string(exchange.method) == "HEAD";
    const Response response =
        client.receive(head ? RawClient::BodyExpected::no : RawClient::BodyExpected::yes);
    CHECK(response.status == exchange.status);
    const YAML::Node promised =
        api.response(exchange.path, lower(exchange.method), response.status);
    REQUIRE(promised.IsDefined());
    for (const auto& header : promised["headers"]) {
      // What needs a sandbox is left out where there was none.
      const bool had_sandbox = response.headers.count("brood-ending") != 0;
      CHECK((!had_sandbox || response.headers.count(lower(header.first.as<std::string>())) == 1));
    }
    if (!head) {
      check_body(api, promised, response);
    }
    operations.insert(std::string(exchange.method) + exchange.path);
  }
  CHECK(operations.size() == api::route_patterns().size());
}

TEST_CASE("a deployment's schema has the fields that the parser takes") {
  const OpenApi api = contract();
  const Json whole = Json::parse(api::function_json({}))["settings"];
  std::set<std::string> settings{"code"};
  for (const auto& [key, value] : whole.items()) {
    settings.insert(key);
  }
  std::set<std::string> documented;
  for (const auto& property : api.schema("Deployment")["properties"]) {
    documented.insert(property.first.as<std::string>());
  }
  CHECK(documented == settings);
}

TEST_CASE("a command's schema has the fields that the parser takes, with its defaults and bounds") {
  const YAML::Node properties = contract().schema("Command")["properties"];
  const agent::CommandRequest defaults;
  CHECK(properties["image"]["default"].as<std::string>() == defaults.image);
  CHECK(properties["pids"]["default"].as<unsigned>() == defaults.pids);
  CHECK(properties["rows"]["default"].as<unsigned>() == defaults.rows);
  CHECK(properties["columns"]["default"].as<unsigned>() == defaults.columns);
  const auto runs = [](const std::string& key, const Json& value) {
    Json document{{"arguments", {"x"}}};
    document[key] = value;
    return api::parse_command(document.dump());
  };
  for (const auto& property : properties) {
    const auto key = property.first.as<std::string>();
    const auto parsed = runs(key, Json::object({{"no", {1, 2}}}));
    CAPTURE(key);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().message().find("there is no field") == std::string::npos);
  }
  CHECK_FALSE(runs("privileged", true));
  const auto least = properties["pids"]["minimum"].as<std::int64_t>();
  const auto most = properties["pids"]["maximum"].as<std::int64_t>();
  CHECK(runs("pids", least));
  CHECK_FALSE(runs("pids", least - 1));
  CHECK(runs("pids", most));
  CHECK_FALSE(runs("pids", most + 1));
}

TEST_CASE("the schemas' defaults and bounds are those of a function's settings") {
  const YAML::Node properties = contract().schema("Deployment")["properties"];
  const agent::FunctionSettings defaults;
  CHECK(properties["handler"]["default"].as<std::string>() == defaults.handler);
  CHECK(properties["runtime"]["default"].as<std::string>() == defaults.runtime);
  CHECK(properties["concurrency"]["default"].as<unsigned>() == defaults.concurrency);
  CHECK(properties["queue"]["default"].as<unsigned>() == defaults.queue);
  CHECK(properties["pids"]["default"].as<unsigned>() == defaults.pids);
  for (const char* key : {"pids", "concurrency", "queue"}) {
    CAPTURE(key);
    const auto deploys = [&](std::int64_t value) {
      return api::parse_deploy("f", Json({{"code", kCode}, {key, value}}).dump()).has_value();
    };
    const auto least = properties[key]["minimum"].as<std::int64_t>();
    const auto most = properties[key]["maximum"].as<std::int64_t>();
    CHECK(deploys(least));
    CHECK_FALSE(deploys(least - 1));
    CHECK(deploys(most));
    CHECK_FALSE(deploys(most + 1));
  }
}

TEST_CASE("the validator finds what is wrong") {
  const OpenApi api = contract();
  const auto breaks = [&](const char* schema, const Json& value) {
    return !api.problems(value, api.schema(schema)).empty();
  };
  CHECK_FALSE(breaks("Version", {{"version", "1"}, {"api", 1}}));
  CHECK(breaks("Version", {{"version", "1"}}));
  CHECK(breaks("Version", {{"version", 1}, {"api", 1}}));
  CHECK(breaks("Version", {{"version", "1"}, {"api", 2}}));
  CHECK(breaks("Version", {{"version", "1"}, {"api", 1}, {"more", 1}}));
  CHECK(breaks("RuntimeList", {{"runtimes", {{{"name", "x"}}}}}));
  CHECK(breaks("Digest", "sha256:00"));
  CHECK(breaks("Environment", {{"A", 1}}));
  CHECK(breaks("Error", {{"error", {{"code", "nonsense"}, {"message", "m"}}}}));
}
