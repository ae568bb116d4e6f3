// The state directory's disk is full, or the agent has no descriptor left: what cannot be done is
// refused with the reason, what can be goes on, and all is well again afterwards.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <filesystem>
#include <sstream>

#include "base/file.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/host.h"
#include "tests/support/raw_client.h"

namespace {

using namespace tests;
namespace fs = std::filesystem;

constexpr std::string_view kPrints =
    "def main(event, context):\n"
    "    for i in range(50):\n"
    "        print('x' * 500)\n"
    "    return event\n";

// An agent whose state directory is a small file system that nobody else has.
class SmallDisk {
 public:
  SmallDisk() : agent({.pool_min = 1, .pool_max = 2, .in_child = [this] { mount_in_child(); }}) {}

  void fill() const {
    const base::UniqueFd file(::open(filler().c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600));
    REQUIRE(file);
    const std::string piece(4096, 'x');
    while (::write(file.get(), piece.data(), piece.size()) > 0) {
    }
    CHECK(errno == ENOSPC);
  }
  void free() const { fs::remove(filler()); }

 private:
  // By way of the agent: this process does not see what is mounted there.
  std::string filler() const {
    return "/proc/" + std::to_string(agent.pid()) + "/root" + agent.state_dir() + "/filler";
  }
  void mount_in_child() const {
    const std::string state = agent.state_dir();
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        (::mkdir(state.c_str(), 0700) != 0 && errno != EEXIST) ||
        ::mount("tmpfs", state.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=16m,mode=0700") != 0) {
      ::_exit(126);
    }
  }

 public:
  AgentFixture agent;
};

TEST_CASE("a full disk refuses deploys and nothing else, until there is room again") {
  SmallDisk disk;
  AgentFixture& agent = disk.agent;
  agent.deploy("prints", kPrints);
  const std::string digest = agent.describe("prints")["code"];
  const Json settings{{"runtime", "python3"}, {"handler", "handler.main"}};
  disk.fill();
  const Response uploaded = agent.upload("def main(event, context):\n    return 7\n", "handler.py");
  INFO(uploaded.body);
  CHECK(uploaded.status == 500);
  CHECK(uploaded.body.find("(ENOSPC)") != std::string::npos);
  // The journal may have some room of its own.
  Response refused;
  std::uint64_t version = agent.describe("prints")["version"];
  for (int i = 0; i < 200 && refused.status != 500; ++i) {
    refused = agent.put("prints", digest, settings);
    version += refused.status == 200 ? 1 : 0;
  }
  CHECK(refused.status == 500);
  CHECK(refused.body.find("the disk is full") != std::string::npos);
  CHECK(agent.describe("prints")["version"] == version);
  for (int i = 0; i < 50; ++i) {
    const Invoked answer = agent.invoke("prints", i);
    CAPTURE(i, answer.body);
    CHECK(answer.ok());
  }
  disk.free();
  agent.deploy("other", "def main(event, context):\n    return 7\n");
  CHECK(agent.put("prints", digest, settings).status == 200);
  CHECK(agent.describe("prints")["version"] == version + 1);
  CHECK(agent.invoke("other").body == "7");
  const Invoked answer = agent.invoke("prints", 1);
  CHECK(answer.ok());
  CHECK(agent.log_of("prints", answer.id).size() == 50);
}

// utime and stime of a process, in clock ticks.
std::uint64_t cpu_ticks(pid_t pid) {
  const std::string stat = base::read_file("/proc/" + std::to_string(pid) + "/stat").value_or("");
  std::istringstream rest(stat.substr(stat.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) {
    rest >> skipped;
  }
  std::uint64_t user = 0;
  std::uint64_t system = 0;
  rest >> user >> system;
  return user + system;
}

TEST_CASE("an agent without a descriptor left does not spin, and serves again when it has some") {
  AgentFixture agent({.pool_min = 1, .pool_max = 1, .in_child = [] {
                        const rlimit few{128, 128};
                        ::setrlimit(RLIMIT_NOFILE, &few);
                      }});
  agent.deploy("echo", "def main(event, context):\n    return event\n", {{"reuse", false}});
  CHECK(agent.invoke("echo", 1).ok());
  {
    std::vector<std::unique_ptr<RawClient>> held;
    for (int i = 0; i < 150; ++i) {
      held.push_back(std::make_unique<RawClient>(agent.socket(), std::chrono::seconds(60)));
    }
    CHECK(soon([&] { return agent.log().find("accept: ") != std::string::npos; }));
    CHECK(agent.log().find("(EMFILE)") != std::string::npos);
    const std::uint64_t before = cpu_ticks(agent.pid());
    std::this_thread::sleep_for(2s);
    const auto used = cpu_ticks(agent.pid()) - before;
    CAPTURE(used);
    CHECK(used < static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK)));  // half a processor
  }
  CHECK(soon([&] { return agent.invoke("echo", 2).ok(); }));
}

}  // namespace
