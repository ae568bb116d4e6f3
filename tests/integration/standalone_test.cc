// `brood run --standalone`: commands without an agent. Needs root and the image `base`.
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "base/file.h"
#include "cgroups/hierarchy.h"
#include "tests/cmd/program.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/scratch.h"
#include "tests/support/skip.h"

namespace {

using namespace tests;
using Catch::Contains;
namespace fs = std::filesystem;

void need_base() {
  need_root();
  if (!fs::exists(images_dir() + "/base/image.json")) {
    skip_because("there is no image 'base'; build it: make -f Makefile.rootfs base");
  }
}

// Where limits are enforced, a cgroup for it beside the test's own, which holds the test.
class Parent {
 public:
  Parent() {
    if (!can_limit()) {
      return;
    }
    const auto found =
        cgroups::locate(base::read_file("/proc/self/mountinfo", 16 << 20).value_or(""),
                        base::read_file("/proc/self/cgroup").value_or(""));
    if (found.own_directory) {
      path_ = fs::path(*found.own_directory).parent_path().string() + "/brood-alone-" +
              std::to_string(::getpid());
    }
    if (path_.empty() || ::mkdir(path_.c_str(), 0755) != 0) {
      skip_because("no cgroup without processes can be made beside the test's own");
    }
  }
  ~Parent() {
    if (!path_.empty()) {
      ::rmdir(path_.c_str());
    }
  }
  Parent(const Parent&) = delete;
  Parent& operator=(const Parent&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::vector<std::string> flags() {
  static const Parent parent;
  std::vector<std::string> all{"run", "--standalone", "--images", images_dir(), "--limits"};
  if (parent.path().empty()) {
    all.emplace_back("best-effort");
  } else {
    all.insert(all.end(), {"enforce", "--cgroup-parent", parent.path()});
  }
  return all;
}

Ran alone(std::vector<std::string> more, const RunOptions& options = {}) {
  std::vector<std::string> arguments = flags();
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_brood(arguments, options);
}

bool anything_left() {
  std::error_code error;
  return fs::exists("/run/brood/standalone", error);
}

std::vector<pid_t> processes_with(const std::string& words) {
  std::vector<pid_t> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    const auto line = base::read_file_at(AT_FDCWD, entry.path() / "cmdline", 4096);
    if (name.find_first_not_of("0123456789") == std::string::npos && line &&
        line->find(words) != std::string::npos && line->find("brood") == std::string::npos) {
      found.push_back(std::stoi(name));
    }
  }
  return found;
}

}  // namespace

TEST_CASE("a command runs without an agent, with its streams and its status") {
  need_base();
  const Ran ran =
      alone({"-e", "A=b", "--", "/bin/sh", "-c",
             "cat; echo \"$A $(id -u) $(ls /proc | grep -c '^[0-9]')\"; echo err >&2; exit 7"},
            {.input = "in\n", .environment = {}});
  CHECK(ran.exit == 7);
  CHECK_THAT(ran.out, Contains("in\nb 1000 "));
  CHECK(ran.err == "err\n");
  CHECK(alone({"--", "/no/such"}).exit == 127);
  CHECK(alone({"--", "/bin/sh", "-c", "kill -TERM $$"}).exit == 128 + SIGTERM);
  CHECK(alone({"--timeout", "200ms", "--", "/bin/sleep", "60"}).exit == 124);
  CHECK_FALSE(anything_left());
}

TEST_CASE("without an agent a sandbox is as closed as with one") {
  need_base();
  const Ran ran = alone({"--", "/bin/sh", "-c",
                         "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; "
                         "touch /usr/x 2>/dev/null || echo closed; ls /sys/class/net 2>/dev/null; "
                         "hostname; cat /proc/self/cgroup"});
  INFO(ran.out << ran.err);
  CHECK(ran.exit == 0);
  CHECK_THAT(ran.out, Contains("CapEff:\t0000000000000000") &&
                          Contains("CapBnd:\t0000000000000000") && Contains("NoNewPrivs:\t1") &&
                          Contains("Seccomp:\t2") && Contains("closed"));
}

TEST_CASE("without an agent a command has the folders that it is given, and no more of the host") {
  need_base();
  const ScratchDirectory scratch;
  REQUIRE(::chmod(scratch.path().c_str(), 0755) == 0);
  REQUIRE(base::replace_file_at(scratch.fd(), "a", "hello\n", 0644));
  const Ran ran = alone({"--bind", scratch.path() + ":/in:ro", "--tmpfs", "/scratch:1m",
                         "--read-only", "--", "/bin/sh", "-c",
                         "cat /in/a; touch /in/b 2>/dev/null || echo closed; touch /scratch/c && "
                         "echo open; touch /var/d 2>/dev/null || echo closed"});
  INFO(ran.err);
  CHECK(ran.exit == 0);
  CHECK(ran.out == "hello\nclosed\nopen\nclosed\n");
  const Ran gone = alone({"--bind", scratch.path() + "/none:/in", "--", "/bin/true"});
  CHECK(gone.exit == 2);
  CHECK_FALSE(anything_left());
}

TEST_CASE("what this process knows is not to be read in a sandbox that it makes of itself") {
  need_base();
  const Ran ran = alone({"--", "/bin/sh", "-c",
                         "env | grep -c TEST_SECRET; cat /proc/1/environ /proc/1/mem "
                         "/proc/1/cmdline 2>/dev/null | wc -c; ls /proc/1/fd 2>/dev/null | wc -l"},
                        {.input = "", .environment = {{"TEST_SECRET", "in-root's-environment"}}});
  INFO(ran.err);
  CHECK(ran.out == "0\n0\n0\n");
}

TEST_CASE("what is asked wrongly is told, and nothing is made") {
  need_base();
  const Ran image = alone({"--image", "no-such", "--", "/bin/true"});
  CHECK(image.exit == 125);
  CHECK_THAT(image.err, Contains("no image 'no-such'"));
  CHECK(alone({"--memory", "1KiB", "--", "/bin/true"}).exit == 125);
  CHECK_FALSE(anything_left());
}

TEST_CASE("several run at once") {
  need_base();
  std::vector<std::future<Ran>> all;
  for (int i = 0; i < 4; ++i) {
    all.push_back(std::async(std::launch::async, [i] {
      return alone({"--", "/bin/sh", "-c", "sleep 0.2; exit " + std::to_string(i)});
    }));
  }
  for (int i = 0; i < 4; ++i) {
    CHECK(all[static_cast<std::size_t>(i)].get().exit == i);
  }
  CHECK_FALSE(anything_left());
}

TEST_CASE("a signal is handed on, and one that cannot be caught takes the command along") {
  need_base();
  for (const int number : {SIGINT, SIGKILL}) {
    INFO(number);
    const std::string mark = "600." + std::to_string(::getpid()) + std::to_string(number);
    std::vector<std::string> arguments = flags();
    arguments.insert(arguments.end(), {"--", "/bin/sh", "-c",
                                       "trap 'exit 9' INT; echo ready; sleep " + mark + " & wait"});
    Running running(arguments);
    REQUIRE(running.prints("ready"));
    CHECK(processes_with(mark).size() >= 1);
    running.signal(number);
    CHECK(running.wait() == (number == SIGINT ? 9 : 128 + SIGKILL));
    CHECK(soon([&] { return processes_with(mark).empty(); }));
  }
  // What the one that was killed could not take away, the next does.
  CHECK(anything_left());
  CHECK(alone({"--", "/bin/true"}).exit == 0);
  CHECK_FALSE(anything_left());
}
