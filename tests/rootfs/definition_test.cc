#include "rootfs/definition.h"

#include <catch2/catch.hpp>
#include <map>

namespace {

using Texts = std::map<std::string, std::string>;

base::Result<rootfs::Definition> resolve(const std::string& name, const Texts& texts) {
  return rootfs::resolve_definition(name, [&](const std::string& wanted) {
    const auto found = texts.find(wanted);
    return found == texts.end()
               ? base::Result<std::string>(base::fail_because("no definition of " + wanted))
               : base::Result<std::string>(found->second);
  });
}

}  // namespace

TEST_CASE("a derived image has what its ancestors have, first and once") {
  const auto definition = resolve("c", {{"a", R"(suite = "bookworm"
packages = ["one"]
)"},
                                        {"b", R"(from = "a"
packages = ["two"]
preload = ["json"]
interpreter = "/usr/bin/python3"
)"},
                                        {"c", R"(from = "b"
packages = ["one", "three"]
preload = ["PIL.Image", "json"]
)"}});
  REQUIRE(definition);
  CHECK(definition->name == "c");
  CHECK(definition->from == "b");
  CHECK(definition->suite == "bookworm");
  CHECK(definition->packages == std::vector<std::string>{"one", "two", "three"});
  CHECK(definition->preload == std::vector<std::string>{"json", "PIL.Image"});
  CHECK(definition->interpreter == "/usr/bin/python3");
}

TEST_CASE("an image derived from itself is refused") {
  CHECK_FALSE(resolve("a", {{"a", "from = \"b\"\n"}, {"b", "from = \"a\"\n"}}));
}

TEST_CASE("an image derived from nothing that exists is refused by that name") {
  const auto definition = resolve("a", {{"a", "from = \"gone\"\n"}});
  REQUIRE_FALSE(definition);
  CHECK(definition.error().message().find("gone") != std::string::npos);
}

TEST_CASE("an image without a suite is refused") {
  CHECK_FALSE(resolve("a", {{"a", "packages = [\"x1\"]\n"}}));
}

TEST_CASE("what could mean something to apt or to a shell is refused") {
  for (const char* text :
       {"packages = [\"--reinstall\"]", "packages = [\"a;b\"]", "packages = [\"a b\"]",
        "packages = \"python3\"", "packages = [7]", "suite = \"book worm\"", "suite = \"$(id)\"",
        "interpreter = \"python3\"", "interpreter = \"/usr/../python3\"",
        "interpreter = \"/usr/bin/py'thon\"", "preload = [\"os,sys\"]", "from = \"../base\"",
        "unknown = 1", "packages = [", "from = 3"}) {
    INFO(text);
    CHECK_FALSE(rootfs::parse_definition("a", text));
  }
  CHECK_FALSE(rootfs::parse_definition("../a", ""));
}

TEST_CASE("a mistake in a definition is told with its line") {
  const auto definition = rootfs::parse_definition("mine", "suite = \"bookworm\"\npackages = [\n");
  REQUIRE_FALSE(definition);
  CHECK(definition.error().message().find("line") != std::string::npos);
  CHECK(definition.error().message().find("mine") != std::string::npos);
}
