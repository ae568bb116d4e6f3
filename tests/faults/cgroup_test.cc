// A sandbox's cgroup that cannot be removed: nobody waits for it, and it goes when it can.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/support/agent_fixture.h"
#include "tests/support/host.h"

namespace {

using namespace tests;
namespace fs = std::filesystem;

constexpr std::string_view kEcho = "def main(event, context):\n    return event\n";

// Ends an instance of `warm` that has a cgroup below its own: rmdir(2) says EBUSY from then on. The
// cgroup that stays.
std::string leave_busy_cgroup(const AgentFixture& agent) {
  CHECK(agent.invoke("warm", 1).ok());
  const Json sandbox = agent.sandboxes_of("warm").at(0);
  const std::string cgroup = agent.cgroup_of(sandbox);
  REQUIRE(::mkdir((cgroup + "/stays").c_str(), 0755) == 0);
  REQUIRE(signal_process(sandbox["pid"].get<pid_t>(), SIGKILL));
  CHECK(soon([&] { return agent.sandboxes_of("warm").empty(); }));
  return cgroup;
}

TEST_CASE("a cgroup that does not go away holds nobody up, and goes when it can") {
  AgentFixture agent({.pool_min = 1, .pool_max = 1});
  agent.deploy("warm", kEcho);
  agent.deploy("cold", kEcho, {{"reuse", false}});
  const std::string first = leave_busy_cgroup(agent);
  const std::string second = leave_busy_cgroup(agent);
  for (int i = 0; i < 5; ++i) {
    CHECK(agent.invoke("cold", i).ok());
  }
  CHECK(fs::exists(first));
  CHECK(fs::exists(second));
  REQUIRE(::rmdir((first + "/stays").c_str()) == 0);
  CHECK(soon([&] { return !fs::exists(first); }));
  CHECK(fs::exists(second));  // for the end of the agent, which the fixture looks at
}

TEST_CASE("a busy cgroup that a killed agent has left is cleared by the next one") {
  AgentFixture agent({.pool_min = 1, .pool_max = 1});
  agent.deploy("warm", kEcho);
  const std::string cgroup = leave_busy_cgroup(agent);
  agent.kill();
  CHECK(fs::exists(cgroup + "/stays"));
  agent.start();
  CHECK_FALSE(fs::exists(cgroup + "/stays"));
  CHECK(agent.invoke("warm", 2).ok());
}

}  // namespace
