// Every ending of the closed set, brought about by a handler or from outside, and told apart in the
// error's document, the HTTP status, the command line's exit status and the function's log.
#include <signal.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>

#include "tests/cmd/program.h"
#include "tests/support/agent_fixture.h"

namespace {

using namespace tests;
using Catch::Matchers::Contains;

// What every client is promised for an ending.
struct Promise {
  std::string ending;
  int status;
  int exit;
};
const Promise kHandlerError{"handler_error", 500, 11};
const Promise kInitError{"init_error", 500, 12};
const Promise kTimeout{"timeout", 504, 13};
const Promise kOutOfMemory{"out_of_memory", 502, 14};
const Promise kPidsLimit{"pids_limit", 502, 15};
const Promise kKilled{"killed", 502, 16};
const Promise kPayloadTooLarge{"payload_too_large", 413, 17};
const Promise kResponseTooLarge{"response_too_large", 502, 18};
const Promise kOverloaded{"overloaded", 429, 19};
const Promise kProtocolError{"protocol_error", 502, 20};
const Promise kInternal{"internal", 500, 21};

Json doing(const std::string& what, Json more = Json::object()) {
  more["do"] = what;
  return more;
}

bool has_line(const std::vector<std::string>& lines, const std::string& text) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

// The answer's document and headers are those of `promise`, and the log has a line of it.
Json check_answer(const AgentFixture& agent, const std::string& function, const Invoked& answer,
                  const Promise& promise) {
  INFO(answer.body);
  REQUIRE(answer.ending == promise.ending);
  CHECK(answer.status == promise.status);
  CHECK(answer.headers.at("content-type") == "application/json");
  const Json error = answer.error();
  CHECK(error["code"] == promise.ending);
  CHECK(error["ending"] == promise.ending);
  CHECK_FALSE(error["message"].get<std::string>().empty());
  CHECK(error["invocation"] == answer.id);
  CHECK(soon([&] {
    return has_line(agent.log_of(function, answer.id), "brood: " + promise.ending + ": ");
  }));
  return error;
}

// The same through the command line: the exit status, and nothing on stdout.
void check_command_line(const AgentFixture& agent, const std::string& function, const Json& event,
                        const Promise& promise) {
  const Ran ran = run_brood({"--socket", agent.socket(), "invoke", function, "-d", event.dump()});
  INFO(ran.err);
  CHECK(ran.exit == promise.exit);
  CHECK(ran.out.empty());
  CHECK_THAT(ran.err, Contains(function + ": " + promise.ending + ": "));
}

// Brings an ending about both ways; returns the error of the first.
Json check_ending(const AgentFixture& agent, const std::string& function, const Json& event,
                  const Promise& promise) {
  INFO(event.dump());
  const Json error = check_answer(agent, function, agent.invoke(function, event), promise);
  check_command_line(agent, function, event, promise);
  return error;
}

void check_that_it_goes_on(const AgentFixture& agent, const std::string& function) {
  const Invoked answer = agent.invoke(function, doing("value", {{"value", 42}}));
  INFO(answer.body);
  CHECK(answer.ok());
  CHECK(answer.body == "42");
}

TEST_CASE("ok: the value is the body, on stdout and nothing else") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"));
  const Json event = doing("value", {{"value", {{"a", {1, "ü", nullptr}}}}});
  const Invoked answer = agent.invoke("f", event);
  CHECK(answer.status == 200);
  CHECK(answer.ending == "ok");
  CHECK(answer.json() == event["value"]);
  const Ran ran = run_brood({"--socket", agent.socket(), "invoke", "f", "-d", event.dump()});
  CHECK(ran.exit == 0);
  CHECK(ran.out == answer.body);
  CHECK(ran.err.empty());
  CHECK(soon([&] { return has_line(agent.log_of("f", answer.id), "about to value"); }));
  CHECK(agent.log_of("f", answer.id).size() == 1);
  CHECK(agent.describe("f")["endings"] == Json{{"ok", 2}});
}

TEST_CASE("handler_error: the handler's own exception, with its trace and what caused it") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"));
  const Json error = check_ending(agent, "f", doing("raise"), kHandlerError);
  CHECK(error["type"] == "Fault");
  CHECK(error["message"] == "no number in the request");
  const std::string trace = error["trace"];
  CHECK_THAT(trace, Contains("File \"/function/handler.py\", line 24, in parse_number\n"
                             "    return int(text)  # the line that fails\n") &&
                        Contains("ValueError: invalid literal for int() with base 10: 'twelve'") &&
                        Contains("The above exception was the direct cause of the following") &&
                        Contains("in raise_chained\n    raise Fault(") &&
                        Contains("handler.Fault: no number in the request"));
  CHECK(trace.find("/run/brood") == std::string::npos);  // no frame of brood's own

  const Json left = check_ending(agent, "f", doing("exit"), kHandlerError);
  CHECK(left["type"] == "SystemExit");
  CHECK(left["message"] == "3");
  CHECK(check_ending(agent, "f", doing("recurse"), kHandlerError)["type"] == "RecursionError");
  const Json unserialisable = check_ending(agent, "f", doing("unserialisable"), kHandlerError);
  CHECK(unserialisable["type"] == "TypeError");
  // An exception is no reason to give the instance up.
  CHECK(agent.invoke("f", doing("value")).start == "warm");

  const Invoked broken = agent.invoke_bytes("f", "{\"do\": ", "application/json");
  CHECK(check_answer(agent, "f", broken, kHandlerError)["type"] == "InvalidJSON");
}

TEST_CASE("init_error: what goes wrong before the handler can be called") {
  AgentFixture agent;
  const auto fails = [&](const std::string& name, const std::string& source,
                         const std::string& type, const std::string& message) {
    INFO(name);
    agent.deploy(name, source);
    const Json error = check_ending(agent, name, nullptr, kInitError);
    CHECK(error["type"] == type);
    CHECK_THAT(error["message"].get<std::string>(), Contains(message));
    return error;
  };
  const Json import = fails("imports", "import json\nimport no_such_module\n",
                            "ModuleNotFoundError", "No module named 'no_such_module'");
  CHECK_THAT(import["trace"].get<std::string>(),
             Contains("File \"/function/handler.py\", line 2, in <module>"));
  const Json syntax =
      fails("syntax", "def main(event, context):\n  return (\n", "SyntaxError", "was never closed");
  CHECK_THAT(syntax["trace"].get<std::string>(), Contains("File \"/function/handler.py\", line 2"));
  const Json raises = fails("raises", "TABLE = {}\nVALUE = TABLE['key']\n", "KeyError", "'key'");
  CHECK_THAT(raises["trace"].get<std::string>(),
             Contains("line 2, in <module>\n    VALUE = TABLE['key']"));
  fails("lacks", "def other(event, context): pass\n", "HandlerNotFound",
        "module 'handler' has no function 'main'");
  fails("leaves", "import os\nos._exit(4)\n", "ProcessExit", "left with status 4");
  fails("exits", "raise SystemExit(5)\n", "SystemExit", "5");
}

TEST_CASE("a deployment warns of a handler that does not compile, and of one that is not there") {
  AgentFixture agent;
  const Json broken = agent.deploy("f", "def main(:\n");
  REQUIRE(broken["warnings"].size() == 1);
  CHECK_THAT(broken["warnings"][0].get<std::string>(),
             Contains("handler.py does not compile") && Contains("line 1"));
  const Json missing = agent.deploy("g", "x = 1\n", {{"handler", "other.main"}});
  REQUIRE(missing["warnings"].size() == 1);
  CHECK_THAT(missing["warnings"][0].get<std::string>(), Contains("other.main"));
  CHECK(check_ending(agent, "g", nullptr, kInitError)["type"] == "ModuleNotFoundError");
}

TEST_CASE("timeout: the whole sandbox is dead, whatever its processes had in mind") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"), {{"timeout", "700ms"}});
  for (const char* what : {"spin", "sleep", "stop"}) {
    const auto begin = std::chrono::steady_clock::now();
    const Json error = check_ending(agent, "f", doing(what), kTimeout);
    CHECK(error["limit"] == "handler");
    CHECK_THAT(error["message"].get<std::string>(), Contains("700ms"));
    CHECK(std::chrono::steady_clock::now() - begin >= 1400ms);
  }
  const Json error = check_ending(agent, "f", doing("daemon"), kTimeout);
  CHECK(error["limit"] == "handler");
  CHECK(soon([&] { return agent.sandboxes_of("f").empty(); }));
  check_that_it_goes_on(agent, "f");
}

TEST_CASE("timeout: a process that hides from its handler's end does not outlive the sandbox") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"), {{"timeout", "3s"}, {"reuse", false}});
  auto caller = agent.invoke_later("f", doing("daemon"));
  std::vector<pid_t> inside;
  // pid 1, the handler, and the daemon.
  const bool started = soon([&] {
    const auto bound = agent.sandboxes_of("f");
    inside = bound.empty() ? std::vector<pid_t>{} : agent.processes_of(bound[0]);
    return inside.size() == 3;
  });
  REQUIRE(started);
  CHECK(caller.get().ending == "timeout");
  CHECK(soon([&] {
    return std::all_of(inside.begin(), inside.end(),
                       [](pid_t pid) { return ::kill(pid, 0) != 0 && errno == ESRCH; });
  }));

  // The handler answered in time: what it has left behind goes with the sandbox just the same.
  const Invoked answer = agent.invoke("f", doing("daemon", {{"seconds", 0}}));
  CHECK(answer.ok());
  CHECK(soon([&] { return agent.sandboxes_of("f").empty(); }));
}

TEST_CASE("timeout: one while the handler's module is loaded says so") {
  AgentFixture agent;
  agent.deploy("f", "import time\ntime.sleep(600)\n", {{"timeout", "500ms"}});
  const Json error = check_ending(agent, "f", nullptr, kTimeout);
  CHECK(error["limit"] == "init");
  CHECK_THAT(error["message"].get<std::string>(), Contains("loading the handler"));
}

TEST_CASE("out_of_memory: told with the limit, and not as a kill") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"), {{"memory", "64MiB"}});
  const Json error = check_ending(agent, "f", doing("memory", {{"mebibytes", 128}}), kOutOfMemory);
  CHECK(error["limit"] == "64MiB");
  CHECK_FALSE(error.contains("signal"));
  CHECK(agent.invoke("f", doing("memory", {{"mebibytes", 8}})).ok());
}

TEST_CASE("pids_limit: told where the host counts processes, held everywhere") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"), {{"pids", 12}});
  if (agent.enforces_limits()) {
    const Json error = check_ending(agent, "f", doing("forks"), kPidsLimit);
    CHECK(error["limit"] == "12");
  } else {
    // RLIMIT_NPROC refuses, but nothing tells the agent so: the handler's own error is what is
    // left.
    const Json error = check_ending(agent, "f", doing("forks"), kHandlerError);
    CHECK(error["type"] == "BlockingIOError");
  }
}

TEST_CASE("killed: by which signal, or for which system call") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"));
  for (const int number : {SIGKILL, SIGSEGV, SIGABRT, SIGTERM}) {
    const Json error = check_ending(agent, "f", doing("signal", {{"signal", number}}), kKilled);
    CHECK(error["signal"] == number);
    CHECK_FALSE(error.contains("syscall"));
  }
  CHECK(check_ending(agent, "f", doing("segfault"), kKilled)["signal"] == SIGSEGV);
  for (const char* call : {"reboot", "open_by_handle_at", "init_module"}) {
    for (const char* who : {"deadly", "deadly in a child"}) {
      const Json error = check_ending(agent, "f", doing(who, {{"call", call}}), kKilled);
      CHECK(error["syscall"] == call);
      CHECK(error["signal"] == SIGSYS);
      CHECK_THAT(error["message"].get<std::string>(), Contains(call));
    }
  }
  check_that_it_goes_on(agent, "f");
}

#if defined(__x86_64__)
TEST_CASE("killed: a system call by another ABI") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"));
  const Json x32 = check_ending(agent, "f", doing("x32"), kKilled);
  CHECK(x32["signal"] == SIGSYS);
  CHECK_THAT(x32["message"].get<std::string>(), Contains("another ABI"));
  // A kernel without 32-bit emulation faults before seccomp is asked.
  const Json i386 = check_ending(agent, "f", doing("i386"), kKilled);
  CHECK((i386["signal"] == SIGSYS || i386["signal"] == SIGSEGV));
}
#endif

TEST_CASE("a handler's process that leaves instead of answering is the handler's error") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"));
  for (const int status : {0, 7}) {
    const Json error =
        check_ending(agent, "f", doing("_exit", {{"status", status}}), kHandlerError);
    CHECK(error["type"] == "ProcessExit");
    CHECK_THAT(error["message"].get<std::string>(),
               Contains("left with status " + std::to_string(status)));
  }
}

TEST_CASE(
    "payload_too_large and response_too_large: at the limit it passes, a byte over it does "
    "not") {
  AgentFixture agent({.flags = {"--payload-limit=4KiB", "--response-limit=4KiB"}});
  agent.deploy("f", function_source("endings.py"));
  agent.deploy("size", "def main(event, context):\n    return len(event)\n");

  CHECK(agent.invoke_bytes("size", std::string(4096, 'x')).body == "4096");
  const Invoked over = agent.invoke_bytes("size", std::string(4097, 'x'));
  INFO(over.body);
  CHECK(over.status == kPayloadTooLarge.status);
  CHECK(over.ending == kPayloadTooLarge.ending);
  CHECK(over.error()["code"] == kPayloadTooLarge.ending);
  CHECK_THAT(over.error()["message"].get<std::string>(), Contains("4KiB"));
  const Ran ran =
      run_brood({"--socket", agent.socket(), "invoke", "size", "-d", std::string(4097, 'x')});
  INFO(ran.err);
  CHECK(ran.exit == kPayloadTooLarge.exit);

  const Invoked largest = agent.invoke("f", doing("large", {{"bytes", 4096}}));
  CHECK(largest.ok());
  CHECK(largest.body == std::string(4096, 'x'));
  const Json error = check_ending(agent, "f", doing("large", {{"bytes", 4097}}), kResponseTooLarge);
  CHECK_THAT(error["message"].get<std::string>(), Contains("4097") && Contains("4096"));
  CHECK(agent.invoke("f", doing("value")).start == "warm");
}

TEST_CASE("overloaded: the queue takes as many as it says") {
  AgentFixture agent;
  for (const int queue : {0, 1}) {
    const std::string name = "queue" + std::to_string(queue);
    INFO(name);
    agent.deploy(name, function_source("endings.py"), {{"concurrency", 1}, {"queue", queue}});
    std::vector<std::future<Invoked>> callers;
    for (int i = 0; i < queue + 1; ++i) {
      callers.push_back(agent.invoke_later(name, doing("sleep", {{"seconds", 2 * slowness()}})));
    }
    CHECK(soon([&] {
      const Json now = agent.describe(name);
      return now["running"] == 1 && now["queued"] == queue;
    }));
    const Json error = check_ending(agent, name, doing("value"), kOverloaded);
    CHECK_THAT(error["message"].get<std::string>(), Contains("queue is full"));
    for (auto& caller : callers) {
      CHECK(caller.get().ok());
    }
    check_that_it_goes_on(agent, name);
  }
}

TEST_CASE("protocol_error: bytes that no honest sandbox sends end it, and say which rule") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"));
  const std::vector<std::pair<std::string, std::string>> broken = {
      {"garbage", "frame of unknown kind"},
      {"unknown kind", "frame of unknown kind 99"},
      {"another's answer", "an answer for another invocation"},
      {"too many parts", "parts, not 2"},
      {"too large", "over the limit of"},
      {"ready again", "a frame of kind 16 while running"},
      {"lying lengths", "part 0 of 4294967280 bytes"}};
  for (const auto& [frame, rule] : broken) {
    const Json error = check_ending(agent, "f", doing("frame", {{"frame", frame}}), kProtocolError);
    CHECK_THAT(error["message"].get<std::string>(), Contains(rule));
  }
  const Json closed = check_ending(agent, "f", doing("close"), kProtocolError);
  CHECK_THAT(closed["message"].get<std::string>(), Contains("closed its socket"));
  check_that_it_goes_on(agent, "f");
}

TEST_CASE("protocol_error: a second answer ends the instance, not the next invocation") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"));
  const Invoked first =
      agent.invoke("f", doing("frame", {{"frame", "an answer"}, {"seconds", 0.1}}));
  CHECK(first.ok());
  CHECK(first.body == "\"from below\"");
  CHECK(soon([&] { return agent.sandboxes_of("f").empty(); }));
  check_that_it_goes_on(agent, "f");
}

TEST_CASE("killed from outside: the handler or pid 1") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"), {{"reuse", false}});
  for (const bool init : {false, true}) {
    INFO("pid 1: " << init);
    auto caller = agent.invoke_later("f", doing("sleep"));
    Json sandbox;
    std::vector<pid_t> inside;
    const bool runs = soon([&] {
      const auto bound = agent.sandboxes_of("f");
      if (bound.empty() || bound[0]["state"] != "running") {
        return false;
      }
      sandbox = bound[0];
      inside = agent.processes_of(sandbox);
      return inside.size() == 2;
    });
    REQUIRE(runs);
    const pid_t first = sandbox["pid"].get<pid_t>();
    CHECK(std::count(inside.begin(), inside.end(), first) == 1);
    ::kill(init ? first : inside[inside[0] == first ? 1 : 0], SIGKILL);
    CHECK(check_answer(agent, "f", caller.get(), kKilled)["signal"] == SIGKILL);
  }
  check_that_it_goes_on(agent, "f");
}

TEST_CASE("internal: a function that is removed while an invocation waits says so") {
  AgentFixture agent;
  agent.deploy("f", function_source("endings.py"), {{"concurrency", 1}});
  auto first = agent.invoke_later("f", doing("sleep", {{"seconds", slowness()}}));
  CHECK(soon([&] { return agent.describe("f")["running"] == 1; }));
  auto second = agent.invoke_later("f", doing("value"));
  CHECK(soon([&] { return agent.describe("f")["queued"] == 1; }));
  agent.remove("f");
  CHECK(first.get().ok());
  const Invoked waiting = second.get();
  INFO(waiting.body);
  CHECK(waiting.status == kInternal.status);
  CHECK(waiting.ending == kInternal.ending);
  CHECK_THAT(waiting.error()["message"].get<std::string>(), Contains("was removed"));
}

}  // namespace
