// Functions in Node.js, by a real agent. Needs the image `node`.
#include <fcntl.h>

#include <catch2/catch.hpp>

#include "base/file.h"
#include "tests/cmd/program.h"
#include "tests/support/agent_fixture.h"

namespace {

using namespace tests;
using Catch::Contains;

AgentOptions with_node() {
  return {.pool_min = 1, .pool_max = 4, .runtimes = {"node"}};
}

Json deploy(AgentFixture& agent, const std::string& name, std::string_view source,
            Json settings = Json::object(), const std::string& file = "handler.js") {
  settings["runtime"] = "node";
  if (!settings.contains("handler")) {
    settings["handler"] = "handler.handler";
  }
  return agent.deploy_code(name, source, file, settings);
}

void put(const std::string& path, const std::string& text) {
  REQUIRE(base::make_directories(path.substr(0, path.rfind('/')), 0755));
  REQUIRE(base::replace_file_at(AT_FDCWD, path, text, 0644));
}

void deploy_folder(const AgentFixture& agent, const std::string& name, const std::string& folder) {
  const Ran ran = run_brood({"--socket", agent.socket(), "deploy", name, folder, "--runtime",
                             "node", "--handler", "index.handler"});
  INFO(ran.err);
  REQUIRE(ran.exit == 0);
}

Json value_of(const Invoked& answer) {
  INFO(answer.body);
  REQUIRE(answer.ok());
  return answer.json();
}

}  // namespace

TEST_CASE("a handler answers with a value, a promise or its callback") {
  AgentFixture agent(with_node());
  deploy(agent, "value", "exports.handler = (event) => ({ got: event.n + 1 });");
  deploy(agent, "promise",
         "exports.handler = async (event) => { await new Promise((r) => setTimeout(r, 20)); return "
         "event.n + 2; };");
  deploy(
      agent, "callback",
      "exports.handler = (event, context, done) => setTimeout(() => done(null, event.n + 3), 20);");
  CHECK(value_of(agent.invoke("value", {{"n", 1}})) == Json({{"got", 2}}));
  CHECK(value_of(agent.invoke("promise", {{"n", 1}})) == 3);
  CHECK(value_of(agent.invoke("callback", {{"n", 1}})) == 4);
  CHECK(agent.invoke("value", {{"n", 5}}).start == "warm");
}

TEST_CASE("bytes go in and out as bytes, and nothing is null") {
  AgentFixture agent(with_node());
  deploy(agent, "bytes", "exports.handler = (event) => Buffer.from(event).reverse();");
  const Invoked answer = agent.invoke_bytes("bytes", std::string("\x01\x00\xff", 3));
  CHECK(answer.ok());
  CHECK(answer.body == std::string("\xff\x00\x01", 3));
  deploy(agent, "nothing", "exports.handler = () => {};");
  CHECK(value_of(agent.invoke("nothing", 1)).is_null());
}

TEST_CASE("CommonJS and ES modules load, with their neighbours and what lies in node_modules") {
  AgentFixture agent(with_node());
  deploy(agent, "module", "import os from 'node:os';\nexport const handler = () => os.EOL;", {},
         "handler.mjs");
  CHECK(value_of(agent.invoke("module", 1)) == "\n");
  deploy(agent, "built-in",
         "const { createHash } = require('crypto');\n"
         "exports.handler = (e) => createHash('sha256').update(e.t).digest('hex');");
  CHECK_THAT(value_of(agent.invoke("built-in", {{"t", "x"}})).get<std::string>(),
             Catch::StartsWith("2d711642"));

  const std::string common = agent.scratch() + "/common";
  put(common + "/index.js",
      "const near = require('./near');\nconst far = require('far');\n"
      "exports.handler = () => [near.name, far.name];");
  put(common + "/near.js", "exports.name = 'near';");
  put(common + "/node_modules/far/index.js", "exports.name = 'far';");
  deploy_folder(agent, "common", common);
  CHECK(value_of(agent.invoke("common", 1)) == Json({"near", "far"}));

  // A .js is an ES module where its package says so.
  const std::string module = agent.scratch() + "/module";
  put(module + "/package.json", R"({"type": "module"})");
  put(module + "/index.js",
      "import { name } from './near.js';\nexport const handler = () => name;");
  put(module + "/near.js", "export const name = 'near';");
  deploy_folder(agent, "packaged", module);
  CHECK(value_of(agent.invoke("packaged", 1)) == "near");
}

TEST_CASE("what a handler throws is told with its name, message and trace") {
  AgentFixture agent(with_node());
  deploy(
      agent, "throws",
      "function inner() { throw new RangeError('too far'); }\n"
      "exports.handler = async (event) => {\n"
      "  if (event === 'later') { setTimeout(() => inner(), 5); return new Promise(() => {}); }\n"
      "  if (event === 'nobody') { Promise.reject(new TypeError('nobody waits')); return new "
      "Promise(() => {}); }\n"
      "  if (event === 'text') throw 'a text';\n"
      "  inner();\n"
      "};");
  const Json error = agent.invoke("throws", 1).error();
  CHECK(error["ending"] == "handler_error");
  CHECK(error["type"] == "RangeError");
  CHECK(error["message"] == "too far");
  CHECK_THAT(error["trace"].get<std::string>(), Contains("at inner (/function/handler.js:1:"));
  CHECK_THAT(error["trace"].get<std::string>(), !Contains("[eval]"));
  CHECK(agent.invoke("throws", "later").error()["message"] == "too far");
  CHECK(agent.invoke("throws", "nobody").error()["type"] == "TypeError");
  CHECK(agent.invoke("throws", "text").error()["message"] == "a text");
  CHECK(agent.invoke("throws", 1).start == "warm");
}

TEST_CASE("a module that cannot be loaded is an init_error") {
  AgentFixture agent(with_node());
  const Json deployed = deploy(agent, "broken", "exports.handler = (;");
  CHECK_THAT(deployed["warnings"].dump(), Contains("does not compile"));
  CHECK(agent.invoke("broken", 1).ending == "init_error");
  deploy(agent, "absent", "exports.other = 1;");
  const Invoked absent = agent.invoke("absent", 1);
  CHECK(absent.ending == "init_error");
  CHECK_THAT(absent.error()["message"].get<std::string>(), Contains("has no function 'handler'"));
  deploy(agent, "raises", "throw new Error('at load');");
  CHECK(agent.invoke("raises", 1).error()["message"] == "at load");
}

TEST_CASE("a handler's time, exit and answer are held to their limits") {
  AgentFixture agent(with_node());
  deploy(agent, "slow", "exports.handler = () => { for (;;); };", {{"timeout", "300ms"}});
  CHECK(agent.invoke("slow", 1).ending == "timeout");
  deploy(agent, "leaves", "exports.handler = () => process.exit(3);");
  CHECK(agent.invoke("leaves", 1).ending == "handler_error");
  deploy(agent, "long", "exports.handler = () => 'x'.repeat(7 << 20);");
  CHECK(agent.invoke("long", 1).ending == "response_too_large");
  deploy(agent, "odd", "exports.handler = () => 10n;");
  CHECK(agent.invoke("odd", 1).error()["type"] == "TypeError");
  CHECK(agent.invoke_bytes("odd", "{", "application/json").error()["type"] == "InvalidJSON");
}

TEST_CASE("a handler is told of its invocation, its environment and nothing else") {
  AgentFixture agent(with_node());
  deploy(agent, "context",
         "exports.handler = (event, context) => ({ id: context.id, name: context.functionName,\n"
         "  memory: context.memoryLimitInMB, left: context.getRemainingTimeInMillis(),\n"
         "  env: process.env, cwd: process.cwd(), uid: process.getuid() });",
         {{"environment", {{"KEY", "a value"}}}, {"timeout", "10s"}});
  const Invoked answer = agent.invoke("context", 1);
  const Json value = value_of(answer);
  CHECK(value["id"] == answer.id);
  CHECK(value["name"] == "context");
  CHECK(value["memory"] == "128");
  CHECK(value["left"].get<int>() > 0);
  CHECK(value["left"].get<int>() <= 10'000);
  CHECK(value["env"]["KEY"] == "a value");
  CHECK(value["env"]["BROOD_FUNCTION"] == "context");
  CHECK(value["env"]["HOME"] == "/tmp");
  CHECK(value["env"].size() == 8);
  CHECK(value["uid"] == 1000);
}

TEST_CASE("what a handler prints is in the log of its invocation") {
  AgentFixture agent(with_node());
  deploy(agent, "prints",
         "exports.handler = (e) => { console.log('line', e); console.error('error', e); };");
  const Invoked first = agent.invoke("prints", 1);
  const Invoked second = agent.invoke("prints", 2);
  CHECK(agent.log_of("prints", first.id) == std::vector<std::string>{"line 1", "error 1"});
  CHECK(agent.log_of("prints", second.id) == std::vector<std::string>{"line 2", "error 2"});
}

TEST_CASE("without reuse every invocation has a process of its own") {
  AgentFixture agent(with_node());
  deploy(agent, "counts", "let calls = 0;\nexports.handler = () => ++calls;", {{"reuse", false}});
  CHECK(value_of(agent.invoke("counts", 1)) == 1);
  CHECK(value_of(agent.invoke("counts", 1)) == 1);
}

TEST_CASE("the example does what it says") {
  AgentFixture agent(with_node());
  deploy(agent, "slugify", function_source("../../examples/slugify/index.js"),
         {{"handler", "index.handler"}}, "index.js");
  CHECK(value_of(agent.invoke("slugify", {{"title", "  Ça va, brood? "}})) ==
        Json({{"slug", "ca-va-brood"}}));
  CHECK(agent.invoke("slugify", 1).error()["message"] == "the event has no title");
}
