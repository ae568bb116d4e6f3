// What of root is left to a live agent, as the kernel tells it.
#include "agent/powers.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <sstream>

#include "base/file.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/host.h"

namespace {

using namespace tests;

std::map<std::string, std::string> status_of(const std::string& process) {
  std::istringstream text(base::read_file("/proc/" + process + "/status").value());
  std::map<std::string, std::string> fields;
  for (std::string line; std::getline(text, line);) {
    const auto colon = line.find(':');
    const auto value = line.find_first_not_of(" \t", colon + 1);  // npos: an empty list of groups
    fields[line.substr(0, colon)] = line.substr(std::min(value, line.size()));
  }
  return fields;
}

// How many filters stand above a process beyond those that this test has itself.
int filters_added(const std::string& process) {
  return std::stoi(status_of(process).at("Seccomp_filters")) -
         std::stoi(status_of("self").at("Seccomp_filters"));
}

std::uint64_t set_of(const std::map<std::string, std::string>& status, const std::string& name) {
  return std::stoull(status.at(name), nullptr, 16);
}

TEST_CASE("every thread of a live agent holds the documented capabilities and no other") {
  AgentFixture agent;
  agent.deploy("probe", "def main(event, context):\n    return event\n");
  REQUIRE(agent.invoke("probe", 1).ok());
  // A host's root may itself lack some.
  const std::uint64_t possible = set_of(status_of("self"), "CapPrm");
  int threads = 0;
  const std::string task = std::to_string(agent.pid()) + "/task";
  for (const auto& thread : std::filesystem::directory_iterator("/proc/" + task)) {
    const auto status = status_of(task + "/" + thread.path().filename().string());
    INFO(status.at("Name"));
    for (const char* name : {"CapPrm", "CapEff", "CapBnd"}) {
      INFO(name);
      CHECK(set_of(status, name) == (agent::kept_capabilities_mask() & possible));
    }
    CHECK(set_of(status, "CapInh") == 0);
    CHECK(set_of(status, "CapAmb") == 0);
    CHECK(status.at("NoNewPrivs") == "1");
    CHECK(status.at("Seccomp") == "2");
    CHECK(filters_added(task + "/" + thread.path().filename().string()) == 1);
    ++threads;
  }
  CHECK(threads > 1);
}

// Filters add up: the agent's, then the zygote's, then the sandbox's own.
TEST_CASE("a zygote and its sandboxes stand below the agent's filter and their own") {
  AgentFixture agent;
  agent.deploy("probe", "def main(event, context):\n    return event\n");
  REQUIRE(agent.invoke("probe", 1).ok());
  const int zygote = agent.runtime()["zygote_pid"];
  CHECK(filters_added(std::to_string(zygote)) == 2);
  const auto sandboxes = agent.sandboxes_of("probe");
  REQUIRE(sandboxes.size() == 1);
  const auto processes = agent.processes_of(sandboxes.front());
  REQUIRE_FALSE(processes.empty());
  for (const pid_t process : processes) {
    CHECK(filters_added(std::to_string(process)) == 3);
  }
}

}  // namespace
