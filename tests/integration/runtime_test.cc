// `brood runtime`: environments of one's own, built and served. Needs what builds images, and
// Debian's archive or what is kept of it; works in the host's folder of images, under a name of its
// own.
#include <fcntl.h>
#include <unistd.h>

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

std::string unique_name() {
  return "test-" + std::to_string(::getpid());
}

void need_builder() {
  need_root();
  if (std::system("command -v mmdebstrap >/dev/null") != 0) {
    skip_because("there is no mmdebstrap");
  }
  if (!fs::exists(images_dir() + "/.apt")) {
    skip_because("no image was built on this host");
  }
}

// Ends it whatever happens to the test.
struct Added {
  explicit Added(std::string own) : name(std::move(own)) {}
  ~Added() { (void)run_brood({"runtime", "remove", "--images", images_dir(), name}); }
  std::string name;
};

Ran add(const AgentFixture& agent, const std::string& name, std::vector<std::string> more) {
  std::vector<std::string> arguments{"--socket", agent.socket(), "runtime", "add",
                                     "--images", images_dir(),   name};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_brood(arguments);
}

std::vector<std::string> names_in_images() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(images_dir())) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("a runtime is added with a package that its functions find loaded, and taken away") {
  need_builder();
  AgentFixture agent({.pool_min = 1, .pool_max = 2});
  const Added added(unique_name());
  const Ran ran =
      add(agent, added.name, {"--package", "python3-simplejson", "--preload", "simplejson"});
  INFO(ran.err);
  REQUIRE(ran.exit == 0);
  CHECK_THAT(ran.out, Contains(added.name) && Contains("sha256:"));
  const Json listed =
      Json::parse(run_brood({"runtime", "list", "--json", "--images", images_dir()}).out);
  const auto found = std::find_if(listed.begin(), listed.end(),
                                  [&](const Json& one) { return one["name"] == added.name; });
  REQUIRE(found != listed.end());
  CHECK((*found)["from"] == "python3");
  CHECK((*found)["preload"].back() == "simplejson");

  agent.deploy("loaded",
               "import sys\nbefore = 'simplejson' in sys.modules\nimport simplejson\n"
               "def main(event, context):\n    return [before, simplejson.dumps([event])]\n",
               {{"runtime", added.name}});
  CHECK(agent.invoke("loaded", 7).json() == Json({true, "[7]"}));

  CHECK(add(agent, added.name, {"--preload", "json"}).exit != 0);  // there is one
  const Ran removed = run_brood({"runtime", "remove", "--images", images_dir(), added.name});
  // An agent holds it.
  CHECK(removed.exit == 1);
  CHECK_THAT(removed.err, Contains("use"));
  agent.stop();
  const Ran again = run_brood({"runtime", "remove", "--images", images_dir(), added.name});
  INFO(again.err);
  CHECK(again.exit == 0);
  CHECK_FALSE(fs::exists(images_dir() + "/" + added.name));
}

TEST_CASE("what cannot be a runtime is refused, and leaves nothing") {
  need_builder();
  AgentFixture agent({.pool_min = 1, .pool_max = 2});
  const Added added(unique_name());
  const auto before = names_in_images();
  CHECK(add(agent, "Bad Name", {"--package", "python3-simplejson"}).exit == 2);
  CHECK(add(agent, added.name, {}).exit == 2);
  CHECK(add(agent, added.name, {"--package", "x; rm -rf /"}).exit == 2);
  CHECK(add(agent, added.name, {"--preload", "os, sys"}).exit == 2);
  CHECK(add(agent, added.name, {"--from", "no-such", "--preload", "json"}).exit == 4);
  CHECK(add(agent, "python3", {"--preload", "json"}).exit == 1);  // brood's own
  const Ran missing = add(agent, added.name, {"--package", "python3-there-is-no-such"});
  CHECK(missing.exit == 1);
  CHECK_THAT(missing.err, Contains("nothing was added"));
  CHECK(run_brood({"runtime", "remove", "--images", images_dir(), "python3"}).exit == 4);
  CHECK(names_in_images() == before);
}

TEST_CASE("modules that cannot be imported are found when the runtime is added") {
  need_builder();
  AgentFixture agent({.pool_min = 1, .pool_max = 2});
  const Added added(unique_name());
  const Ran ran = add(agent, added.name, {"--preload", "no_such_module"});
  CHECK(ran.exit == 1);
  CHECK_THAT(ran.err, Contains("No module named"));
}

TEST_CASE("brood chooses the runtime that has loaded what a handler imports, without running it") {
  if (!fs::exists(images_dir() + "/python3-pillow/image.json")) {
    skip_because("there is no image python3-pillow");
  }
  AgentFixture agent({.pool_min = 1, .pool_max = 2, .runtimes = {"python3", "python3-pillow"}});
  const std::string folder = agent.scratch() + "/code";
  const auto deploy = [&](const std::string& name,
                          const std::vector<std::pair<std::string, std::string>>& files) {
    fs::remove_all(folder);
    for (const auto& [path, text] : files) {
      const std::string file = folder + "/" + path;
      REQUIRE(base::make_directories(file.substr(0, file.rfind('/')), 0755));
      REQUIRE(base::replace_file_at(AT_FDCWD, file, text, 0644));
    }
    const Ran ran = run_brood(
        {"--socket", agent.socket(), "deploy", name, folder, "--runtime", "auto", "--json"});
    INFO(ran.err);
    REQUIRE(ran.exit == 0);
    const Json function = Json::parse(ran.out)["function"];
    CHECK(function["runtime_chosen"] == true);
    CHECK(agent.describe(name)["settings"]["runtime"] == function["settings"]["runtime"]);
    return function["settings"]["runtime"].get<std::string>();
  };
  const std::string main = "def main(event, context): return 'PIL.Image' in sys.modules\n";
  CHECK(deploy("plain", {{"handler.py", "import sys, json\n" + main}}) == "python3");
  CHECK(deploy("direct", {{"handler.py", "import sys\nfrom PIL import Image\n" + main}}) ==
        "python3-pillow");
  CHECK(agent.invoke("direct").json() == true);
  CHECK(deploy("through", {{"handler.py", "import sys\nfrom parts import draw\n" + main},
                           {"parts/__init__.py", ""},
                           {"parts/draw.py", "from . import pen\n"},
                           {"parts/pen.py", "def late():\n    import PIL.Image\n"}}) ==
        "python3-pillow");
  // What it brings along itself is not to be had from a runtime.
  CHECK(deploy("own", {{"handler.py", "import sys\nfrom PIL import Image\n" + main},
                       {"PIL/__init__.py", ""},
                       {"PIL/Image.py", ""}}) == "python3");
  // Nor is anything run to find out, and what cannot be parsed is no reason to refuse.
  CHECK(deploy("endless", {{"handler.py", "while True: pass\nimport PIL.Image\n"}}) ==
        "python3-pillow");
  CHECK(deploy("broken", {{"handler.py", "def main(:\n"}}) == "python3");
  CHECK_THAT(run_brood({"--socket", agent.socket(), "describe", "direct"}).out,
             Contains("python3-pillow (chosen from its imports)"));
  agent.stop();
  agent.start();
  CHECK(agent.describe("direct")["runtime_chosen"] == true);
}
