// Zygotes that cannot be had: their image is damaged, they do not start, they hang. Callers are
// told the reason, and are served again once it is mended.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/file.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/host.h"
#include "tests/support/skip.h"

namespace {

using namespace tests;
namespace fs = std::filesystem;

constexpr std::string_view kEcho = "def main(event, context):\n    return event\n";

std::string from_environment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

// Replaces a variable that the fixture reads, for as long as it lives.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name)) {
      before_ = before;
    }
    ::setenv(name, value.c_str(), 1);
  }
  ~Environment() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

// Images of the test's own: a copy of the host's python3.
class OwnImages {
 public:
  OwnImages() : environment_("BROOD_IMAGES", scratch_.path()) {
    const std::string command =
        "cp -a --reflink=auto '" + image_ + "' '" + scratch_.path() + "/python3'";
    REQUIRE(std::system(command.c_str()) == 0);
  }
  // What the images would be without this.
  static std::string host_image() {
    const std::string path = from_environment("BROOD_IMAGES", "/var/lib/brood/images") + "/python3";
    if (::geteuid() != 0 || !fs::exists(path + "/image.json")) {
      skip_because("needs root and the image " + path);
    }
    return path;
  }
  // Flips a bit of one byte of a file in the image, keeping its size and times.
  void flip() const {
    const auto file = base::open_at(AT_FDCWD, victim(), O_RDWR).value();
    char byte = 0;
    REQUIRE(::pread(file.get(), &byte, 1, 100) == 1);
    byte = static_cast<char>(byte ^ 1);
    REQUIRE(::pwrite(file.get(), &byte, 1, 100) == 1);
  }

 private:
  std::string victim() const {
    return scratch_.path() + "/python3/rootfs/usr/lib/python3.11/csv.py";
  }

  const std::string image_ = host_image();
  ScratchDirectory scratch_;
  Environment environment_;
};

// The zygote's programs, with a zygote.py of the test's own.
class OwnZygote {
 public:
  explicit OwnZygote(const std::string& program)
      : environment_("BROOD_SUPPORT_DIR", scratch_.path()) {
    ::chmod(scratch_.path().c_str(), 0755);
    fs::copy(support_dir() + "/python", scratch_.path() + "/python");
    write(program);
  }
  void write(const std::string& program) const {
    std::ofstream(scratch_.path() + "/python/zygote.py") << program;
  }
  void mend() const {
    fs::copy_file(support_dir() + "/python/zygote.py", scratch_.path() + "/python/zygote.py",
                  fs::copy_options::overwrite_existing);
  }

 private:
  std::string support_dir() const { return support_; }

  const std::string support_ = from_environment("BROOD_SUPPORT_DIR", bin_dir() + "/../runtimes");
  ScratchDirectory scratch_;
  Environment environment_;
};

bool serves_again(const AgentFixture& agent) {
  return soon([&] { return agent.invoke("echo", {{"a", 1}}).ok(); }, 40s);
}

std::uint64_t restarts_in_metrics(const AgentFixture& agent) {
  const std::string text = agent.client().ask("GET", "/metrics").body;
  const std::string name = "brood_zygote_restarts_total{runtime=\"python3\"} ";
  const auto at = text.find(name);
  REQUIRE(at != std::string::npos);
  return std::stoull(text.substr(at + name.size()));
}

TEST_CASE("a damaged image is refused by its digest, and serves again once it is mended") {
  const OwnImages images;
  images.flip();
  AgentFixture agent;
  const Json deployed = agent.deploy("echo", kEcho);
  INFO(deployed.dump());
  const Invoked refused = agent.invoke("echo", {{"a", 1}});
  INFO(refused.body);
  CHECK(refused.ending == "internal");
  CHECK(refused.status == 500);
  const std::string message = refused.error()["message"];
  CHECK(message.find("not what was built") != std::string::npos);
  CHECK(message.find("python3") != std::string::npos);
  CHECK(agent.runtime()["state"] == "backing_off");
  CHECK(agent.runtime()["problem"].get<std::string>().find("not what was built") !=
        std::string::npos);
  CHECK(agent.runtime()["zygote_pid"].get<int>() <= 0);
  images.flip();
  CHECK(serves_again(agent));
  CHECK(agent.runtime()["state"] == "ready");
  CHECK(agent.runtime()["problem"] == "");
}

TEST_CASE("a zygote that does not start is told with what it printed, and tried again") {
  const OwnZygote zygote("import sys\nsys.exit('this zygote is broken')\n");
  AgentFixture agent;
  agent.deploy("echo", kEcho);
  const Invoked refused = agent.invoke("echo", {{"a", 1}});
  INFO(refused.body);
  CHECK(refused.ending == "internal");
  CHECK(refused.error()["message"].get<std::string>().find("zygote") != std::string::npos);
  CHECK(agent.log().find("this zygote is broken") != std::string::npos);
  CHECK(agent.runtime()["state"] != "ready");
  const auto restarts = restarts_in_metrics(agent);
  CHECK(restarts >= 3);
  zygote.mend();
  CHECK(serves_again(agent));
  CHECK(restarts_in_metrics(agent) >= restarts);
  CHECK(agent.runtime()["zygote_restarts"] == restarts_in_metrics(agent));
}

TEST_CASE("the pause between a zygote's starts grows") {
  const OwnZygote zygote("import sys\nsys.exit(1)\n");
  AgentFixture agent;
  agent.deploy("echo", kEcho);
  (void)agent.invoke("echo");
  std::this_thread::sleep_for(3s);
  // 100 ms, doubling: at most six starts in the first six seconds.
  CHECK(agent.runtime()["zygote_restarts"] <= 7);
  CHECK(agent.runtime()["zygote_restarts"] >= 3);
}

TEST_CASE("a zygote of another version of the protocol is refused with what to do") {
  const OwnZygote zygote(R"(
import sys, time
sys.path.insert(0, "/run/brood")
import _brood
_brood.send_control(3, _brood.BOOTED, 99, 0, "0.0", ())
time.sleep(600)
)");
  AgentFixture agent;
  agent.deploy("echo", kEcho);
  const Invoked refused = agent.invoke("echo");
  INFO(refused.body);
  CHECK(refused.ending == "internal");
  CHECK(refused.error()["message"].get<std::string>().find("reinstall") != std::string::npos);
  // A refused one does not linger.
  CHECK(soon([&] { return descendants_of(agent.pid()).size() <= 2; }, 5s));
}

TEST_CASE("a zygote that never boots is given up and replaced") {
  const OwnZygote zygote("import time\ntime.sleep(600)\n");
  AgentFixture agent;
  std::thread deployer([&] { agent.deploy("echo", kEcho); });
  CHECK(soon([&] { return agent.runtime()["state"] == "starting"; }));
  std::this_thread::sleep_for(1s);
  zygote.mend();  // the one that hangs has read the old text
  const bool replaced = soon([&] { return agent.runtime()["zygote_restarts"] == 1; }, 40s);
  deployer.join();
  CHECK(replaced);
  CHECK(agent.log().find("did not boot in time") != std::string::npos);
  CHECK(serves_again(agent));
}

TEST_CASE("a zygote that hangs later is given up: what runs finishes, what waits is carried over") {
  AgentFixture agent({.pool_min = 1, .pool_max = 1});
  agent.deploy("echo", kEcho, {{"reuse", false}});
  agent.deploy(
      "sleep",
      "import time\ndef main(event, context):\n    time.sleep(event)\n    return 'slept'\n",
      {{"timeout", "60s"}});
  REQUIRE(agent.pool_has(1));
  Invoked slept;
  std::thread sleeper([&] { slept = agent.invoke("sleep", 15); });
  CHECK(soon([&] { return !agent.sandboxes_of("sleep").empty(); }));
  const pid_t zygote = agent.runtime()["zygote_pid"];
  REQUIRE(signal_process(zygote, SIGSTOP));
  for (int i = 0; i < 4; ++i) {  // the pool's last one, and then those that nobody makes
    const Invoked answer = agent.invoke("echo", i);
    CAPTURE(i, answer.body);
    CHECK(answer.ok());
  }
  CHECK_FALSE(is_alive(zygote));
  CHECK(agent.runtime()["zygote_restarts"] == 1);
  sleeper.join();
  CHECK(slept.ok());
  CHECK(soon([&] { return zombies_below(agent.pid()).empty(); }, 5s));
}

TEST_CASE("restarts of zygotes are counted in the metrics") {
  AgentFixture agent;
  agent.deploy("echo", kEcho);
  CHECK(agent.invoke("echo").ok());
  CHECK(restarts_in_metrics(agent) == 0);
  for (std::uint64_t round = 1; round <= 2; ++round) {
    REQUIRE(agent.pool_has(1));
    REQUIRE(signal_process(agent.runtime()["zygote_pid"].get<pid_t>(), SIGKILL));
    CHECK(soon([&] { return restarts_in_metrics(agent) == round; }));
    CHECK(soon([&] { return agent.runtime()["state"] == "ready"; }));
  }
}

}  // namespace
