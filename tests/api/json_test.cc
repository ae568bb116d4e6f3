#include "api/json.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <set>

using api::parse_deploy;
using Json = nlohmann::json;

namespace {

const std::string kCode = "sha256:" + std::string(64, 'c');

base::Result<agent::DeployRequest> deploy_with(const std::string& fields) {
  return parse_deploy("f",
                      "{\"code\": \"" + kCode + "\"" + (fields.empty() ? "" : ", ") + fields + "}");
}

std::string refusal_of(const std::string& fields) {
  const auto parsed = deploy_with(fields);
  return parsed ? "(accepted)" : parsed.error().message();
}

}  // namespace

TEST_CASE("a deployment needs only its code, and the rest has defaults") {
  const auto request = deploy_with("");
  REQUIRE(request);
  CHECK(request->name == "f");
  CHECK(request->code_digest == std::string(64, 'c'));
  CHECK(request->settings.memory_bytes == agent::FunctionSettings{}.memory_bytes);
  CHECK(request->settings.reuse);
}

TEST_CASE("every field of a deployment is read, sizes and times as text") {
  const auto request = deploy_with(
      R"("runtime": "python3", "handler": "app.go", "memory": "64MiB", "cpu": "500m",
         "timeout": "1.5s", "pids": 16, "environment": {"A": "1", "B": ""}, "concurrency": 3,
         "queue": 0, "reuse": false, "idle": "2m", "network": "nat",
         "allow": ["192.0.2.1:443"], "network_rate": "1MiB", "network_connections": 7)");
  REQUIRE(request);
  const agent::FunctionSettings& settings = request->settings;
  CHECK(settings.handler == "app.go");
  CHECK(settings.memory_bytes == 64ULL << 20);
  CHECK(settings.milli_cpu == 500);
  CHECK(settings.timeout == std::chrono::milliseconds(1500));
  CHECK(settings.pids == 16);
  CHECK(settings.environment == std::map<std::string, std::string>{{"A", "1"}, {"B", ""}});
  CHECK(settings.concurrency == 3);
  CHECK(settings.queue == 0);
  CHECK_FALSE(settings.reuse);
  CHECK(settings.idle == std::chrono::minutes(2));
  CHECK(settings.network == "nat");
  CHECK(settings.allow == std::vector<std::string>{"192.0.2.1:443"});
  CHECK(settings.network_rate == 1 << 20);
  CHECK(settings.network_connections == 7);
}

TEST_CASE("sizes and times may be numbers: bytes, CPUs, seconds") {
  const auto request = deploy_with(R"("memory": 67108864, "cpu": 0.25, "timeout": 2, "idle": 0.5)");
  REQUIRE(request);
  CHECK(request->settings.memory_bytes == 64ULL << 20);
  CHECK(request->settings.milli_cpu == 250);
  CHECK(request->settings.timeout == std::chrono::seconds(2));
  CHECK(request->settings.idle == std::chrono::milliseconds(500));
}

TEST_CASE("what a function is described with can be deployed again") {
  agent::Function function;
  function.name = "f";
  function.code_digest = std::string(64, 'c');
  function.settings.milli_cpu = 1234;
  function.settings.timeout = std::chrono::milliseconds(1);
  function.settings.environment = {{"K", "v"}};
  function.settings.network = "nat";
  function.settings.allow = {"192.0.2.1:443/tcp"};
  Json body = Json::parse(api::function_json(function))["settings"];
  body["code"] = kCode;
  const auto request = parse_deploy("f", body.dump());
  REQUIRE(request);
  CHECK(request->settings.milli_cpu == 1234);
  CHECK(request->settings.timeout == std::chrono::milliseconds(1));
  CHECK(request->settings.environment == function.settings.environment);
  CHECK(request->settings.allow == function.settings.allow);
}

TEST_CASE("a field that is unknown, doubled or of the wrong type is refused by name") {
  using Catch::Contains;
  CHECK_THAT(refusal_of(R"("memori": 1)"), Contains("'memori'"));
  CHECK_THAT(refusal_of(R"("pids": 8, "pids": 9)"), Contains("'pids' is given twice"));
  CHECK_THAT(refusal_of(R"("environment": {"A": "1", "A": "2"})"), Contains("'A' is given twice"));
  for (const char* field :
       {R"("memory": -1)", R"("memory": true)", R"("memory": "many")", R"("cpu": "fast")",
        R"("cpu": null)", R"("cpu": -0.5)", R"("timeout": [])", R"("timeout": 1e300)",
        R"("pids": 4294967296)", R"("pids": 8.5)", R"("environment": [])",
        R"("environment": {"A": 1})", R"("reuse": 1)", R"("runtime": 3)", R"("network": {})",
        R"("queue": "1")"}) {
    CAPTURE(field);
    const std::string name(field + 1, std::string(field).find('"', 1) - 1);
    CHECK_THAT(refusal_of(field), Contains("'" + name + "'"));
  }
}

TEST_CASE("a setting out of its bounds is refused by name") {
  CHECK_THAT(refusal_of(R"("memory": 1024)"), Catch::Contains("memory"));
  CHECK_THAT(refusal_of(R"("network": "host")"), Catch::Contains("network"));
  CHECK_THAT(refusal_of(R"("environment": {"A=B": "x"})"), Catch::Contains("environment"));
}

TEST_CASE("a document that is not one JSON object is refused") {
  for (const std::string& body :
       {std::string(), std::string("null"), std::string("[]"), std::string("{"),
        std::string("{} {}"), std::string("{\"a\": }"), std::string("\xff\xfe"),
        std::string("{\"code\": \"\xff\"}"), std::string(3, '\0')}) {
    CHECK_FALSE(parse_deploy("f", body));
  }
  CHECK_THAT(parse_deploy("f", "{}").error().message(), Catch::Contains("'code' is missing"));
  CHECK_FALSE(parse_deploy("f", R"({"code": "abc"})"));
}

TEST_CASE("a JSON bomb is refused, not recursed into") {
  CHECK_THAT(parse_deploy("f", std::string(1 << 20, '[')).error().message(),
             Catch::Contains("nested deeper"));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  CHECK_THAT(parse_deploy("f", objects).error().message(), Catch::Contains("nested deeper"));
  CHECK_THAT(refusal_of("\"environment\": " + std::string(1000, '[') + std::string(1000, ']')),
             Catch::Contains("nested deeper"));
}

TEST_CASE("an error's document has only what is known") {
  const Json plain = Json::parse(api::error_json({"not_found", "no such \xff thing", nullptr}));
  CHECK(plain["error"].size() == 2);
  CHECK(plain["error"]["code"] == "not_found");

  agent::Outcome outcome;
  outcome.ending = agent::Ending::killed;
  outcome.signal = 31;
  outcome.syscall = "mount";
  outcome.invocation_id = "id";
  const Json killed = Json::parse(api::error_json({"killed", "m", &outcome}));
  CHECK(killed["error"] == Json({{"code", "killed"},
                                 {"message", "m"},
                                 {"ending", "killed"},
                                 {"signal", 31},
                                 {"syscall", "mount"},
                                 {"invocation", "id"}}));
}

TEST_CASE("lists are lists when they are empty or have one or two entries") {
  CHECK(Json::parse(api::functions_json({})) == Json({{"functions", Json::array()}}));
  agent::AgentStatus status;
  status.limits_not_enforced = {"memory", "cpu"};
  CHECK(Json::parse(api::status_json(status))["limits_not_enforced"] ==
        Json::array({"memory", "cpu"}));
  agent::Deployed deployed;
  deployed.warnings = {"a", "b"};
  CHECK(Json::parse(api::deployed_json(deployed))["warnings"] == Json::array({"a", "b"}));
}

TEST_CASE("a log line is one line, whatever is in it") {
  agent::LogLine line{7, 1'700'000'000'250, "", "a\nb\x80\"", true};
  const std::string text = api::log_line_json(line, "invocation");
  CHECK(std::count(text.begin(), text.end(), '\n') == 1);
  CHECK(text.back() == '\n');
  const Json parsed = Json::parse(text);
  CHECK(parsed["sequence"] == 7);
  CHECK(parsed["time"] == "2023-11-14T22:13:20.250Z");
  CHECK(parsed["cut"] == true);
  CHECK(parsed.count("invocation") == 0);
}

TEST_CASE("every ending but ok is an error's code, and none is there twice") {
  const auto& codes = api::error_codes();
  for (std::size_t i = 1; i < agent::kEndingCount; ++i) {
    CHECK(std::count(codes.begin(), codes.end(),
                     agent::ending_name(static_cast<agent::Ending>(i))) == 1);
  }
  CHECK(std::set<std::string_view>(codes.begin(), codes.end()).size() == codes.size());
}
