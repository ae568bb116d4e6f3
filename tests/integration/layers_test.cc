// Layers, and what lies beside a handler's code, by a real agent.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>

#include "base/file.h"
#include "tests/cmd/program.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/skip.h"

namespace {

using namespace tests;
using Catch::Contains;
namespace fs = std::filesystem;

void put(const std::string& path, const std::string& text, mode_t mode = 0644) {
  REQUIRE(base::make_directories(path.substr(0, path.rfind('/')), 0755));
  REQUIRE(base::replace_file_at(AT_FDCWD, path, text, mode));
}

Ran brood(const AgentFixture& agent, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"--socket", agent.socket()});
  return run_brood(arguments);
}

void succeed(const AgentFixture& agent, const std::vector<std::string>& arguments) {
  const Ran ran = brood(agent, arguments);
  INFO(ran.err);
  REQUIRE(ran.exit == 0);
}

Json layers_of(const AgentFixture& agent) {
  return Json::parse(brood(agent, {"layer", "list", "--json"}).out)["layers"];
}

Json value_of(const Invoked& answer) {
  INFO(answer.body);
  REQUIRE(answer.ok());
  return answer.json();
}

// A folder below the agent's scratch, with these files.
std::string folder(const AgentFixture& agent, const std::string& name,
                   const std::vector<std::pair<std::string, std::string>>& files) {
  for (const auto& [path, text] : files) {
    put(agent.scratch() + "/" + name + "/" + path, text);
  }
  return agent.scratch() + "/" + name;
}

}  // namespace

TEST_CASE("python modules beside the handler are found: flat, in site-packages, in python") {
  AgentFixture agent({.pool_min = 1, .pool_max = 2});
  const std::string code =
      folder(agent, "code",
             {{"handler.py",
               "import flat.inner, packed, shipped, importlib.metadata\n"
               "def main(event, context):\n"
               "    import later\n"
               "    return [flat.inner.NAME, packed.NAME, shipped.NAME, later.NAME,\n"
               "            importlib.metadata.version('packed')]\n"},
              {"flat/__init__.py", ""},
              {"flat/inner.py", "from . import data\nNAME = 'flat' + data.MORE\n"},
              {"flat/data.py", "MORE = '!'\n"},
              {"site-packages/packed/__init__.py", "NAME = 'packed'\n"},
              {"site-packages/packed-1.2.dist-info/METADATA",
               "Metadata-Version: 2.1\nName: packed\nVersion: 1.2\n"},
              {"python/shipped.py", "NAME = 'shipped'\n"},
              {"later.py", "NAME = 'later'\n"}});
  succeed(agent, {"deploy", "beside", code});
  CHECK(value_of(agent.invoke("beside")) == Json({"flat!", "packed", "shipped", "later", "1.2"}));
}

TEST_CASE("packages in node_modules are found by require, import and import()") {
  AgentFixture agent({.pool_min = 1, .pool_max = 2, .runtimes = {"node"}});
  const std::vector<std::pair<std::string, std::string>> packages{
      {"node_modules/both/package.json",
       R"({"name": "both", "exports": {"require": "./common.cjs", "import": "./module.mjs"}})"},
      {"node_modules/both/common.cjs", "exports.kind = 'common';"},
      {"node_modules/both/module.mjs", "export const kind = 'module';"},
      {"node_modules/@scope/only/package.json",
       R"({"name": "@scope/only", "type": "module", "exports": "./index.js"})"},
      {"node_modules/@scope/only/index.js",
       "import { kind } from 'both';\nexport const name = 'only ' + kind;"}};
  auto common = packages;
  common.push_back({"index.js",
                    "const { kind } = require('both');\n"
                    "exports.handler = async () => [kind, (await import('@scope/only')).name];"});
  auto module = packages;
  module.push_back(
      {"index.mjs",
       "import { kind } from 'both';\nimport { createRequire } from 'node:module';\n"
       "const require = createRequire(import.meta.url);\n"
       "export const handler = async () => [kind, (await import('@scope/only')).name,\n"
       "  require('both').kind];"});
  succeed(agent, {"deploy", "common", folder(agent, "common", common), "--runtime", "node",
                  "--handler", "index.handler"});
  succeed(agent, {"deploy", "module", folder(agent, "module", module), "--runtime", "node",
                  "--handler", "index.handler"});
  CHECK(value_of(agent.invoke("common")) == Json({"common", "only module"}));
  CHECK(value_of(agent.invoke("module")) == Json({"module", "only module", "common"}));
}

TEST_CASE("layers are merged below /opt, a later one over those before it") {
  AgentFixture agent({.pool_min = 1, .pool_max = 2});
  const std::string first =
      folder(agent, "first",
             {{"python/common.py", "NAME = 'first'\n"},
              {"python/lib/python3.11/site-packages/deep.py", "NAME = 'deep'\n"},
              {"share/words", "first\n"}});
  put(first + "/bin/greet", "#!/bin/sh\necho greetings\n", 0755);
  const std::string second = folder(
      agent, "second", {{"python/common.py", "NAME = 'second'\n"}, {"share/more", "second\n"}});
  succeed(agent, {"layer", "publish", "first", first});
  succeed(agent, {"layer", "publish", "second", second});
  const std::string source =
      "import common, deep, os, subprocess\n"
      "def main(event, context):\n"
      "    said = subprocess.run(['greet'], capture_output=True, text=True).stdout\n"
      "    return [common.NAME, deep.NAME, sorted(os.listdir('/opt/share')), said,\n"
      "            os.environ['LD_LIBRARY_PATH']]\n";
  const std::string code = folder(agent, "code", {{"handler.py", source}});
  put(code + "/brood.toml", "layers = [\"first\", \"second\"]\n");
  succeed(agent, {"deploy", "merged", code});
  CHECK(value_of(agent.invoke("merged")) ==
        Json({"second", "deep", {"more", "words"}, "greetings\n", "/opt/lib"}));
  // What a flag says wins over the file, and the order counts.
  succeed(agent, {"deploy", "turned", code, "--layer", "second", "--layer", "first"});
  CHECK(value_of(agent.invoke("turned"))[0] == "first");
  CHECK(agent.describe("turned")["layers"][0]["name"] == "second");
  CHECK_THAT(brood(agent, {"describe", "turned"}).out, Contains("first sha256:"));
  // Others see an empty folder.
  agent.deploy("plain",
               "import os, sys\ndef main(event, context):\n"
               "    return [os.listdir('/opt'), [p for p in sys.path if '/opt' in p],\n"
               "            os.environ['PATH'].count('/opt')]\n");
  CHECK(value_of(agent.invoke("plain")) == Json({Json::array(), Json::array(), 0}));
}

TEST_CASE("what is beside the handler goes before a layer's") {
  AgentFixture agent({.pool_min = 1, .pool_max = 2});
  succeed(agent, {"layer", "publish", "shared",
                  folder(agent, "shared", {{"python/common.py", "NAME = 'layer'\n"}})});
  const std::string code =
      folder(agent, "code",
             {{"handler.py", "import common\ndef main(event, context): return common.NAME\n"},
              {"common.py", "NAME = 'code'\n"}});
  succeed(agent, {"deploy", "own", code, "--layer", "shared"});
  CHECK(value_of(agent.invoke("own")) == "code");
}

TEST_CASE("node finds what a layer has in nodejs/node_modules") {
  AgentFixture agent({.pool_min = 1, .pool_max = 2, .runtimes = {"node"}});
  succeed(agent, {"layer", "publish", "packages",
                  folder(agent, "packages",
                         {{"nodejs/node_modules/far/index.js", "exports.name = 'layered';"}})});
  const std::string code =
      folder(agent, "code",
             {{"index.js", "const far = require('far');\nexports.handler = () => far.name;"}});
  succeed(agent, {"deploy", "far", code, "--runtime", "node", "--handler", "index.handler",
                  "--layer", "packages"});
  CHECK(value_of(agent.invoke("far")) == "layered");
}

TEST_CASE("a native program runs with its layers' programs and files") {
  AgentFixture agent({.pool_min = 1, .pool_max = 2, .runtimes = {"base"}});
  const std::string layer = folder(agent, "layer", {{"share/words", "from the layer\n"}});
  put(layer + "/bin/words", "#!/bin/sh\ncat /opt/share/words\n", 0755);
  succeed(agent, {"layer", "publish", "words", layer});
  put(agent.scratch() + "/say", "#!/bin/sh\nwords; echo $LD_LIBRARY_PATH\n", 0755);
  succeed(agent, {"deploy", "say", agent.scratch() + "/say", "--layer", "words"});
  CHECK(agent.invoke("say").body == "from the layer\n/opt/lib\n");
}

TEST_CASE("a layer cannot be changed from inside, and its set-id bits mean nothing") {
  AgentFixture agent({.pool_min = 1, .pool_max = 2});
  const std::string layer = folder(agent, "layer", {{"share/words", "words\n"}});
  fs::copy_file("/usr/bin/id", layer + "/id");
  REQUIRE(::chmod((layer + "/id").c_str(), 06755) == 0);
  succeed(agent, {"layer", "publish", "words", layer});
  agent.deploy("attack", R"(
import ctypes, os, subprocess
def attempt(work):
    try:
        work()
        return "done"
    except OSError as error:
        return type(error).__name__ + " " + str(error.errno)
def main(event, context):
    libc = ctypes.CDLL(None, use_errno=True)
    mounts = [line.split() for line in open("/proc/self/mountinfo")]
    return {
        "write": attempt(lambda: open("/opt/share/words", "w")),
        "create": attempt(lambda: open("/opt/new", "w")),
        "remove": attempt(lambda: os.unlink("/opt/share/words")),
        "rename": attempt(lambda: os.rename("/opt/share", "/opt/other")),
        "chmod": attempt(lambda: os.chmod("/opt/share/words", 0o777)),
        "umount": libc.umount2(b"/opt", 2),
        "remount": libc.mount(None, b"/opt", None, 32 | 4096, None),
        "mode": os.stat("/opt/id").st_mode & 0o7000,
        "ids": subprocess.run(["/opt/id", "-u"], capture_output=True, text=True).stdout,
        "flags": [mount[5].split(",") for mount in mounts if mount[4] == "/opt"],
        "paths": [mount[3] for mount in mounts if mount[4] == "/opt"],
    }
)",
               {{"layers", {"words"}}});
  const Json seen = value_of(agent.invoke("attack"));
  for (const char* what : {"write", "create", "remove", "rename", "chmod"}) {
    INFO(what << " " << seen.dump());
    CHECK(seen[what] != "done");
  }
  CHECK(seen["umount"] == -1);
  CHECK(seen["remount"] == -1);
  CHECK(seen["mode"] == 0);
  CHECK(seen["ids"] == "1000\n");
  REQUIRE(seen["flags"].size() == 2);
  for (const Json& flags : seen["flags"]) {
    for (const char* flag : {"ro", "nosuid", "nodev"}) {
      INFO(flags.dump());
      CHECK(std::count(flags.begin(), flags.end(), flag) == 1);
    }
  }
  CHECK(seen["paths"].dump().find(agent.scratch()) == std::string::npos);
  // Another function's sandbox finds what was published.
  agent.deploy("reads", "def main(event, context): return open('/opt/share/words').read()\n",
               {{"layers", {"words"}}});
  CHECK(value_of(agent.invoke("reads")) == "words\n");
}

TEST_CASE("links of a layer that lead out are refused, and what it is told nothing remains of") {
  AgentFixture agent({.pool_min = 1, .pool_max = 2});
  const std::string layer = agent.scratch() + "/layer";
  REQUIRE(base::make_directories(layer, 0755));
  for (const char* target : {"/etc/shadow", "../../etc/shadow"}) {
    REQUIRE(::symlink(target, (layer + "/way-out").c_str()) == 0);
    CHECK(brood(agent, {"layer", "publish", "out", layer}).exit != 0);
    // And where the archive is somebody else's work.
    const std::string archive = agent.scratch() + "/out.tar";
    REQUIRE(std::system(("tar -cf " + archive + " -C " + layer + " .").c_str()) == 0);
    const Ran ran = brood(agent, {"layer", "publish", "out", archive});
    CHECK(ran.exit != 0);
    CHECK_THAT(ran.err, Contains("way-out"));
    REQUIRE(::unlink((layer + "/way-out").c_str()) == 0);
  }
  put(agent.scratch() + "/file.py", "x = 1\n");
  CHECK(brood(agent, {"layer", "publish", "file", agent.scratch() + "/file.py"}).exit == 2);
  CHECK(layers_of(agent).empty());
}

TEST_CASE(
    "a layer that is used cannot be removed, and one that is published anew changes nothing") {
  AgentFixture agent({.pool_min = 1, .pool_max = 2});
  const std::string layer = folder(agent, "layer", {{"words", "one"}});
  succeed(agent, {"layer", "publish", "words", layer});
  const Json settings{{"layers", {"words"}}, {"reuse", false}};
  const std::string source = "def main(event, context): return open('/opt/words').read()\n";
  agent.deploy("reads", source, settings);
  const Ran refused = brood(agent, {"layer", "remove", "words"});
  CHECK(refused.exit == 5);
  CHECK_THAT(refused.err, Contains("used by reads"));
  CHECK(layers_of(agent)[0]["functions"] == Json({"reads"}));

  put(layer + "/words", "two");
  succeed(agent, {"layer", "publish", "words", layer});
  CHECK(value_of(agent.invoke("reads")) == "one");
  agent.stop();
  agent.start();
  CHECK(value_of(agent.invoke("reads")) == "one");
  agent.deploy("reads", source, settings);
  CHECK(value_of(agent.invoke("reads")) == "two");

  agent.remove("reads");
  succeed(agent, {"layer", "remove", "words"});
  CHECK(layers_of(agent).empty());
  CHECK(brood(agent, {"layer", "remove", "words"}).exit != 0);
}

TEST_CASE("layers that there are not, or too many, are refused") {
  AgentFixture agent({.pool_min = 1, .pool_max = 2});
  const std::string digest = Json::parse(
      agent.upload("def main(event, context): return 1\n", "handler.py").body)["digest"];
  const auto refusal = [&](const Json& layers) {
    const auto response = agent.put("never", digest, {{"layers", layers}});
    CHECK(response.status == 400);
    return response.body;
  };
  CHECK_THAT(refusal({"nobody"}), Contains("there is no layer 'nobody'"));
  CHECK_THAT(refusal({"a", "b", "c", "d", "e", "f"}), Contains("at most 5"));
  CHECK_THAT(refusal({"a", "a"}), Contains("twice"));
  CHECK_THAT(refusal({"A"}), Contains("layers"));
}
