// Each step of making a sandbox, and each of making a zygote, fails in turn: the caller is told
// which and why, nothing is left, and an agent that is without the fault serves.
#include <catch2/catch.hpp>
#include <cerrno>

#include "base/error.h"
#include "isolate/seccomp.h"
#include "isolate/spec.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/host.h"

namespace {

using namespace tests;

constexpr std::string_view kEcho = "def main(event, context):\n    return event\n";
// None that a step gives by itself, so that the one told is the one that was ordered.
constexpr int kErrno = ENOTNAM;

std::vector<std::string> names_of(const isolate::Plan& plan) {
  std::vector<std::string> names;
  for (std::uint32_t i = 0; i < plan.step_count; ++i) {
    names.emplace_back(isolate::step_name(plan.steps[i]));
  }
  return names;
}

// As the agent plans on this host, so that a step added there is met here.
std::vector<std::string> sandbox_steps() {
  const auto filter = isolate::sandbox_filter(isolate::Deadly::kill);
  return names_of(
      isolate::plan_sandbox({.layers = true, .filter = filter}, isolate::probe_features()).value());
}
std::vector<std::string> zygote_steps() {
  const auto filter = isolate::zygote_filter();
  return names_of(isolate::plan_zygote({.filter = filter}, isolate::probe_features()).value());
}

void check_told(const Invoked& answer, const std::string& step) {
  INFO(answer.body);
  REQUIRE(answer.ending == "internal");
  CHECK(answer.status == 500);
  const std::string message = answer.error()["message"];
  CHECK(message.find("step " + step + ":") != std::string::npos);
  CHECK(message.find("(ENOTNAM)") != std::string::npos);
}

void check_nothing_left(const AgentFixture& agent) {
  const Leftovers left = leftovers_of(agent);
  INFO(left.text);
  CHECK(left.status == 0);
}

// With the fault: deploying answers, with a warning, and each invocation is told. Without it: it
// serves, from the same state directory.
void fail_each(const std::vector<std::string>& steps, const std::string& variable) {
  REQUIRE(steps.size() > 10);
  AgentFixture agent({.pool_min = 1, .pool_max = 1});
  agent.deploy("before", kEcho);
  agent.stop();
  for (const std::string& step : steps) {
    CAPTURE(step);
    agent.start(Program::seam, {{variable, step + ":" + std::to_string(kErrno)}});
    // A source of its own, so that nothing compiled before stands in for what fails.
    const Json deployed = agent.deploy("during", "# " + step + "\n" + std::string(kEcho));
    CHECK(deployed["warnings"].size() == 1);
    check_told(agent.invoke("before", step), step);
    check_told(agent.invoke("during", step), step);
    agent.stop();  // which looks for what is left
    agent.start(Program::product);
    for (const char* name : {"before", "during"}) {
      const Invoked answer = agent.invoke(name, step);
      CAPTURE(name, answer.body);
      CHECK(answer.ok());
      CHECK(answer.json() == step);
    }
    agent.stop();
  }
  check_nothing_left(agent);
}

TEST_CASE("each step of a sandbox that fails is told to the caller") {
  fail_each(sandbox_steps(), "BROOD_SEAM_FAIL");
}

TEST_CASE("each step of a zygote that fails is told to the caller") {
  fail_each(zygote_steps(), "BROOD_SEAM_FAIL_ZYGOTE");
}

}  // namespace
