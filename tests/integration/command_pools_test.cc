// What becomes of the pools that `brood run` makes: they go when nobody uses them, and sooner when
// others need their range of host uids.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>

#include "base/file.h"
#include "tests/cmd/program.h"
#include "tests/support/agent_fixture.h"

namespace {

using namespace tests;

Ran run_as(const AgentFixture& agent, const std::string& user) {
  return run_brood({"--socket", agent.socket(), "run", "-u", user, "--", "id", "-u"}, {"", {}});
}

std::vector<std::string> command_pools(const AgentFixture& agent) {
  std::vector<std::string> names;
  const Json runtimes = agent.client().get("/runtimes");
  for (const Json& runtime : runtimes["runtimes"]) {
    if (runtime["name"].get<std::string>().rfind("run.", 0) == 0) {
      names.push_back(runtime["name"]);
    }
  }
  return names;
}

}  // namespace

TEST_CASE("a command's pool goes when nobody has used it for a while, and comes again") {
  AgentFixture agent({.flags = {"--command-idle=1s"}});
  CHECK(run_as(agent, "7:7").out == "7\n");
  CHECK(command_pools(agent).size() == 1);
  Running running(
      {"--socket", agent.socket(), "run", "--", "/bin/sh", "-c", "echo up; sleep 1000"});
  REQUIRE(running.prints("up"));
  CHECK(soon([&] { return command_pools(agent) == std::vector<std::string>{"run.base"}; }));
  ::usleep(1'500'000);
  CHECK(command_pools(agent).size() == 1);  // it is used
  running.signal(SIGKILL);
  CHECK(soon([&] { return command_pools(agent).empty(); }));
  CHECK(run_as(agent, "7:7").out == "7\n");
}

TEST_CASE("more users than there are ranges of host uids are served one after the other") {
  AgentFixture agent;
  constexpr int kUsers =
      20;  // of 15 ranges the agent has one, and the runtime of functions another
  for (int uid = 1; uid <= kUsers; ++uid) {
    const Ran ran = run_as(agent, std::to_string(uid) + ":5");
    INFO(ran.err);
    CHECK(ran.out == std::to_string(uid) + "\n");
  }
  CHECK(command_pools(agent).size() <= 14);
  CHECK(run_as(agent, "1:5").out == "1\n");
}

TEST_CASE("an image whose manifest has changed is read again") {
  const ScratchDirectory images;
  const char* host = ::getenv("BROOD_IMAGES");
  const std::string image = std::string(host != nullptr ? host : "/var/lib/brood/images") + "/base";
  REQUIRE(std::system(("cp -a " + image + " " + images.path()).c_str()) == 0);  // NOLINT
  AgentFixture agent({.runtimes = {}, .images_dir = images.path()});
  const auto shown = [&] {
    return run_brood({"--socket", agent.socket(), "run", "--", "/bin/sh", "-c", "echo $MARK"}).out;
  };
  CHECK(shown() == "\n");
  const std::string file = images.path() + "/base/image.json";
  Json manifest = Json::parse(base::read_file(file).value());
  manifest["config"]["environment"] = {"MARK=new"};
  REQUIRE(base::replace_file_at(AT_FDCWD, file, manifest.dump(), 0644));
  CHECK(shown() == "new\n");
  CHECK(shown() == "new\n");
}
