// `brood run` against a real agent: streams, endings, terminals, and what the command finds around
// it.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <sstream>

#include "base/file.h"
#include "tests/cmd/program.h"
#include "tests/integration/on_terminal.h"
#include "tests/support/agent_fixture.h"

namespace {

using namespace tests;
using Catch::Contains;

Ran run(const AgentFixture& agent, std::vector<std::string> arguments,
        const std::string& input = "") {
  arguments.insert(arguments.begin(), {"--socket", agent.socket(), "run"});
  return run_brood(arguments, {input, {}});
}

Ran shell(const AgentFixture& agent, const std::string& script, const std::string& input = "") {
  return run(agent, {"--", "/bin/sh", "-c", script}, input);
}

std::vector<Json> commands_of(const AgentFixture& agent) {
  std::vector<Json> found;
  for (const Json& sandbox : agent.sandboxes()) {
    if (!sandbox["command"].get<std::string>().empty()) {
      found.push_back(sandbox);
    }
  }
  return found;
}

Running start(const AgentFixture& agent, const std::string& script) {
  return Running({"--socket", agent.socket(), "run", "--", "/bin/sh", "-c", script});
}

// The value of a line "Key:\tvalue" of /proc/PID/status.
std::string field(const std::string& status, const std::string& key) {
  const auto at = status.find("\n" + key + ":");
  REQUIRE(at != std::string::npos);
  const auto begin = status.find_first_not_of(" \t", at + key.size() + 2);
  return status.substr(begin, status.find('\n', begin) - begin);
}

}  // namespace

TEST_CASE("a command's streams pass through byte for byte, and its status is told") {
  AgentFixture agent;
  std::string bytes;
  for (int i = 0; i < 700'000; ++i) {
    bytes.push_back(static_cast<char>(i * 7 + i / 251));
  }
  const Ran copied = run(agent, {"-i", "--", "cat"}, bytes);
  CHECK(copied.exit == 0);
  CHECK(copied.out == bytes);
  const Ran both = shell(agent, "echo out; echo err >&2; exit 7");
  CHECK(both.exit == 7);
  CHECK(both.out == "out\n");
  CHECK(both.err == "err\n");
  CHECK(shell(agent, "cat >/dev/null; echo after the end", "x").out == "after the end\n");
  CHECK(shell(agent, "echo again >/dev/stdout").out == "again\n");
}

TEST_CASE("what cannot be run is 127 or 126, as docker has it") {
  AgentFixture agent;
  CHECK(run(agent, {"--", "nothing-of-this-name"}).exit == 127);
  CHECK(run(agent, {"--", "/etc/passwd"}).exit == 126);
  CHECK(run(agent, {"-w", "/nowhere", "--", "true"}).exit == 125);
  CHECK(run(agent, {"--image", "nowhere", "--", "true"}).exit == 125);
}

TEST_CASE(
    "a command finds its environment and directory, no other user's and nothing of the host") {
  AgentFixture agent;
  const Ran ran = run(agent, {"-e", "A=B", "-w", "/tmp", "--", "/bin/sh", "-c",
                              "echo $A $PWD $HOME; id -u; ls -d /function; cat /proc/self/status; "
                              "ls -l /proc/self/ns"});
  REQUIRE(ran.exit == 0);
  CHECK_THAT(ran.out, Catch::StartsWith("B /tmp /tmp\n1000\n/function\n"));
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    CHECK(field(ran.out, set) == "0000000000000000");
  }
  CHECK(field(ran.out, "NoNewPrivs") == "1");
  CHECK(field(ran.out, "Seccomp") == "2");
  CHECK(field(ran.out, "Groups").empty());
  for (const char* name : {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"}) {
    const std::string host = std::filesystem::read_symlink(std::string("/proc/self/ns/") + name);
    CHECK_THAT(ran.out, !Contains(host));
  }
}

TEST_CASE("a command holds no descriptor but its streams") {
  AgentFixture agent;
  // The last is the folder that ls reads.
  CHECK(run(agent, {"--", "/bin/ls", "/proc/self/fd"}).out == "0\n1\n2\n3\n");
  CHECK_THAT(shell(agent, "ls -l /proc/self/fd").out, !Contains("socket:"));
}

TEST_CASE("nothing of a command is left for the next") {
  AgentFixture agent;
  CHECK(shell(agent, "echo secret >/tmp/left; echo secret >/dev/shm/left; sleep 1000 & exit 0")
            .exit == 0);
  CHECK(shell(agent, "ls /tmp /dev/shm; echo nothing").out.find("left") == std::string::npos);
  CHECK(soon([&] { return commands_of(agent).empty(); }));
}

TEST_CASE("a command that takes too long is ended, with all that it started") {
  AgentFixture agent;
  const auto began = std::chrono::steady_clock::now();
  const Ran ran =
      run(agent, {"--timeout", "300ms", "--", "/bin/sh", "-c", "sleep 1000 & sleep 1000"});
  CHECK(ran.exit == 124);
  CHECK_THAT(ran.err, Contains("timeout of 300ms"));
  CHECK(std::chrono::steady_clock::now() - began < 100s);
  CHECK(soon([&] { return commands_of(agent).empty(); }));
}

TEST_CASE("signals reach the command, and what kills it is told") {
  AgentFixture agent;
  {
    Running running =
        start(agent, "trap 'echo caught; exit 5' USR1; echo up; while :; do sleep 0.05; done");
    REQUIRE(running.prints("up"));
    running.signal(SIGUSR1);
    CHECK(running.prints("caught"));
    CHECK(running.wait() == 5);
  }
  Running running = start(agent, "echo up; exec sleep 1000");
  REQUIRE(running.prints("up"));
  running.signal(SIGTERM);
  CHECK(running.wait() == 128 + SIGTERM);
}

TEST_CASE("a client that is gone takes its command along") {
  AgentFixture agent;
  Running running = start(agent, "echo up; trap '' HUP TERM INT; sleep 1000 & wait; sleep 1000");
  REQUIRE(running.prints("up"));
  REQUIRE(commands_of(agent).size() == 1);
  running.signal(SIGKILL);
  CHECK(soon([&] { return commands_of(agent).empty(); }));
}

TEST_CASE("a command may be paused and goes on where it was") {
  AgentFixture agent;
  Running running = start(agent, "echo up; sleep 0.3; echo on");
  REQUIRE(running.prints("up"));
  const std::string path = "/sandboxes/" + commands_of(agent).at(0)["id"].get<std::string>();
  REQUIRE(agent.client().ask("POST", path + "/pause").status == 200);
  CHECK(commands_of(agent).at(0)["state"] == "paused");
  ::usleep(600'000);
  CHECK(commands_of(agent).size() == 1);
  REQUIRE(agent.client().ask("POST", path + "/resume").status == 200);
  CHECK(running.prints("on"));
  CHECK(running.wait() == 0);
  CHECK(agent.client().ask("POST", path + "/pause").status == 404);
}

TEST_CASE("stop asks first, and does not ask twice") {
  AgentFixture agent;
  Running polite =
      start(agent, "trap 'echo bye; exit 6' TERM; echo up; while :; do sleep 0.05; done");
  REQUIRE(polite.prints("up"));
  const auto id_of = [&] { return commands_of(agent).at(0)["id"].get<std::string>(); };
  CHECK(run_brood({"--socket", agent.socket(), "stop", id_of()}).exit == 0);
  CHECK(polite.wait() == 6);
  REQUIRE(soon([&] { return commands_of(agent).empty(); }));
  Running deaf = start(agent, "trap '' TERM; echo up; while :; do sleep 0.05; done");
  REQUIRE(deaf.prints("up"));
  CHECK(run_brood({"--socket", agent.socket(), "stop", "-t", "1", id_of()}).exit == 0);
  CHECK(deaf.wait() == 128 + SIGKILL);
}

TEST_CASE("only a command's sandbox takes signals: a function's and the pool's do not") {
  AgentFixture agent;
  agent.deploy("echo", "def main(event, context):\n    return event\n");
  REQUIRE(agent.invoke("echo", 1).ok());
  for (const Json& sandbox : agent.sandboxes()) {
    const std::string path = "/sandboxes/" + sandbox["id"].get<std::string>();
    CHECK(agent.client().ask("POST", path + "/signal?signal=9").status == 404);
    CHECK(agent.client().ask("POST", path + "/pause").status == 404);
  }
  CHECK(agent.invoke("echo", 2).ok());
}

TEST_CASE("one more command runs beside the first, in the same sandbox") {
  AgentFixture agent;
  Running first = start(agent, "echo shared >/tmp/file; echo up; sleep 1000");
  REQUIRE(first.prints("up"));
  const std::string id = commands_of(agent).at(0)["id"];
  const auto execute = [&](std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.begin(), {"--socket", agent.socket(), "exec"});
    return run_brood(arguments, {input, {}});
  };
  const Ran seen = execute({"-e", "A=B", "-w", "/tmp", id, "--", "/bin/sh", "-c",
                            "cat file; echo $A $PWD; cat; cat /proc/self/status; exit 5"},
                           "input\n");
  CHECK(seen.exit == 5);
  CHECK_THAT(seen.out, Catch::StartsWith("shared\nB /tmp\ninput\n"));
  for (const char* set : {"CapPrm", "CapEff", "CapBnd"}) {
    CHECK(field(seen.out, set) == "0000000000000000");
  }
  CHECK(field(seen.out, "NoNewPrivs") == "1");
  CHECK(field(seen.out, "Seccomp") == "2");
  CHECK(field(seen.out, "Uid").substr(0, 4) == "1000");
  CHECK(execute({id, "--", "/bin/ls", "/proc/self/fd"}).out == "0\n1\n2\n3\n");
  CHECK(execute({id, "--", "nothing-of-this-name"}).exit == 127);
  CHECK(execute({"--timeout", "200ms", id, "--", "sleep", "1000"}).exit == 124);
  CHECK(execute({"run.base-999", "--", "true"}).exit == 125);
  CHECK(commands_of(agent).size() == 1);
}

TEST_CASE("one more command takes signals of its own, and ends with the first") {
  AgentFixture agent;
  Running first =
      start(agent, "trap 'echo first; exit 3' USR1; echo up; while :; do sleep 0.05; done");
  REQUIRE(first.prints("up"));
  const std::string id = commands_of(agent).at(0)["id"];
  const auto more = [&](const std::string& script) {
    return Running({"--socket", agent.socket(), "exec", id, "--", "/bin/sh", "-c", script});
  };
  Running second = more("trap 'echo second; exit 2' USR1; echo up; while :; do sleep 0.05; done");
  REQUIRE(second.prints("up"));
  second.signal(SIGUSR1);
  CHECK(second.prints("second"));
  CHECK(second.wait() == 2);
  Running gone = more("echo up; exec sleep 1000");
  REQUIRE(gone.prints("up"));
  gone.signal(SIGKILL);
  // pid 1, the first, and its sleep.
  CHECK(soon([&] { return agent.processes_of(commands_of(agent).at(0)).size() <= 3; }));
  Running third = more("echo up; sleep 1000");
  REQUIRE(third.prints("up"));
  first.signal(SIGUSR1);
  CHECK(first.wait() == 3);
  CHECK(third.wait() == 128 + SIGKILL);
}

TEST_CASE("a command has a terminal: its size, its signals, its end") {
  AgentFixture agent;
  OnTerminal terminal({"--socket", agent.socket(), "run", "-it", "--", "/bin/sh"});
  REQUIRE(terminal.shows("$ "));
  terminal.type("test -t 0 && test -t 2 && stty size && echo con''trolled </dev/tty\n");
  CHECK(terminal.shows("31 91\r\n"));
  CHECK(terminal.shows("controlled"));
  terminal.type("sleep 1000\n");
  ::usleep(300'000);
  terminal.type("\x03");
  terminal.type("echo inter''rupted\n");
  CHECK(terminal.shows("interrupted"));
  terminal.type("exit 9\n");
  CHECK(terminal.wait() == 9);
}

TEST_CASE("a terminal that is hung up takes its command along") {
  AgentFixture agent;
  OnTerminal terminal({"--socket", agent.socket(), "run", "-it", "--", "/bin/sh", "-c",
                       "trap '' HUP; echo up; while :; do sleep 1; done"});
  REQUIRE(terminal.shows("up"));
  terminal.hang_up();
  CHECK(soon([&] { return commands_of(agent).empty(); }));
}

TEST_CASE("judges' limits: output, file size, processor time, and what was used") {
  AgentFixture agent;
  const std::string stats = agent.scratch() + "/stats.json";
  const auto told = [&] { return Json::parse(base::read_file(stats).value()); };
  CHECK(run(agent, {"--stats-json", stats, "--output-limit", "1KiB", "--", "yes"}).out.size() ==
        1024);
  CHECK(told()["ending"] == "output_limit");
  CHECK(run(agent, {"--stats-json", stats, "--file-size", "4KiB", "--", "/bin/sh", "-c",
                    "head -c 100000 /dev/zero >/tmp/large"})
            .exit != 0);
  const Ran spun = run(agent, {"--stats-json", stats, "--cpu-seconds", "1", "--", "/bin/sh", "-c",
                               "while :; do :; done"});
  CHECK(spun.exit == 128 + SIGXCPU);
  CHECK(told()["ending"] == "killed");
  CHECK(told()["user_us"].get<std::uint64_t>() + told()["system_us"].get<std::uint64_t>() >
        800'000);
}

TEST_CASE("a command is held to its memory and its processes") {
  need_limits();
  AgentFixture agent;
  const std::string stats = agent.scratch() + "/stats.json";
  const Ran fat = run(agent, {"-m", "32MiB", "--stats-json", stats, "--", "/bin/sh", "-c",
                              "head -c 100000000 /dev/zero | tail -c 90000000 | wc -c"});
  INFO(fat.err);
  const Json told = Json::parse(base::read_file(stats).value());
  CHECK(told["memory_peak_bytes"].get<std::uint64_t>() <= (32ULL << 20));
  CHECK(fat.out != "90000000\n");
  CHECK_THAT(run(agent, {"--pids", "4", "--", "/bin/sh", "-c",
                         "sleep 9 & sleep 9 & sleep 9 & sleep 9 & echo all"})
                 .out,
             !Contains("all"));
}

TEST_CASE("an agent that stops tells whoever waits for a command") {
  AgentFixture agent({.flags = {"--drain-timeout=200ms"}});
  Running running = start(agent, "echo up; sleep 1000");
  REQUIRE(running.prints("up"));
  agent.stop();
  CHECK(running.wait() == 125);
}

TEST_CASE("many commands at once each get what is theirs") {
  AgentFixture agent;
  std::vector<std::future<Ran>> runs;
  for (int i = 0; i < 24; ++i) {
    runs.push_back(std::async(std::launch::async, [&agent, i] {
      return shell(agent, "cat; exit " + std::to_string(i), "input " + std::to_string(i));
    }));
  }
  for (int i = 0; i < 24; ++i) {
    const Ran ran = runs[static_cast<std::size_t>(i)].get();
    CHECK(ran.exit == i);
    CHECK(ran.out == "input " + std::to_string(i));
  }
}
