// Native functions, by a real agent: a process for each invocation, and workers that speak HTTP.
#include <fcntl.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "base/file.h"
#include "tests/cmd/program.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/skip.h"

namespace {

using namespace tests;
using Catch::Contains;

AgentOptions with_base(std::vector<std::string> flags = {}) {
  return {.flags = std::move(flags), .pool_min = 1, .pool_max = 4, .runtimes = {"base"}};
}

Json native(Json settings = Json::object()) {
  settings["runtime"] = "base";
  if (!settings.contains("handler")) {
    settings["handler"] = "main";
  }
  return settings;
}

Json deploy(AgentFixture& agent, const std::string& name, std::string_view script,
            Json settings = Json::object()) {
  return agent.deploy_code(name, "#!/bin/sh\n" + std::string(script), "main",
                           native(std::move(settings)));
}

Json deploy_worker(AgentFixture& agent, const std::string& name, const Json& listen,
                   Json settings = Json::object()) {
  settings["listen"] = listen;
  const auto program = base::read_file_at(AT_FDCWD, BROOD_TEST_WORKER, 8 << 20);
  REQUIRE(program);
  return agent.deploy_code(name, *program, "main", native(std::move(settings)));
}

std::string body_of(const Invoked& answer) {
  INFO(answer.body);
  REQUIRE(answer.ok());
  return answer.body;
}

}  // namespace

TEST_CASE("a program gets its payload on standard input, and what it prints is the answer") {
  AgentFixture agent(with_base());
  deploy(agent, "upper", "tr a-z A-Z");
  CHECK(body_of(agent.invoke_bytes("upper", "abc")) == "ABC");
  const Invoked again = agent.invoke_bytes("upper", "def");
  CHECK(body_of(again) == "DEF");
  CHECK(again.start == "warm");
  CHECK(again.headers.at("content-type") == "application/octet-stream");
  // Neither has to read, and bytes are bytes.
  deploy(agent, "deaf", "printf 'a\\000b'");
  CHECK(body_of(agent.invoke_bytes("deaf", std::string(1 << 20, 'x'))) == std::string("a\0b", 3));
  deploy(agent, "mirror", "cat");
  const std::string large(3 << 20, 'y');
  CHECK(body_of(agent.invoke_bytes("mirror", large)) == large);
  CHECK(body_of(agent.invoke_bytes("mirror", "")).empty());
}

TEST_CASE("a program finds who it is, where it is and what invocation it serves") {
  AgentFixture agent(with_base());
  deploy(agent, "who",
         "echo \"$BROOD_FUNCTION $BROOD_FUNCTION_VERSION $BROOD_MEMORY_BYTES $OWN $(pwd) $(id -u) "
         "$BROOD_CONTENT_TYPE $BROOD_INVOCATION_ID\"; test \"$BROOD_REMAINING_MS\" -gt 1000 || "
         "echo late",
         {{"environment", {{"OWN", "a b"}}}, {"memory", "64MiB"}});
  const Invoked answer = agent.invoke_bytes("who", "x", "text/plain");
  CHECK(body_of(answer) == "who 1 67108864 a b /function 1000 text/plain " + answer.id + "\n");
}

TEST_CASE("how a program ends is how its invocation ends, and the instance serves on") {
  AgentFixture agent(with_base());
  deploy(agent, "ends",
         "read -r what || true\n"
         "case $what in\n"
         "  status) echo oops >&2; exit 7 ;;\n"
         "  signal) kill -SEGV $$ ;;\n"
         "  slow) sleep 60 ;;\n"
         "  large) head -c 10000000 /dev/zero ;;\n"
         "  *) echo fine ;;\n"
         "esac",
         {{"timeout", "2s"}});
  const Invoked status = agent.invoke_bytes("ends", "status");
  CHECK(status.error()["ending"] == "handler_error");
  CHECK(status.error()["type"] == "ExitStatus");
  CHECK(status.error()["message"] == "the program left with status 7");
  CHECK_THAT(agent.log_of("ends", status.id), Catch::VectorContains(std::string("oops")));
  const Json signal = agent.invoke_bytes("ends", "signal").error();
  CHECK(signal["type"] == "Signal");
  CHECK(signal["message"] == "the program was killed by signal 11 (SIGSEGV)");
  CHECK(agent.invoke_bytes("ends", "large").ending == "response_too_large");
  const Invoked after = agent.invoke_bytes("ends", "on");
  CHECK(body_of(after) == "fine\n");
  CHECK(after.start == "warm");
  CHECK(agent.invoke_bytes("ends", "slow").ending == "timeout");
}

TEST_CASE("a program that the kernel kills for its memory ends as out_of_memory") {
  need_limits();
  AgentFixture agent(with_base());
  deploy(agent, "greedy", "read -r what; test \"$what\" = on || tail /dev/zero; echo fine",
         {{"memory", "32MiB"}});
  const Json error = agent.invoke_bytes("greedy", "").error();
  CHECK(error["ending"] == "out_of_memory");
  CHECK(error["limit"] == "32MiB");
  CHECK(body_of(agent.invoke_bytes("greedy", "on\n")) == "fine\n");
}

TEST_CASE("what a program leaves behind is gone before the next invocation") {
  AgentFixture agent(with_base());
  deploy(agent, "leaves",
         "(setsid sleep 600 &)\n"
         "n=0; for p in /proc/[0-9]*; do read -r c < $p/comm; test \"$c\" = sleep && n=$((n+1)); "
         "done; echo $n");
  const auto sleeps = [&] {
    std::size_t count = 0;
    for (const Json& one : agent.sandboxes_of("leaves")) {
      for (const pid_t pid : agent.processes_of(one)) {
        const auto comm =
            base::read_file_at(AT_FDCWD, "/proc/" + std::to_string(pid) + "/comm", 64);
        count += comm && *comm == "sleep\n" ? 1 : 0;
      }
    }
    return count;
  };
  for (int i = 0; i < 3; ++i) {
    (void)body_of(agent.invoke_bytes("leaves", ""));
    CHECK(soon([&] { return sleeps() == 0; }));
  }
}

TEST_CASE("a program that is missing, no program or no handler at all is told") {
  AgentFixture agent(with_base());
  const Json deployed = agent.deploy_code("text", "just text", "main", native());
  const Json error = agent.invoke_bytes("text", "").error();
  CHECK(error["ending"] == "init_error");
  CHECK(error["type"] == "HandlerNotFound");
  const Json missing =
      agent.deploy_code("missing", "#!/bin/sh\n", "main", native({{"handler", "bin/other"}}));
  CHECK_THAT(missing["warnings"].dump(), Contains("bin/other"));
  CHECK(agent.invoke_bytes("missing", "").ending == "init_error");

  const std::string digest =
      Json::parse(agent.upload("#!/bin/sh\n", "main").body)["digest"].get<std::string>();
  const Response refused = agent.put("none", digest, {{"runtime", "base"}});
  CHECK(refused.status == 400);
  CHECK_THAT(refused.body, Contains("no entrypoint"));
  const Response outside = agent.put("none", digest, native({{"handler", "../main"}}));
  CHECK(outside.status == 400);
  CHECK(agent.put("none", digest, native({{"listen", 70000}})).status == 400);
}

TEST_CASE("a program can neither look into brood's process beside it nor take its socket") {
  AgentFixture agent(with_base());
  // Its parent is brood's process: nothing of it can be opened but what everyone may know.
  deploy(agent, "nosy",
         "for f in mem environ maps fd/3 exe root cwd; do\n"
         "  ( exec 3< /proc/$PPID/$f ) 2>/dev/null && echo \"opened $f\"\n"
         "done\n"
         "ls /proc/$PPID/fd 2>/dev/null\n"
         "test -e /proc/$$ && echo sees itself\n"
         "ls -l /proc/self/fd | grep -c socket || true");
  const std::string told = body_of(agent.invoke_bytes("nosy", ""));
  CHECK(told == "sees itself\n0\n");
  // To kill it ends the instance, and the invocation as what it is.
  deploy(agent, "kills", "kill -KILL $PPID; sleep 5; echo lived");
  CHECK(agent.invoke_bytes("kills", "").ending == "killed");
}

TEST_CASE("a worker lives on, on a port of its loopback and on a Unix socket") {
  AgentFixture agent(with_base());
  deploy_worker(agent, "port", 8080);
  deploy_worker(agent, "path", "/tmp/app.sock");
  for (const char* name : {"port", "path"}) {
    INFO(name);
    CHECK(body_of(agent.invoke_bytes(name, "a")) == "1 a");
    const Invoked second = agent.invoke_bytes(name, "b");
    CHECK(body_of(second) == "2 b");
    CHECK(second.start == "warm");
    CHECK(second.headers.at("content-type") == "text/plain");
    CHECK(body_of(agent.invoke_bytes(name, "chunked")) == "abcdef");
    CHECK(body_of(agent.invoke_bytes(name, "close")) == "until the end");
    CHECK(body_of(agent.invoke_bytes(name, "continue")) == "after 100");
    CHECK(soon([&] {
      const auto lines = agent.logs(name);
      return !lines.empty() && lines.front()["text"] == "worker ready";
    }));
  }
}

TEST_CASE("what a worker does wrong is told, and it is started again when it has ended") {
  AgentFixture agent(with_base({"--response-limit=1MiB"}));
  deploy_worker(agent, "worker", "8080", {{"timeout", "3s"}});
  const auto fails = [&](const char* payload) {
    INFO(payload);
    const Invoked answer = agent.invoke_bytes("worker", payload);
    REQUIRE_FALSE(answer.ok());
    return answer.error();
  };
  CHECK(body_of(agent.invoke_bytes("worker", "a")) == "1 a");
  const Json bad = fails("bad");
  CHECK(bad["type"] == "HttpStatus");
  CHECK(bad["message"] == "it answered with HTTP status 418");
  CHECK(bad["trace"] == "short and stout");
  CHECK(fails("drop")["type"] == "WorkerError");
  CHECK_THAT(fails("garbage")["message"].get<std::string>(), Contains("not HTTP"));
  CHECK(fails("endless")["ending"] == "response_too_large");
  CHECK(body_of(agent.invoke_bytes("worker", "still")).ends_with(" still"));
  CHECK(fails("die")["type"] == "WorkerError");
  const Invoked again = agent.invoke_bytes("worker", "again");
  CHECK(body_of(again) == "1 again");
  CHECK(again.start == "warm");
  CHECK(body_of(agent.invoke_bytes("worker", "leave later")) == "soon");
  CHECK(body_of(agent.invoke_bytes("worker", "b")) == "1 b");
  CHECK(fails("hang")["ending"] == "timeout");
}

TEST_CASE("a worker that does not start, or never listens, fails the invocation that began it") {
  AgentFixture agent(with_base());
  deploy(agent, "leaves", "exit 3", {{"listen", "8080"}});
  const Json left = agent.invoke_bytes("leaves", "").error();
  CHECK(left["ending"] == "init_error");
  CHECK(left["message"] == "the program left with status 3");
  deploy(agent, "silent", "sleep 60", {{"listen", "8080"}, {"timeout", "500ms"}});
  const Json silent = agent.invoke_bytes("silent", "").error();
  CHECK(silent["ending"] == "timeout");
  CHECK(silent["limit"] == "init");
}

TEST_CASE("the examples are built, deployed and answer as their words say") {
  if (std::system("command -v make c++ >/dev/null") != 0) {
    skip_because("there is no make or no compiler");
  }
  AgentFixture agent(with_base());
  const auto deploy_example = [&](const std::string& name, bool built) {
    const std::string folder = agent.scratch() + "/" + name;
    const std::string make =
        "cp -r " BROOD_TEST_EXAMPLES "/" + name + " " + folder +
        (built ? " && HOME=" + agent.scratch() + " make -s -C " + folder : std::string());
    REQUIRE(std::system(make.c_str()) == 0);
    const Ran ran =
        run_brood({"--socket", agent.socket(), "deploy", name, folder, "--runtime", "base"});
    INFO(ran.err);
    REQUIRE(ran.exit == 0);
  };
  deploy_example("greet", false);
  CHECK_THAT(body_of(agent.invoke_bytes("greet", "Ada\n")),
             Contains("Hello, Ada. This is greet, version 1"));
  deploy_example("factors", true);
  CHECK(Json::parse(body_of(agent.invoke_bytes("factors", "360")))["factors"] ==
        Json({2, 2, 2, 3, 3, 5}));
  CHECK(Json::parse(body_of(agent.invoke_bytes("factors", "1000000007")))["factors"] ==
        Json({1000000007}));
  CHECK(agent.invoke_bytes("factors", "none").error()["type"] == "ExitStatus");
  if (std::system("command -v go >/dev/null") != 0) {
    WARN("there is no go: examples/counter is not built");
    return;
  }
  deploy_example("counter", true);
  CHECK(Json::parse(body_of(agent.invoke_bytes("counter", "a b a"))) == Json({{"a", 2}, {"b", 1}}));
  CHECK(Json::parse(body_of(agent.invoke_bytes("counter", "b"))) == Json({{"a", 2}, {"b", 2}}));
}

TEST_CASE("a single program is its own handler, and names its runtime") {
  AgentFixture agent({.pool_min = 1, .pool_max = 2, .runtimes = {"base"}});
  const std::string file = agent.scratch() + "/shout";
  REQUIRE(base::replace_file_at(AT_FDCWD, file, "#!/bin/sh\ntr a-z A-Z\n", 0644));
  const Ran ran = run_brood({"--socket", agent.socket(), "deploy", "shout", file});
  INFO(ran.err);
  REQUIRE(ran.exit == 0);
  CHECK(agent.describe("shout")["settings"]["runtime"] == "native");
  CHECK(body_of(agent.invoke_bytes("shout", "x")) == "X");
}
