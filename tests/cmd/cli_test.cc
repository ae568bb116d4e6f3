// The command line as a user runs it: the real program against a live server.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "tests/cmd/program.h"
#include "tests/support/live_server.h"

using Catch::Contains;
using Json = nlohmann::json;
using tests::FakeService;
using tests::LiveServer;
using tests::Ran;
using tests::Running;

namespace {

Ran brood(const LiveServer& server, std::vector<std::string> arguments,
          const std::string& input = "") {
  arguments.insert(arguments.begin(), {"--socket", server.socket_path()});
  return tests::run_brood(arguments, {input, {}});
}

void write(const std::string& path, const std::string& text) {
  REQUIRE(base::replace_file_at(AT_FDCWD, path, text, 0644));
}

agent::InvocationRequest last_invocation(LiveServer& server) {
  return server.on_loop([](FakeService& fake, api::Server&) { return fake.invocations.back(); });
}

agent::DeployRequest last_deployment(LiveServer& server) {
  return server.on_loop([](FakeService& fake, api::Server&) { return fake.deployments.back(); });
}

// A folder with a handler and a manifest.
void make_function(const std::string& folder, const std::string& manifest) {
  REQUIRE(base::make_directories(folder, 0755));
  write(folder + "/handler.py", "def main(event, context):\n    return event\n");
  if (!manifest.empty()) {
    write(folder + "/brood.toml", manifest);
  }
}

}  // namespace

TEST_CASE("invoke prints the result and nothing else") {
  LiveServer server;
  const Ran ran = brood(server, {"invoke", "echo", "--data", "{\"a\": 1}"});
  CHECK(ran.exit == 0);
  CHECK(ran.out == "{\"a\": 1}");
  CHECK(ran.err.empty());
}

TEST_CASE("a payload comes from the command line, a file or standard input") {
  LiveServer server;
  const tests::ScratchDirectory scratch;
  write(scratch.path() + "/payload", "[\"file\"]");
  CHECK(brood(server, {"invoke", "echo", "--data", "@" + scratch.path() + "/payload"}).out ==
        "[\"file\"]");
  CHECK(brood(server, {"invoke", "echo", "--data", "@-"}, "[\"stdin\"]").out == "[\"stdin\"]");
  CHECK(brood(server, {"invoke", "echo"}, "[\"stdin\"]").out == "[\"stdin\"]");
  CHECK(brood(server, {"invoke", "echo"}).out == "null");
  const Ran missing = brood(server, {"invoke", "echo", "--data", "@/nonexistent"});
  CHECK(missing.exit == 2);
  CHECK_THAT(missing.err, Contains("/nonexistent"));
}

TEST_CASE("a payload goes as JSON when it is JSON, else as bytes, unless told") {
  LiveServer server;
  brood(server, {"invoke", "plain", "--data", "{\"a\": [1]}"});
  CHECK((last_invocation(server).kind == agent::ContentKind::json));
  brood(server, {"invoke", "plain", "--data", "GNU GENERAL PUBLIC LICENSE"});
  CHECK((last_invocation(server).kind == agent::ContentKind::bytes));
  brood(server, {"invoke", "plain", "--data", "1", "--content-type", "text/plain"});
  CHECK(last_invocation(server).content_type == "text/plain");
}

TEST_CASE("a payload with any bytes arrives as it is") {
  LiveServer server;
  std::string bytes(50'000, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31);
  const bool same = brood(server, {"invoke", "echo"}, bytes).out == bytes;
  CHECK(same);
}

TEST_CASE("every ending has an exit status and a message of its own, and no output") {
  LiveServer server;
  for (std::size_t i = 1; i < agent::kEndingCount; ++i) {
    const auto ending = static_cast<agent::Ending>(i);
    const std::string name(agent::ending_name(ending));
    CAPTURE(name);
    const Ran ran = brood(server, {"invoke", "end-" + name, "--data", "1"});
    CHECK(ran.exit == 10 + static_cast<int>(i));
    CHECK(ran.exit == agent::exit_code_of(ending));
    CHECK(ran.out.empty());
    CHECK_THAT(ran.err, Contains("brood: end-" + name + ": " + name + ": it ended as " + name));
  }
  CHECK_THAT(brood(server, {"invoke", "end-handler_error"}).err,
             Contains("\nTraceback (most recent call last):\n"));
}

TEST_CASE("the exit statuses are in the help") {
  const std::string help = tests::run_brood({"--help"}).out;
  for (std::size_t i = 1; i < agent::kEndingCount; ++i) {
    const auto ending = static_cast<agent::Ending>(i);
    CHECK_THAT(help, Contains(std::to_string(agent::exit_code_of(ending)) + "  " +
                              std::string(agent::ending_name(ending))));
  }
}

TEST_CASE(
    "invoke --trace shows the stages on stderr, --json everything on stdout, -o writes a file") {
  LiveServer server;
  const tests::ScratchDirectory scratch;
  const Ran traced = brood(server, {"invoke", "echo", "--data", "1", "--trace"});
  CHECK(traced.out == "1");
  CHECK_THAT(traced.err, Contains("cold start") && Contains("queued") && Contains("250.0") &&
                             Contains("248.5"));
  const Json json = Json::parse(brood(server, {"invoke", "echo", "--data", "[1]", "--json"}).out);
  CHECK(json["ending"] == "ok");
  CHECK(json["result"] == Json::array({1}));
  const Ran failed = brood(server, {"invoke", "end-timeout", "--json"});
  CHECK(failed.exit == 13);
  CHECK(Json::parse(failed.out)["error"]["limit"] == "handler");
  const std::string file = scratch.path() + "/out";
  CHECK(brood(server, {"invoke", "echo", "--data", "7", "-o", file}).out.empty());
  CHECK(base::read_file(file).value() == "7");
}

TEST_CASE("a function that is not there is exit status 4") {
  LiveServer server;
  for (const char* verb : {"invoke", "describe", "remove", "logs", "stats"}) {
    CAPTURE(verb);
    const Ran ran = brood(server, {verb, "nobody"});
    CHECK(ran.exit == 4);
    CHECK(ran.out.empty());
    CHECK_THAT(ran.err, Contains("no "));
  }
}

TEST_CASE("without an agent the exit status is 3 and the message says what to do") {
  const Ran ran = tests::run_brood({"--socket", "/nonexistent/brood.sock", "list"});
  CHECK(ran.exit == 3);
  CHECK_THAT(ran.err, Contains("/nonexistent/brood.sock") && Contains("broodd"));
  const Ran version = tests::run_brood({"version", "--socket", "/nonexistent/brood.sock"});
  CHECK(version.exit == 3);
  CHECK_THAT(version.out, Contains("client " BROOD_VERSION));
}

TEST_CASE("the socket is told by flag, else by the environment") {
  LiveServer server;
  CHECK(tests::run_brood({"version"}, {"", {{"BROOD_SOCKET", server.socket_path()}}}).exit == 0);
  CHECK(tests::run_brood({"version", "--socket", server.socket_path()},
                         {"", {{"BROOD_SOCKET", "/nonexistent"}}})
            .exit == 0);
}

TEST_CASE("a command line without sense is exit status 2") {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{},
                                                    {"dance"},
                                                    {"invoke"},
                                                    {"list", "--nope"},
                                                    {"logs", "x", "-n", "-1"},
                                                    {"deploy", "x"}}) {
    CHECK(tests::run_brood(arguments).exit == 2);
  }
}

TEST_CASE("what the agent refuses is exit status 5, in the agent's words") {
  LiveServer server;
  const tests::ScratchDirectory scratch;
  make_function(scratch.path() + "/f", "");
  const Ran runtime = brood(server, {"deploy", "x", scratch.path() + "/f", "--runtime", "cobol"});
  CHECK(runtime.exit == 5);
  CHECK_THAT(runtime.err, Contains("there is no runtime 'cobol'"));
  CHECK_THAT(brood(server, {"deploy", "x", scratch.path() + "/f", "--memory", "lots"}).err,
             Contains("'memory'"));
  CHECK(brood(server, {"describe", "NO/../such name"}).exit == 5);
}

TEST_CASE("deploy packs a folder, uploads it once, and tells the version") {
  LiveServer server;
  const tests::ScratchDirectory scratch;
  make_function(scratch.path() + "/f", "");
  const Ran first = brood(server, {"deploy", "new", scratch.path() + "/f"});
  CHECK(first.exit == 0);
  CHECK(first.out.empty());
  CHECK_THAT(first.err, Contains("deployed new, version 1") && Contains("warning: handler.py"));
  CHECK(brood(server, {"deploy", "new", scratch.path() + "/f"}).exit == 0);
  CHECK(server.on_loop([](FakeService& f, api::Server&) { return f.uploaded_names.size(); }) == 1);
  const auto code = server.on_loop([](FakeService& f, api::Server&) { return *f.code.begin(); });
  CHECK(code.first == last_deployment(server).code_digest);
  CHECK_THAT(code.second, Contains("def main"));
}

TEST_CASE("deploy takes an archive as it is, and a single file with its name") {
  LiveServer server;
  const tests::ScratchDirectory scratch;
  write(scratch.path() + "/f.tar", "not really a tar, and not ours to judge");
  CHECK(brood(server, {"deploy", "a", scratch.path() + "/f.tar"}).exit == 0);
  CHECK(last_deployment(server).code_digest ==
        base::sha256_hex("not really a tar, and not ours to judge"));
  write(scratch.path() + "/my app.py", "x = 1");
  CHECK(brood(server, {"deploy", "b", scratch.path() + "/my app.py"}).exit == 5);
  write(scratch.path() + "/app.py", "x = 1");
  CHECK(brood(server, {"deploy", "b", scratch.path() + "/app.py"}).exit == 0);
  CHECK(last_deployment(server).settings.handler == "app.main");
  CHECK(server.on_loop([](FakeService& f, api::Server&) { return f.uploaded_names.back(); }) ==
        "app.py");
  CHECK(brood(server, {"deploy", "c", scratch.path() + "/nothing"}).exit == 2);
}

TEST_CASE("every flag of deploy reaches the agent") {
  LiveServer server;
  const tests::ScratchDirectory scratch;
  make_function(scratch.path() + "/f", "");
  const Ran ran = brood(server, {"deploy",
                                 "x",
                                 scratch.path() + "/f",
                                 "--runtime",
                                 "python3",
                                 "--handler",
                                 "app.go",
                                 "--memory",
                                 "64MiB",
                                 "--cpu",
                                 "0.5",
                                 "--timeout",
                                 "5s",
                                 "--pids",
                                 "16",
                                 "--concurrency",
                                 "3",
                                 "--queue",
                                 "0",
                                 "--idle",
                                 "10s",
                                 "--network",
                                 "none",
                                 "--no-reuse",
                                 "--env",
                                 "A=1",
                                 "--env",
                                 "B=x=y"});
  REQUIRE(ran.exit == 0);
  const agent::FunctionSettings settings = last_deployment(server).settings;
  CHECK(settings.handler == "app.go");
  CHECK(settings.memory_bytes == 64ULL << 20);
  CHECK(settings.milli_cpu == 500);
  CHECK(settings.timeout == std::chrono::seconds(5));
  CHECK(settings.pids == 16);
  CHECK(settings.concurrency == 3);
  CHECK(settings.queue == 0);
  CHECK(settings.idle == std::chrono::seconds(10));
  CHECK_FALSE(settings.reuse);
  CHECK(settings.environment == std::map<std::string, std::string>{{"A", "1"}, {"B", "x=y"}});
}

TEST_CASE("brood.toml says how, and flags win over it") {
  LiveServer server;
  const tests::ScratchDirectory scratch;
  const std::string folder = scratch.path() + "/f";
  make_function(folder,
                "memory = \"64MiB\"\npids = 16\nreuse = false\nenv_file = \"vars\"\n"
                "[env]\nA = \"manifest\"\nB = \"manifest\"\nC = \"manifest\"\n");
  write(folder + "/vars", "# a comment\nB=file\nC=file\n");
  REQUIRE(brood(server, {"deploy", "x", folder, "--pids", "32", "--env", "C=flag"}).exit == 0);
  const agent::FunctionSettings settings = last_deployment(server).settings;
  CHECK(settings.memory_bytes == 64ULL << 20);
  CHECK(settings.pids == 32);
  CHECK_FALSE(settings.reuse);
  CHECK(settings.environment ==
        std::map<std::string, std::string>{{"A", "manifest"}, {"B", "file"}, {"C", "flag"}});
  REQUIRE(brood(server, {"deploy", "x", folder, "--reuse"}).exit == 0);
  CHECK(last_deployment(server).settings.reuse);
  write(folder + "/brood.toml", "memory = \"64MiB\"\nmemry = 3\n");
  const Ran wrong = brood(server, {"deploy", "x", folder});
  CHECK(wrong.exit == 2);
  CHECK_THAT(wrong.err, Contains("brood.toml, line 2") && Contains("'memry'"));
}

TEST_CASE("an archive that the agent refuses is told in its words, even in the middle") {
  LiveServer server;
  const tests::ScratchDirectory scratch;
  write(scratch.path() + "/bomb.tar", "bomb");
  const Ran refused = brood(server, {"deploy", "x", scratch.path() + "/bomb.tar"});
  CHECK(refused.exit == 5);
  CHECK_THAT(refused.err, Contains("leads out of the archive"));
  write(scratch.path() + "/large.tar", std::string(20 << 20, 'x'));
  const Ran large = brood(server, {"deploy", "x", scratch.path() + "/large.tar"});
  CHECK(large.exit == 5);
  CHECK_THAT(large.err, Contains("over the limit"));
}

TEST_CASE("list, describe, ps, runtimes and stats are tables, or the agent's documents") {
  LiveServer server;
  const Ran list = brood(server, {"list"});
  CHECK_THAT(list.out, Contains("NAME") && Contains("echo") && Contains("128MiB"));
  const Ran describe = brood(server, {"describe", "echo"});
  CHECK_THAT(describe.out, Contains("KEY=value") && Contains("limits not enforced  cpu") &&
                               Contains("handler.main") && Contains("ended timeout"));
  CHECK_THAT(brood(server, {"ps"}).out,
             Contains("sb-2") && Contains("running") && Contains("7.0 MiB"));
  CHECK_THAT(brood(server, {"runtimes"}).out, Contains("python3") && Contains("ready"));
  CHECK_THAT(brood(server, {"stats"}).out, Contains("timeout 1") && Contains("cpu"));
  CHECK_THAT(brood(server, {"stats", "echo"}).out, Contains("echo") && !Contains("logger"));
  for (const char* verb : {"list", "ps", "runtimes", "stats", "version"}) {
    CAPTURE(verb);
    CHECK(Json::parse(brood(server, {verb, "--json"}).out).is_object());
  }
  CHECK(Json::parse(brood(server, {"describe", "echo", "--json"}).out)["name"] == "echo");
}

TEST_CASE("remove removes") {
  LiveServer server;
  CHECK(brood(server, {"remove", "plain"}).exit == 0);
  CHECK(brood(server, {"remove", "plain"}).exit == 4);
}

TEST_CASE("logs prints lines with their invocation, and bytes as they were to a file") {
  LiveServer server;
  const Ran ran = brood(server, {"logs", "logger"});
  CHECK_THAT(ran.out, Contains("2023-11-14T22:13:20.250Z 0123456789abcdef first\n") &&
                          Contains("\x1b[31mred"));
  CHECK(brood(server, {"logs", "logger", "-n", "1"}).out.find("second") == std::string::npos);
  CHECK(Json::parse(brood(server, {"logs", "logger", "-n", "1", "--json"}).out)["text"] == "third");
}

TEST_CASE("logs -f goes on until it is interrupted or the agent stops") {
  LiveServer server;
  Running logs({"--socket", server.socket_path(), "logs", "logger", "-f"});
  REQUIRE(logs.prints("third"));
  server.on_loop(
      [](FakeService& f, api::Server&) { return f.add_log_line("logger", "fourth"), 0; });
  CHECK(logs.prints("fourth"));
  SECTION("interrupted") {
    logs.signal(SIGINT);
    CHECK(logs.wait() == 128 + SIGINT);
    CHECK(server.eventually([](FakeService& f, api::Server&) { return f.followers == 0; }));
  }
  SECTION("stopped") {
    server.on_loop([](FakeService&, api::Server& api) { return api.drain([] {}), 0; });
    CHECK(logs.wait() == 1);
  }
}

TEST_CASE(
    "check needs no agent, finds something about this host, and says how to mend what lacks") {
  const Ran ran = tests::run_brood({"check", "--json", "--socket", "/nonexistent"});
  const Json findings = Json::parse(ran.out)["findings"];
  REQUIRE(findings.size() > 5);
  bool able = true;
  for (const Json& finding : findings) {
    able = able && finding["level"] != "missing";
    CHECK((finding["level"] == "ok" || !finding["meaning"].get<std::string>().empty()));
  }
  CHECK(ran.exit == (able ? 0 : 1));
  CHECK_THAT(tests::run_brood({"check"}).out, Contains("LEVEL") && Contains("cgroup"));
}

TEST_CASE("an interrupted invocation is cancelled at the agent") {
  LiveServer server;
  Running invoke({"--socket", server.socket_path(), "invoke", "hold", "--data", "1"});
  REQUIRE(
      server.eventually([](FakeService& f, api::Server&) { return f.invocations.size() == 1; }));
  invoke.signal(SIGINT);
  CHECK(invoke.wait() == 128 + SIGINT);
  CHECK(server.eventually([](FakeService& f, api::Server&) { return f.cancelled == 1; }));
}

// --- run -----------------------------------------------------------------------------------------

TEST_CASE("run prints what the command prints, and leaves as it left") {
  LiveServer server;
  const Ran fine = brood(server, {"run", "--", "echo", "-n", "--json"});
  CHECK(fine.exit == 0);
  CHECK(fine.out == "echo\n-n\n--json\n");
  CHECK(fine.err.empty());
  CHECK(brood(server, {"run", "--", "fail"}).exit == 3);
}

TEST_CASE("run's flags reach the agent, and what follows the command is the command's") {
  LiveServer server;
  REQUIRE(brood(server, {"run", "--image", "small",     "-m",          "64MiB", "--cpu",
                         "0.5", "--pids",  "32",        "--timeout",   "10s",   "-w",
                         "/w",  "-e",      "A=B",       "--file-size", "1MiB",  "--cpu-seconds",
                         "2",   "true",    "--timeout", "1s"})
              .exit == 0);
  const auto request =
      server.on_loop([](FakeService& fake, api::Server&) { return fake.commands.back(); });
  CHECK(request.image == "small");
  CHECK(request.memory_bytes == 64 << 20);
  CHECK(request.milli_cpu == 500);
  CHECK(request.pids == 32);
  CHECK(request.timeout == std::chrono::seconds(10));
  CHECK(request.directory == "/w");
  CHECK(request.environment == std::map<std::string, std::string>{{"A", "B"}});
  CHECK(request.file_bytes == 1 << 20);
  CHECK(request.cpu_seconds == 2);
  CHECK(request.arguments == std::vector<std::string>{"true", "--timeout", "1s"});
}

TEST_CASE("run's and deploy's networks reach the agent") {
  LiveServer server;
  REQUIRE(brood(server, {"run", "--network", "nat", "--allow", "192.0.2.1:443", "--allow",
                         "2001:db8::/32", "-p", "8080:80", "--network-rate", "1MiB",
                         "--network-connections", "9", "--", "true"})
              .exit == 0);
  const auto request =
      server.on_loop([](FakeService& fake, api::Server&) { return fake.commands.back(); });
  CHECK(request.network.mode == "nat");
  CHECK(request.network.allow == std::vector<std::string>{"192.0.2.1:443", "2001:db8::/32"});
  CHECK(request.network.rate == 1 << 20);
  CHECK(request.network.connections == 9);
  CHECK(request.publish == std::vector<std::string>{"8080:80"});
  const Ran alone = brood(server, {"run", "--standalone", "--network", "nat", "--", "true"});
  CHECK(alone.exit != 0);
  CHECK_THAT(alone.err, Contains("--network wants an agent"));
}

TEST_CASE("what keeps a command from running is exit status 125") {
  LiveServer server;
  const Ran missing = brood(server, {"run", "--image", "missing", "--", "true"});
  CHECK(missing.exit == 125);
  CHECK_THAT(missing.err, Contains("no image 'missing'"));
  const Ran never = brood(server, {"run", "--", "never"});
  CHECK(never.exit == 125);
  CHECK_THAT(never.err, Contains("it cannot begin"));
  const Ran unreachable = tests::run_brood({"--socket", "/nonexistent", "run", "--", "true"});
  CHECK(unreachable.exit == 125);
}

TEST_CASE("a judge gets the ending and what was used as JSON") {
  LiveServer server;
  const tests::ScratchDirectory scratch;
  const std::string file = scratch.path() + "/stats.json";
  CHECK(brood(server, {"run", "--stats-json", file, "--", "fail"}).exit == 3);
  const auto text = base::read_file(file);
  REQUIRE(text);
  const Json stats = Json::parse(*text);
  CHECK(stats["ending"] == "exited");
  CHECK(stats["exit_code"] == 3);
  CHECK(stats.contains("memory_peak_bytes"));
}

TEST_CASE("a signal is handed on to the command, and a client that is killed cancels it") {
  LiveServer server;
  Running running({"--socket", server.socket_path(), "run", "--", "hold"});
  REQUIRE(running.prints("hold"));
  running.signal(SIGTERM);
  CHECK(server.eventually(
      [](FakeService& fake, api::Server&) { return fake.signals == std::vector<int>{SIGTERM}; }));
  running.signal(SIGKILL);
  CHECK(server.eventually([](FakeService& fake, api::Server&) { return fake.cancelled == 1; }));
}

TEST_CASE("a terminal is asked for only by one who has one") {
  LiveServer server;
  const Ran ran = brood(server, {"run", "-t", "--", "true"});
  CHECK(ran.exit == 2);
  CHECK_THAT(ran.err, Contains("terminal"));
}

TEST_CASE("kill, pause and resume ask the agent for each sandbox, and name what they did") {
  LiveServer server;
  const Ran killed = brood(server, {"kill", "-s", "HUP", "run.base-1"});
  CHECK(killed.exit == 0);
  CHECK(killed.out == "run.base-1\n");
  CHECK(brood(server, {"kill", "run.base-1"}).exit == 0);
  CHECK(brood(server, {"pause", "run.base-1"}).exit == 0);
  CHECK(brood(server, {"resume", "run.base-1"}).exit == 0);
  server.on_loop([](FakeService& fake, api::Server&) {
    CHECK(fake.signals == std::vector<int>{SIGHUP, SIGKILL});
    CHECK(fake.pauses == std::vector<bool>{true, false});
    return 0;
  });
  const Ran both = brood(server, {"kill", "run.base-2", "run.base-1"});
  CHECK(both.exit == 4);
  CHECK(both.out == "run.base-1\n");
  CHECK(brood(server, {"kill", "-s", "NOTHING", "run.base-1"}).exit == 5);
}

TEST_CASE("a verb that there is not is named") {
  const Ran ran = tests::run_brood({"--socket", "/x", "depoly", "a", "b"});
  CHECK(ran.exit == 2);
  CHECK_THAT(ran.err, Contains("there is no verb 'depoly'"));
}
