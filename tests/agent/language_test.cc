#include "agent/language.h"

#include <catch2/catch.hpp>

using agent::Language;

TEST_CASE("an image's language is told by its interpreter") {
  CHECK(agent::language_of("/usr/bin/python3") == Language::python);
  CHECK(agent::language_of("/usr/bin/node") == Language::node);
  CHECK(agent::language_of("/opt/node18") == Language::node);
  CHECK(agent::language_of("") == Language::native);
}

TEST_CASE("a zygote is started with what its language needs") {
  const std::vector<std::string> preload{"json", "re"};
  const auto python = agent::zygote_arguments(Language::python, "/usr/bin/python3", preload);
  CHECK(python.front() == "/usr/bin/python3");
  CHECK(python.back() == "re");
  const auto node = agent::zygote_arguments(Language::node, "/usr/bin/node", preload);
  CHECK(node.front() == "/run/brood/brood-zygote");
  CHECK(node[2] == "/usr/bin/node");
  CHECK(node.back() == "--eval");  // what follows is the script's text
  CHECK(agent::zygote_arguments(Language::command, "", preload).size() == 1);
  CHECK(agent::zygote_arguments(Language::native, "", preload).back() == "--functions");
}

TEST_CASE("a handler's file is looked for by its language's names") {
  CHECK(agent::module_candidates(Language::python, "a/b").front() == "a/b.py");
  CHECK(agent::module_candidates(Language::node, "a/b").front() == "a/b.js");
  CHECK(agent::can_prepare(Language::node, "a.js"));
  CHECK_FALSE(agent::can_prepare(Language::node, "a.mjs"));
}

TEST_CASE("settings are fitted to what a language calls") {
  agent::FunctionSettings settings;
  CHECK(agent::fit_settings(Language::python, settings).empty());
  CHECK(settings.handler == "handler.main");
  settings.handler = "bin/hello";
  CHECK(agent::fit_settings(Language::node, settings).find("handler") == 0);
  CHECK(agent::fit_settings(Language::native, settings).empty());
  settings.listen = "8080";
  CHECK(agent::fit_settings(Language::native, settings).empty());
  settings.handler = "a.b";
  CHECK(agent::fit_settings(Language::python, settings).find("listen") == 0);
}
