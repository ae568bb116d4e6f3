// Commands that are kept: `brood run` detached, with a name, or left at their terminal, and what
// is known of them afterwards.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <future>
#include <set>
#include <thread>

#include "tests/cmd/program.h"
#include "tests/integration/on_terminal.h"
#include "tests/support/agent_fixture.h"

namespace {

using namespace tests;
using Catch::Contains;

Ran brood(const AgentFixture& agent, std::vector<std::string> arguments,
          const std::string& input = "") {
  arguments.insert(arguments.begin(), {"--socket", agent.socket()});
  return run_brood(arguments, {input, {}});
}

// Its id.
std::string detached(const AgentFixture& agent, const std::string& script,
                     std::vector<std::string> flags = {}) {
  std::vector<std::string> arguments{"run", "-d"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  arguments.insert(arguments.end(), {"--", "/bin/sh", "-c", script});
  const Ran ran = brood(agent, arguments);
  CAPTURE(ran.err);
  REQUIRE(ran.exit == 0);
  REQUIRE(ran.out.size() == 13);
  return ran.out.substr(0, 12);
}

Json inspected(const AgentFixture& agent, const std::string& which) {
  const Ran ran = brood(agent, {"inspect", which});
  CAPTURE(ran.err);
  REQUIRE(ran.exit == 0);
  return Json::parse(ran.out)[0];
}

std::string log_of(const AgentFixture& agent, const std::string& which) {
  return brood(agent, {"logs", which}).out;
}

bool prints(const AgentFixture& agent, const std::string& which, const std::string& text) {
  return soon([&] { return log_of(agent, which).find(text) != std::string::npos; });
}

}  // namespace

TEST_CASE("a detached command runs on, prints to its log, and is known until it is removed") {
  AgentFixture agent;
  const std::string id = detached(agent, "echo out; echo err >&2; exit 7", {"--name", "web"});
  CHECK(brood(agent, {"wait", "web"}).out == "7\n");
  const Ran log = brood(agent, {"logs", "web"});
  CHECK(log.out == "out\n");
  CHECK(log.err == "err\n");
  const Json known = inspected(agent, id.substr(0, 6));
  CHECK(known["id"] == id);
  CHECK(known["name"] == "web");
  CHECK(known["state"] == "ended");
  CHECK(known["end"]["ending"] == "exited");
  CHECK(known["end"]["exit_code"] == 7);
  CHECK(known["arguments"] == Json({"/bin/sh", "-c", "echo out; echo err >&2; exit 7"}));
  CHECK_THAT(brood(agent, {"ps"}).out, !Contains("web"));
  CHECK_THAT(brood(agent, {"ps", "-a"}).out, Contains("web") && Contains("exited (7)"));
  CHECK(brood(agent, {"rm", "web"}).out == "web\n");
  CHECK(brood(agent, {"inspect", "web"}).exit == 4);
  CHECK(brood(agent, {"logs", "web"}).exit == 4);
  CHECK(brood(agent, {"rm", "web"}).exit == 4);
}

TEST_CASE("a name is one command's, and free again when that is removed") {
  AgentFixture agent;
  detached(agent, "exit 0", {"--name", "one"});
  CHECK(brood(agent, {"wait", "one"}).exit == 0);
  const Ran second = brood(agent, {"run", "--name", "one", "--", "true"});
  CHECK(second.exit == 125);
  CHECK_THAT(second.err, Contains("the name 'one' is that of command"));
  CHECK(brood(agent, {"rm", "one"}).exit == 0);
  CHECK(brood(agent, {"run", "--name", "one", "--", "true"}).exit == 0);
  CHECK(brood(agent, {"inspect", "one"}).exit == 4);  // it was not detached: gone afterwards
  for (const char* bad : {"-x", "A", "a/b", "0123456789ab"}) {
    CHECK_THAT(brood(agent, {"run", "--name", bad, "--", "true"}).err, Contains("name"));
  }
}

TEST_CASE("verbs on a running command take its name, and stop sends its own signal") {
  AgentFixture agent;
  const std::string script =
      "trap 'echo usr1; exit 3' USR1; trap 'echo term; exit 4' TERM; echo up; "
      "while :; do sleep 0.05; done";
  detached(agent, script, {"--name", "a", "--stop-signal", "SIGUSR1"});
  detached(agent, script, {"--name", "b"});
  REQUIRE(prints(agent, "a", "up"));
  REQUIRE(prints(agent, "b", "up"));
  CHECK(brood(agent, {"exec", "a", "--", "echo", "inside"}).out == "inside\n");
  CHECK_THAT(brood(agent, {"stats"}).out, Contains("a") && Contains("running"));
  CHECK(brood(agent, {"pause", "a"}).exit == 0);
  CHECK_THAT(brood(agent, {"stats", "a"}).out, Contains("paused"));
  CHECK(brood(agent, {"resume", "a"}).exit == 0);
  const Ran refused = brood(agent, {"rm", "a"});
  CHECK(refused.exit == 5);
  CHECK_THAT(refused.err, Contains("runs: stop it first"));
  CHECK(brood(agent, {"stop", "a", "b"}).out == "a\nb\n");
  CHECK(brood(agent, {"wait", "a", "b"}).out == "3\n4\n");
  CHECK(log_of(agent, "a") == "up\nusr1\n");
  CHECK(log_of(agent, "b") == "up\nterm\n");
  CHECK(brood(agent, {"stats", "a"}).exit == 1);
  const std::string deaf = detached(agent, "trap '' TERM; echo up; while :; do sleep 1; done");
  REQUIRE(prints(agent, deaf, "up"));
  CHECK(brood(agent, {"stop", "-t", "1", deaf}).exit == 0);
  CHECK(inspected(agent, deaf)["end"]["signal"] == 9);
}

TEST_CASE("removing by force kills what runs, and with --rm nothing is known afterwards") {
  AgentFixture agent;
  const std::string id = detached(agent, "sleep 60");
  CHECK(brood(agent, {"rm", "-f", id}).exit == 0);
  CHECK(brood(agent, {"inspect", id}).exit == 4);
  CHECK(soon([&] { return agent.sandboxes().size() <= 4; }));
  const std::string brief = detached(agent, "sleep 600", {"--rm"});
  CHECK(inspected(agent, brief)["keep"] == false);
  CHECK(brood(agent, {"kill", brief}).exit == 0);
  CHECK(soon([&] { return brood(agent, {"inspect", brief}).exit == 4; }));
}

TEST_CASE("a command that is waited for can be kept, too") {
  AgentFixture agent;
  const Ran ran = brood(agent, {"run", "--rm=false", "--name", "job", "--memory", "64MiB", "--env",
                                "A=B", "--", "/bin/sh", "-c", "echo direct; exit 3"});
  CHECK(ran.exit == 3);
  CHECK(ran.out == "direct\n");
  const Json known = inspected(agent, "job");
  CHECK(known["end"]["exit_code"] == 3);
  CHECK(known["memory"] == 64 << 20);
  CHECK(known["environment"]["A"] == "B");
  CHECK(log_of(agent, "job").empty());  // it went to the caller
}

TEST_CASE("a log is followed to the command's end") {
  AgentFixture agent;
  const std::string id = detached(agent, "for i in 1 2 3; do echo $i; sleep 0.2; done; printf 4");
  const Ran followed = brood(agent, {"logs", "-f", id});
  CHECK(followed.exit == 0);
  CHECK(followed.out == "1\n2\n3\n4\n");
  CHECK(brood(agent, {"logs", "-f", "-n", "1", id}).out == "4\n");
  CHECK_THAT(brood(agent, {"logs", "-t", id}).out, Contains("T") && Contains("Z 1\n"));
}

TEST_CASE("a flood of a detached command is rotated, and its end is told") {
  AgentFixture agent;
  const std::string id = detached(
      agent, "yes 0123456789012345678901234567890123456789 | head -c 20500000; echo the end");
  CHECK(brood(agent, {"wait", id}).out == "0\n");
  CHECK(brood(agent, {"logs", "-n", "1", id}).out == "the end\n");
  std::uint64_t bytes = 0;
  for (const auto& file :
       std::filesystem::directory_iterator(agent.state_dir() + "/command-logs/" + id)) {
    bytes += file.file_size();
  }
  CHECK(bytes < (5U << 20));
}

TEST_CASE("attaching takes the streams, and leaving gives them back to the log") {
  AgentFixture agent;
  const std::string id =
      detached(agent, "echo before; while read line; do echo got $line; done; exit 9", {"-i"});
  REQUIRE(prints(agent, id, "before"));
  const Ran attached = brood(agent, {"attach", id}, "one\ntwo\n");
  CHECK(attached.out == "got one\ngot two\n");
  CHECK(attached.exit == 9);  // the end of the input was the command's
  CHECK(log_of(agent, id) == "before\n");
  CHECK(brood(agent, {"attach", id}).exit == 5);

  const std::string deaf =
      detached(agent, "cat; echo no input; while :; do sleep 0.1; echo tick; done");
  REQUIRE(prints(agent, deaf, "no input"));
  {
    Running watching({"--socket", agent.socket(), "attach", deaf});
    CHECK(soon([&] { return inspected(agent, deaf)["attached"] == true; }));
    const Ran second = brood(agent, {"attach", deaf});
    CHECK(second.exit == 5);
    CHECK_THAT(second.err, Contains("attached"));
    watching.signal(SIGKILL);
    CHECK(watching.wait() == 137);
  }
  CHECK(soon([&] { return inspected(agent, deaf)["attached"] == false; }));
  const std::size_t before = log_of(agent, deaf).size();
  CHECK(soon([&] { return log_of(agent, deaf).size() > before; }));
  CHECK(inspected(agent, deaf)["state"] == "running");
}

TEST_CASE("a terminal is left by the detach keys, and come back to") {
  AgentFixture agent;
  OnTerminal first({"--socket", agent.socket(), "run", "-it", "--name", "tty", "--", "/bin/sh"});
  first.type("echo here$((1+1))\n");
  REQUIRE(first.shows("here2"));
  first.type("\x10\x11");  // ctrl-p ctrl-q
  CHECK(first.shows("brood attach"));
  CHECK(first.wait() == 0);
  CHECK(inspected(agent, "tty")["state"] == "running");
  CHECK(inspected(agent, "tty")["attached"] == false);

  OnTerminal second({"--socket", agent.socket(), "attach", "--detach-keys", "ctrl-x", "tty"});
  second.type("echo there$((2+2)); stty size\n");
  CHECK(second.shows("there4"));
  CHECK(second.shows("31 91"));
  second.type("\x18");
  CHECK(second.wait() == 0);
  REQUIRE(soon([&] { return inspected(agent, "tty")["attached"] == false; }));

  OnTerminal third({"--socket", agent.socket(), "attach", "tty"});
  third.type("exit 5\n");
  CHECK(third.wait() == 5);
  CHECK(soon([&] { return brood(agent, {"inspect", "tty"}).exit == 4; }));
}

TEST_CASE("what a terminal prints while nobody is there goes to its log, without stopping it") {
  AgentFixture agent;
  const std::string id = detached(
      agent,
      "test -t 0 && echo a terminal; i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done",
      {"-t"});
  CHECK(brood(agent, {"wait", id}).out == "0\n");
  const std::string log = brood(agent, {"logs", "-n", "10000", id}).out;
  CHECK_THAT(log, Contains("a terminal") && Contains("line 2999"));
}

TEST_CASE("records outlive the agent, and tell what it did not see the end of") {
  AgentFixture agent;
  const std::string done = detached(agent, "echo kept; exit 2");
  CHECK(brood(agent, {"wait", done}).out == "2\n");
  const std::string running = detached(agent, "echo up; sleep 600");
  const std::string brief = detached(agent, "sleep 600", {"--rm"});
  REQUIRE(prints(agent, running, "up"));
  agent.kill();
  agent.start();
  CHECK(inspected(agent, done)["end"]["exit_code"] == 2);
  CHECK(log_of(agent, done) == "kept\n");
  const Json cut = inspected(agent, running);
  CHECK(cut["state"] == "ended");
  CHECK(cut["end"]["ending"] == "internal");
  CHECK_THAT(cut["end"]["message"].get<std::string>(), Contains("the agent ended before"));
  CHECK(log_of(agent, running) == "up\n");
  CHECK(brood(agent, {"inspect", brief}).exit == 4);
  CHECK(brood(agent, {"rm", done, running}).exit == 0);
  CHECK(std::filesystem::is_empty(agent.state_dir() + "/command-logs"));
}

TEST_CASE("an agent that stops asks what runs detached to end, then ends it, and records that") {
  AgentFixture agent({.flags = {"--drain-timeout=2s"}});
  const std::string script = "echo up; while :; do sleep 0.05; done";
  const std::string hears = detached(agent, "trap 'echo bye; exit 6' TERM; " + script);
  const std::string deaf = detached(agent, "trap '' TERM; " + script);
  REQUIRE(prints(agent, hears, "up"));
  REQUIRE(prints(agent, deaf, "up"));
  agent.stop();
  agent.start();
  CHECK(inspected(agent, hears)["end"]["exit_code"] == 6);
  CHECK(log_of(agent, hears) == "up\nbye\n");
  const Json known = inspected(agent, deaf);
  CHECK(known["end"]["ending"] == "internal");
  CHECK_THAT(known["end"]["message"].get<std::string>(), Contains("the agent stopped before"));
}

TEST_CASE("a command that cannot begin is not kept, and one that is not found says so") {
  AgentFixture agent;
  const Ran refused = brood(agent, {"run", "-d", "-w", "/nowhere", "--name", "x", "--", "true"});
  CHECK(refused.exit == 0);  // it has a sandbox; what it does there is told by its record
  CHECK(brood(agent, {"wait", "x"}).out == "125\n");
  const std::string id = detached(agent, "nothing-of-this-name");
  CHECK(brood(agent, {"wait", id}).out == "127\n");
  CHECK(brood(agent, {"run", "-d", "--image", "nowhere", "--name", "y", "--", "true"}).exit == 125);
  CHECK(brood(agent, {"inspect", "y"}).exit == 4);
  CHECK(brood(agent, {"run", "-d", "--standalone", "--", "true"}).exit == 2);
}

TEST_CASE("what was acknowledged is known to the next agent, whenever this one is killed") {
  AgentFixture agent;
  std::set<std::string> acknowledged;
  for (int round = 0; round < 8; ++round) {
    REQUIRE(brood(agent, {"run", "--", "true"}).exit == 0);  // sandboxes are ready
    std::vector<std::future<Ran>> asked;
    for (int i = 0; i < 4; ++i) {
      asked.push_back(std::async(std::launch::async, [&] {
        return brood(agent, {"run", "-d", "--", "/bin/sh", "-c", "exit 3"});
      }));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5 << round));
    agent.kill();
    for (auto& one : asked) {
      if (const Ran ran = one.get(); ran.exit == 0) {
        acknowledged.insert(ran.out.substr(0, 12));
      }
    }
    agent.start();
  }
  std::set<std::string> known;
  const Json document = agent.client().get("/commands");
  for (const Json& one : document["commands"]) {
    CHECK(one["state"] == "ended");
    CHECK(one["end"]["exit_code"].get<int>() != 0);
    known.insert(one["id"].get<std::string>());
  }
  CHECK(std::includes(known.begin(), known.end(), acknowledged.begin(), acknowledged.end()));
  CHECK(!acknowledged.empty());
}

TEST_CASE("whoever waits for a command that is kept is told when the agent stops") {
  AgentFixture agent({.flags = {"--drain-timeout=1s"}});
  std::vector<std::future<Ran>> waiting;
  for (const char* more : {"--rm=false", "--name=one"}) {
    waiting.push_back(std::async(std::launch::async, [&agent, more] {
      return brood(agent, {"run", more, "--", "/bin/sh", "-c", "echo up; exec sleep 600"});
    }));
  }
  detached(agent, "trap '' TERM; while :; do sleep 1; done", {"--name", "two"});
  waiting.push_back(std::async(std::launch::async, [&agent] {
    return brood(agent, {"wait", "two"});
  }));
  REQUIRE(soon([&] {
    const Json known = agent.client().get("/commands");
    return std::count_if(known["commands"].begin(), known["commands"].end(),
                         [](const Json& one) { return one["state"] == "running"; }) == 3;
  }));
  // Until the last of them waits, too.
  std::this_thread::sleep_for(std::chrono::duration<double>(0.7 * slowness()));
  agent.stop();
  for (std::size_t i = 0; i < 2; ++i) {
    const Ran ran = waiting[i].get();
    CHECK(ran.exit == 125);
    CHECK_THAT(ran.err, Contains("the agent stopped before"));
  }
  CHECK(waiting[2].get().out == "125\n");
}
