// brood-bench against a real agent: that its report is whole and holds together. How fast things
// are depends on the machine, and is no test.
#include <sys/wait.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>

#include "tests/support/agent_fixture.h"

namespace {

using namespace tests;

struct Ran {
  int exit = -1;
  std::string output;  // both streams
};

Ran run_bench(const std::string& arguments) {
  Ran ran;
  FILE* pipe = ::popen((bin_dir() + "/brood-bench " + arguments + " 2>&1").c_str(), "re");
  REQUIRE(pipe != nullptr);
  std::array<char, 4096> piece{};
  while (const std::size_t got = std::fread(piece.data(), 1, piece.size(), pipe)) {
    ran.output.append(piece.data(), got);
  }
  ran.exit = WEXITSTATUS(::pclose(pipe));
  return ran;
}

std::string images_flag() {
  const char* images = std::getenv("BROOD_IMAGES");
  return images == nullptr ? "" : " --images-dir " + std::string(images);
}

Json report_of(const AgentFixture& agent, const std::string& arguments) {
  const Ran ran = run_bench(arguments + " --json --socket " + agent.socket() + images_flag());
  INFO(ran.output);
  REQUIRE(ran.exit == 0);
  return Json::parse(ran.output);
}

void check_report(const Json& report, const std::string& mode, std::size_t count) {
  INFO(report.dump(2));
  CHECK(report["mode"] == mode);
  CHECK(report["count"] == count);
  CHECK(report["p50_us"] > 0);
  CHECK(report["p50_us"] <= report["p90_us"]);
  CHECK(report["p90_us"] <= report["p99_us"]);
  CHECK(report["p99_us"] <= report["max_us"]);
  CHECK(report["unix_rtt_p50_us"] > 0);
  CHECK(report["unix_rtt_p50_us"] < report["p50_us"]);
  CHECK(report["fork_import_p50_us"].is_number());
  CHECK(report["fork_import_p50_us"] > 0);
  CHECK_FALSE(report.contains("fork_import_problem"));
  CHECK(report["fork_import_to_p50"].is_number());
  CHECK(report["p50_to_unix_rtt"].is_number());
  CHECK(report["exhausted"].is_number_unsigned());
  CHECK(report["in_force"].size() == 11);
  CHECK(report["two_hops_p50_us"] > 0);
  CHECK(report["machine"]["cpus"] > 0);
  CHECK_FALSE(report["machine"]["kernel"].get<std::string>().empty());
  for (const char* stage : {"queued", "assigned", "sent", "woken", "called", "returned", "encoded",
                            "answered", "outside"}) {
    INFO(stage);
    CHECK(report["stages_p50_us"].contains(stage));
  }
}

TEST_CASE("a warm report is whole, and nothing stays deployed") {
  const AgentFixture agent;
  const Json report = report_of(agent, "warm --count 50 --warmup 5");
  check_report(report, "warm", 50);
  CHECK_FALSE(report["stages_p50_us"].contains("loaded"));
  CHECK(report["limits"] == agent.status()["limits"]);
  CHECK(agent.client().get("/functions")["functions"].empty());
}

TEST_CASE("a cold report is whole, and nothing stays deployed") {
  const AgentFixture agent;
  const Json report = report_of(agent, "cold --count 20 --warmup 2");
  check_report(report, "cold", 20);
  for (const char* stage : {"attached", "limited", "loaded"}) {
    INFO(stage);
    CHECK(report["stages_p50_us"].contains(stage));
  }
  CHECK(agent.client().get("/functions")["functions"].empty());
}

TEST_CASE("cold invocations that come too fast are counted as having waited") {
  const AgentFixture agent({.pool_min = 1, .pool_max = 1});
  const Json report = report_of(agent, "cold --count 10 --warmup 1 --pause-ms 0");
  CHECK(report["exhausted"] > 0);
  CHECK(report["pause_ms"] == 0);
}

TEST_CASE("a payload has the size that was asked for") {
  const AgentFixture agent;
  check_report(report_of(agent, "warm --count 5 --warmup 1 --payload 100000"), "warm", 5);
}

TEST_CASE("every mode answers with its figures, and nothing stays deployed") {
  const AgentFixture agent({.pool_min = 4, .pool_max = 8});
  const Json rate = report_of(agent, "rate --clients 2 --seconds 1");
  CHECK(rate["per_second"] > 0);
  CHECK(rate["count"] > rate["cold"]);
  const Json burst = report_of(agent, "burst --clients 6 --count 2");
  CHECK(burst["count"] == 12);
  CHECK(burst["slowest_p50_us"] >= burst["p50_us"]);
  const Json churn = report_of(agent, "churn --clients 2 --seconds 4");
  CHECK(churn["per_second"] > 0);
  CHECK(churn["fork_with_namespaces_per_second"] > 0);
  CHECK(churn["in_force"].size() == 11);
  const Json process = report_of(agent, "process --count 2");
  CHECK(process["p50_us"] > process["cold_p50_us"]);
  CHECK(report_of(agent, "deploy --count 3")["count"] == 3);
  CHECK(report_of(agent, "idle --seconds 1")["wake_ups"].is_number_unsigned());
  CHECK(agent.client().get("/functions")["functions"].empty());
}

TEST_CASE("deployments can be kept") {
  const AgentFixture agent;
  CHECK(report_of(agent, "deploy --count 2 --keep")["count"] == 2);
  CHECK(agent.client().get("/functions")["functions"].size() == 2);
}

TEST_CASE("a runtime that the agent does not have is named") {
  const AgentFixture agent;
  const Ran ran = run_bench("warm --runtime cobol --socket " + agent.socket());
  CHECK(ran.exit == 1);
  CHECK_THAT(ran.output, Catch::Contains("cobol"));
}

TEST_CASE("without an agent brood-bench says how to start one") {
  const Ran ran = run_bench("cold --socket /nonexistent/brood.sock");
  CHECK(ran.exit == 3);
  CHECK_THAT(ran.output, Catch::Contains("no agent answers") && Catch::Contains("broodd"));
}

TEST_CASE("a flag that makes no sense is a usage error") {
  CHECK(run_bench("warm --count none").exit == 2);
  CHECK(run_bench("warm --pause-ms 5").exit == 2);
  CHECK(run_bench("").exit == 2);
}

}  // namespace
