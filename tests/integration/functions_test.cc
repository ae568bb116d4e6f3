// Functions, from deploying to removing, over a real agent.
#include <signal.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>
#include <set>

#include "tests/cmd/program.h"
#include "tests/rootfs/archive_builder.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/skip.h"

namespace {

using namespace tests;
using Catch::Matchers::Contains;

constexpr std::string_view kEcho = "def main(event, context):\n    return event\n";

// Answers `value` after `seconds`.
std::string slow(double seconds, const std::string& value) {
  return "import time\ndef main(event, context):\n    time.sleep(" + std::to_string(seconds) +
         ")\n    return " + value + "\n";
}

bool runs(const AgentFixture& agent, const std::string& function, int count = 1) {
  return soon([&] { return agent.describe(function)["running"] == count; });
}

std::string every_byte(std::size_t size) {
  std::string bytes(size, '\0');
  std::uint32_t state = 1;
  for (char& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

TEST_CASE("a function is deployed, invoked and removed") {
  AgentFixture agent;
  const Json deployed = agent.deploy("echo", kEcho);
  CHECK(deployed["created"] == true);
  CHECK(deployed["warnings"].empty());
  CHECK(deployed["function"]["version"] == 1);
  const Invoked answer = agent.invoke("echo", {{"a", {1, 2.5, nullptr}}});
  CHECK(answer.ok());
  CHECK(answer.json() == Json{{"a", {1, 2.5, nullptr}}});
  CHECK(agent.client().get("/functions")["functions"].size() == 1);
  agent.remove("echo");
  CHECK(agent.invoke("echo").status == 404);
  CHECK(agent.client().ask("GET", "/functions/echo").status == 404);
  CHECK(agent.client().ask("DELETE", "/functions/echo").status == 404);
  CHECK(agent.client().get("/functions")["functions"].empty());
  CHECK(soon([&] { return agent.sandboxes_of("echo").empty(); }));
}

TEST_CASE("a running invocation finishes on the old code, the next one runs the new") {
  AgentFixture agent;
  agent.deploy("f", slow(1.5 * slowness(), "'old'"));
  auto old = agent.invoke_later("f");
  REQUIRE(runs(agent, "f"));
  const Json deployed = agent.deploy("f", slow(0, "'new'"));
  CHECK(deployed["created"] == false);
  CHECK(deployed["function"]["version"] == 2);
  CHECK(agent.invoke("f").json() == "new");
  const Invoked finished = old.get();
  CHECK(finished.ok());
  CHECK(finished.json() == "old");
  // The old instance is not kept for anybody.
  CHECK(soon([&] { return agent.sandboxes_of("f").size() == 1; }));
}

TEST_CASE("deploying again is atomic for those who invoke meanwhile") {
  AgentFixture agent;
  const auto version = [](int number) {
    return "def main(event, context):\n    return [" + std::to_string(number) +
           ", context.function_version]\n";
  };
  agent.deploy("f", version(1));
  std::atomic<bool> done{false};
  auto caller = std::async(std::launch::async, [&] {
    std::vector<Json> answers;
    while (!done) {
      const Invoked answer = agent.invoke("f");
      answers.push_back(answer.ok() ? answer.json() : Json(answer.body));
    }
    return answers;
  });
  for (int number = 2; number <= 6; ++number) {
    agent.deploy("f", version(number));
  }
  done = true;
  const std::vector<Json> answers = caller.get();
  CHECK(answers.size() > 1);
  int before = 1;
  for (const Json& answer : answers) {
    INFO(answer.dump());
    REQUIRE(answer.is_array());
    CHECK(answer[0] == answer[1]);  // the code and the settings of one version
    CHECK(answer[0].get<int>() >= before);
    before = answer[0].get<int>();
  }
  CHECK(agent.invoke("f").json() == Json{6, 6});
}

TEST_CASE("code comes as a file or as an archive of any kind") {
  AgentFixture agent;
  const auto fill = [](ArchiveBuilder&& builder) {
    return builder.directory("lib")
        .file("lib/__init__.py", "from .words import greet\n")
        .file("lib/words.py", "def greet(name):\n    return 'hello ' + name\n")
        .file("data.txt", "42")
        .file("app.py",
              "import lib, os\n"
              "def handle(event, context):\n"
              "    with open(os.path.dirname(__file__) + '/data.txt') as file:\n"
              "        return [lib.greet(event), file.read()]\n")
        .finish();
  };
  const std::map<std::string, std::string> archives = {
      {"tar", fill(ArchiveBuilder())},
      {"tar-gz", fill(ArchiveBuilder(ARCHIVE_FORMAT_TAR_PAX_RESTRICTED, ARCHIVE_FILTER_GZIP))},
      {"tar-zst", fill(ArchiveBuilder(ARCHIVE_FORMAT_TAR_PAX_RESTRICTED, ARCHIVE_FILTER_ZSTD))},
      {"zip", fill(ArchiveBuilder(ARCHIVE_FORMAT_ZIP))}};
  for (const auto& [kind, bytes] : archives) {
    INFO(kind);
    const Json deployed = agent.deploy_code(kind, bytes, "", {{"handler", "app.handle"}});
    CHECK(deployed["warnings"].empty());
    const Invoked answer = agent.invoke(kind, "you");
    INFO(answer.body);
    REQUIRE(answer.ok());
    CHECK(answer.json() == Json{"hello you", "42"});
  }
  agent.deploy_code("single", "def other(event, context):\n    return __file__\n", "one.py",
                    {{"handler", "one.other"}});
  CHECK(agent.invoke("single").json() == "/function/one.py");

  const Response bomb = agent.upload(ArchiveBuilder().link("out", "/etc/passwd").finish());
  CHECK(bomb.status == 400);
  CHECK(Json::parse(bomb.body)["error"]["code"] == "invalid_archive");
  // The same bytes are the same code.
  const Json first = Json::parse(agent.upload(kEcho, "handler.py").body);
  CHECK(first == Json::parse(agent.upload(kEcho, "handler.py").body));
  CHECK(agent.client().ask("GET", "/functions/zip").status == 200);
}

TEST_CASE("a folder with a brood.toml is deployed by the command line") {
  AgentFixture agent;
  const ScratchDirectory folder;
  REQUIRE(base::replace_file_at(folder.fd(), "handler.py", kEcho, 0644));
  REQUIRE(base::replace_file_at(folder.fd(), "brood.toml",
                                "runtime = \"python3\"\nmemory = \"64MiB\"\n", 0644));
  const Ran deployed =
      run_brood({"--socket", agent.socket(), "deploy", "f", folder.path(), "--timeout", "5s"});
  INFO(deployed.err);
  REQUIRE(deployed.exit == 0);
  const Json settings = agent.describe("f")["settings"];
  CHECK(settings["memory"] == 64 << 20);
  CHECK(settings["timeout"] == 5);
  const Ran ran = run_brood({"--socket", agent.socket(), "invoke", "f", "-d", "[1]"});
  CHECK(ran.exit == 0);
  CHECK(ran.out == "[1]");
}

TEST_CASE("what is removed ends its idle instances, lets the running finish, and forgets its log") {
  AgentFixture agent;
  agent.deploy("f", slow(slowness(), "'done'"));
  auto running = agent.invoke_later("f");
  REQUIRE(runs(agent, "f"));
  agent.remove("f");
  CHECK(agent.invoke("f").status == 404);
  CHECK(running.get().json() == "done");
  CHECK(soon([&] { return agent.sandboxes_of("f").empty(); }));
  agent.deploy("f", kEcho);
  CHECK(agent.logs("f").empty());
  CHECK(agent.invoke("f", 1).json() == 1);
}

TEST_CASE("what a handler prints is in its log, with the invocation's id") {
  AgentFixture agent;
  agent.deploy("f",
               "import sys\n"
               "print('loaded')\n"
               "def main(event, context):\n"
               "    print('out', event)\n"
               "    print('err', context.id, file=sys.stderr)\n"
               "    sys.stdout.write('no newline')\n"
               "    return context.id\n");
  const Invoked first = agent.invoke("f", "a");
  const Invoked second = agent.invoke("f", "b");
  CHECK(first.id != second.id);
  CHECK(first.json() == first.id);
  CHECK(soon([&] { return agent.log_of("f", second.id).size() >= 2; }));
  const auto lines = agent.log_of("f", first.id);
  REQUIRE(lines.size() >= 3);
  CHECK(std::vector<std::string>(lines.begin(), lines.begin() + 3) ==
        std::vector<std::string>{"loaded", "out a", "err " + first.id});
  const auto all = agent.logs("f");
  for (std::size_t i = 1; i < all.size(); ++i) {
    CHECK(all[i]["sequence"] > all[i - 1]["sequence"]);
  }
  CHECK(agent.logs("f", 1).size() == 1);
  CHECK(agent.logs("f", 1)[0] == all.back());
  const std::string after = all[1]["sequence"].dump();
  CHECK(agent.client().ask("GET", "/functions/f/logs?after=" + after).body.find("loaded") ==
        std::string::npos);
}

TEST_CASE("a log is followed while it grows") {
  AgentFixture agent;
  agent.deploy("f", "def main(event, context):\n    print('line', event)\n");
  agent.invoke("f", "before");
  RawClient follower(agent.socket());
  follower.send(request_of("GET", "/functions/f/logs?follow=true"));
  std::string seen;
  const auto sees = [&](const std::string& text) {
    while (seen.find(text) == std::string::npos) {
      const std::string more = follower.read_some();
      if (more.empty()) {
        return false;
      }
      seen += more;
    }
    return true;
  };
  CHECK(sees("line before"));
  for (int i = 0; i < 3; ++i) {
    const Invoked answer = agent.invoke("f", i);
    CHECK(sees("line " + std::to_string(i)));
    CHECK(sees(answer.id));
  }
  agent.stop();
  CHECK(follower.is_closed_by_peer());
  agent.start();
}

TEST_CASE("a line of ten megabytes does no harm") {
  AgentFixture agent;
  agent.deploy("f",
               "def main(event, context):\n"
               "    print('x' * 10_000_000)\n"
               "    print('after')\n"
               "    return 'ok'\n");
  const Invoked answer = agent.invoke("f");
  CHECK(answer.json() == "ok");
  CHECK(soon([&] {
    const auto lines = agent.log_of("f", answer.id);
    return !lines.empty() && lines.back() == "after";
  }));
  const auto lines = agent.logs("f");
  REQUIRE(lines.size() >= 2);
  CHECK(lines[lines.size() - 2]["cut"] == true);
  CHECK(lines[lines.size() - 2]["text"].get<std::string>().size() <= 64U << 10);
  CHECK(agent.invoke("f").json() == "ok");
}

TEST_CASE("bytes go in and come out as they are, up to the limits") {
  AgentFixture agent;
  agent.deploy("echo", kEcho, {{"memory", "256MiB"}});
  for (const std::size_t size : {std::size_t{1}, std::size_t{257}, std::size_t{6} << 20}) {
    INFO(size);
    const std::string bytes = every_byte(size);
    const Invoked answer = agent.invoke_bytes("echo", bytes);
    REQUIRE(answer.ok());
    CHECK(answer.headers.at("content-type") == "application/octet-stream");
    CHECK((answer.body == bytes));  // not expanded when it is not
  }
  const std::string text(std::size_t{6 << 20} - 2, 'j');
  const Invoked json = agent.invoke_bytes("echo", "\"" + text + "\"", "application/json");
  REQUIRE(json.ok());
  CHECK((json.body == "\"" + text + "\""));
  CHECK(agent.invoke_bytes("echo", std::string((6 << 20) + 1, 'x')).ending == "payload_too_large");

  CHECK(agent.invoke_bytes("echo", "", "application/json").body == "null");
  const Invoked nothing = agent.invoke_bytes("echo", "");
  CHECK(nothing.ok());
  CHECK(nothing.body.empty());
}

TEST_CASE("the content type decides what the handler gets, and its value what it answers") {
  AgentFixture agent;
  agent.deploy("kind",
               "def main(event, context):\n"
               "    return [type(event).__name__, context.content_type]\n");
  const auto kind = [&](const std::string& type) {
    return agent.invoke_bytes("kind", "{\"a\": 1}", type).json();
  };
  CHECK(kind("application/json") == Json{"dict", "application/json"});
  CHECK(kind("application/json; charset=utf-8")[0] == "dict");
  CHECK(kind("application/cloudevents+json")[0] == "dict");
  CHECK(kind("application/x-www-form-urlencoded")[0] == "dict");
  CHECK(kind("text/plain") == Json{"bytes", "text/plain"});
  CHECK(kind("application/octet-stream")[0] == "bytes");

  agent.deploy("text", "def main(event, context):\n    return {'ü': float(event)}\n");
  const Invoked answer = agent.invoke("text", 0.5);
  CHECK(answer.headers.at("content-type") == "application/json");
  CHECK(answer.body == "{\"ü\":0.5}");
}

TEST_CASE("context and environment tell a handler where it is") {
  AgentFixture agent;
  agent.deploy("f",
               "import os\n"
               "async def main(event, context):\n"
               "    return {'id': context.id, 'function': context.function,\n"
               "            'version': context.function_version, 'memory': context.memory_limit,\n"
               "            'left': context.remaining_ms(), 'key': os.environ['KEY'],\n"
               "            'path': os.environ['PATH']}\n",
               {{"memory", "96MiB"},
                {"timeout", "20s"},
                {"environment", {{"KEY", "välue = with all\nof it"}, {"PATH", "/own"}}}});
  const Invoked answer = agent.invoke("f");
  INFO(answer.body);
  const Json told = answer.json();
  CHECK(told["id"] == answer.id);
  CHECK(told["function"] == "f");
  CHECK(told["version"] == 1);
  CHECK(told["memory"] == 96 << 20);
  CHECK(told["left"] <= 20'000);
  CHECK(told["left"] > 10'000);
  CHECK(told["key"] == "välue = with all\nof it");
  CHECK(told["path"] == "/own");
  for (const char* stage : {"queued=", "assigned=", "attached=", "limited=", "sent=", "woken=",
                            "loaded=", "called=", "returned=", "encoded=", "answered="}) {
    CHECK_THAT(answer.headers.at("brood-trace"), Contains(stage));
  }
}

TEST_CASE("what is deployed wrongly is refused with the reason") {
  AgentFixture agent;
  const std::string code = Json::parse(agent.upload(kEcho, "handler.py").body)["digest"];
  const auto refusal = [&](const std::string& digest, Json settings) {
    const Response response = agent.put("f", digest, std::move(settings));
    CHECK(response.status == 400);
    return Json::parse(response.body)["error"]["message"].get<std::string>();
  };
  CHECK_THAT(refusal(code, {{"runtime", "cobol"}}), Contains("no runtime 'cobol'"));
  CHECK_THAT(refusal(code, {{"memory", "1KiB"}}), Contains("memory"));
  CHECK_THAT(refusal(code, {{"network", "host"}}), Contains("network"));
  CHECK_THAT(refusal(code, {{"surprise", 1}}), Contains("surprise"));
  CHECK_THAT(refusal("sha256:" + std::string(64, '0'), Json::object()), Contains("upload"));
  CHECK(agent.client().get("/functions")["functions"].empty());
}

TEST_CASE("functions survive the agent, however it ends") {
  AgentFixture agent;
  agent.deploy("kept", "import os\ndef main(event, context):\n    return os.environ['KEY']\n",
               {{"environment", {{"KEY", "value"}}}, {"memory", "64MiB"}});
  agent.deploy("gone", kEcho);
  agent.remove("gone");
  const Json settings = agent.describe("kept")["settings"];
  CHECK(agent.invoke("kept").json() == "value");

  agent.stop();
  agent.start();
  CHECK(agent.describe("kept")["settings"] == settings);
  CHECK(agent.invoke("kept").json() == "value");
  CHECK(agent.describe("kept")["version"] == 1);

  agent.kill();
  agent.start();
  CHECK(agent.describe("kept")["settings"] == settings);
  CHECK(agent.invoke("kept").json() == "value");
  CHECK(agent.client().ask("GET", "/functions/gone").status == 404);
  CHECK(agent.deploy("kept", kEcho)["function"]["version"] == 2);
}

TEST_CASE("two agents live side by side and know nothing of each other") {
  AgentFixture one;
  AgentFixture two({.run_dir = one.run_dir()});
  one.deploy("f", slow(0, "'one'"));
  two.deploy("f", slow(0, "'two'"));
  one.deploy("only", kEcho);
  CHECK(one.invoke("f").json() == "one");
  CHECK(two.invoke("f").json() == "two");
  CHECK(two.invoke("only").status == 404);
  REQUIRE(one.pool_has(2));
  REQUIRE(two.pool_has(2));
  std::set<std::uint64_t> uids;
  std::size_t sandboxes = 0;
  for (const AgentFixture* agent : {&one, &two}) {
    for (const Json& sandbox : agent->sandboxes()) {
      uids.insert(sandbox["host_uid"].get<std::uint64_t>());
      ++sandboxes;
    }
  }
  CHECK(uids.size() == sandboxes);
  one.stop();
  CHECK(two.invoke("f").json() == "two");
}

TEST_CASE("a stopping agent lets what runs finish and takes nothing new") {
  AgentFixture agent;
  agent.deploy("f", slow(1.5 * slowness(), "'finished'"));
  HttpClient connected = agent.client();
  CHECK(connected.ask("GET", "/version").status == 200);
  auto running = agent.invoke_later("f");
  REQUIRE(runs(agent, "f"));
  agent.begin_stop();
  // On a connection from before, or a new one: nothing that is answered is an invocation.
  CHECK(soon([&] {
    try {
      return agent.invoke("f").status == 503;
    } catch (const std::exception&) {
      return true;
    }
  }));
  const Invoked answer = running.get();
  INFO(answer.body);
  CHECK(answer.ok());
  CHECK(answer.json() == "finished");
  agent.stop();
}

TEST_CASE("a stopping agent whose patience is over says so to those it ends") {
  AgentFixture agent({.flags = {"--drain-timeout=300ms"}});
  agent.deploy("f", slow(600, "1"), {{"timeout", "10m"}});
  auto running = agent.invoke_later("f");
  REQUIRE(runs(agent, "f"));
  agent.stop();
  const Invoked answer = running.get();
  INFO(answer.body);
  CHECK(answer.ending == "internal");
  CHECK_THAT(answer.error()["message"].get<std::string>(), Contains("the agent stopped"));
}

TEST_CASE("a client that hangs up takes its invocation with it") {
  AgentFixture agent;
  agent.deploy("f", slow(600, "1"), {{"timeout", "10m"}, {"concurrency", 1}});
  {
    RawClient impatient(agent.socket());
    impatient.send(request_of("POST", "/functions/f/invocations"));
    REQUIRE(runs(agent, "f"));
    RawClient waiting(agent.socket());
    waiting.send(request_of("POST", "/functions/f/invocations"));
    CHECK(soon([&] { return agent.describe("f")["queued"] == 1; }));
  }
  CHECK(soon([&] {
    const Json now = agent.describe("f");
    return now["running"] == 0 && now["queued"] == 0 && now["instances"] == 0;
  }));
  CHECK(soon([&] { return agent.sandboxes_of("f").empty(); }));
}

TEST_CASE("a derived runtime has its packages loaded before anyone asks") {
  AgentFixture agent({.runtimes = {"python3-pillow"}});
  agent.deploy("f",
               "import sys\n"
               "PRELOADED = 'PIL.Image' in sys.modules\n"
               "import io\n"
               "from PIL import Image\n"
               "def main(event, context):\n"
               "    image = Image.open(io.BytesIO(event))\n"
               "    image.thumbnail((8, 8))\n"
               "    out = io.BytesIO()\n"
               "    image.save(out, 'PNG')\n"
               "    return [PRELOADED, list(image.size), len(out.getvalue()) > 50]\n",
               {{"runtime", "python3-pillow"}});
  std::string bitmap = "P6 32 16 255\n" + every_byte(std::size_t{32} * 16 * 3);
  const Invoked answer = agent.invoke_bytes("f", bitmap);
  INFO(answer.body);
  CHECK(answer.ok());
  CHECK(answer.json() == Json{true, {8, 4}, true});
}

}  // namespace
