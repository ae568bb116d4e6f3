// Functions, from deploying to removing, over a real agent.
#include <catch2/catch.hpp>

#include "tests/support/agent_fixture.h"

namespace {

using namespace tests;

constexpr std::string_view kEcho = "def main(event, context):\n    return event\n";

TEST_CASE("a function is deployed, invoked and removed") {
  AgentFixture agent;
  const Json deployed = agent.deploy("echo", kEcho);
  CHECK(deployed["created"] == true);
  CHECK(deployed["warnings"].empty());
  const Invoked answer = agent.invoke("echo", {{"a", {1, 2.5, nullptr}}});
  CHECK(answer.ok());
  CHECK(answer.json() == Json{{"a", {1, 2.5, nullptr}}});
  agent.remove("echo");
  CHECK(agent.invoke("echo").status == 404);
}

}  // namespace
