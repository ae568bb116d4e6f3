#include "agent/config.h"

#include <catch2/catch.hpp>

#include "base/file.h"
#include "tests/support/scratch.h"

using agent::AgentConfig;
using agent::load_config;
using agent::parse_config;
using Catch::Contains;

namespace {

std::string refusal_of(std::string_view text) {
  const auto config = parse_config(text, "broodd.toml");
  return config ? "(accepted)" : config.error().message();
}

std::string flag_refusal(const std::string& key, const std::string& value) {
  const auto config = load_config({std::nullopt, {{key, value}}});
  return config ? "(accepted)" : config.error().message();
}

}  // namespace

TEST_CASE("an empty file is the defaults") {
  const auto config = parse_config("", "broodd.toml");
  REQUIRE(config);
  CHECK(config->socket == AgentConfig{}.socket);
  CHECK(config->payload_limit == 6ULL << 20);
  CHECK(config->runtimes.empty());
}

TEST_CASE("a file's keys are read with their units") {
  const auto config = parse_config(R"(
    socket = "/tmp/a.sock"
    limits = "best-effort"
    payload_limit = "1MiB"
    response_limit = 2048
    max_sandboxes = 7
    drain_timeout = "1.5s"
    log_format = "json"
    [runtimes.py]
    image = "python3"
    preload = ["json", "urllib.parse"]
    pool_min = 1
    pool_max = 2
    [runtimes.other]
  )",
                                   "broodd.toml");
  REQUIRE(config);
  CHECK(config->socket == "/tmp/a.sock");
  CHECK((config->limits == agent::LimitsMode::best_effort));
  CHECK(config->payload_limit == 1ULL << 20);
  CHECK(config->response_limit == 2048);
  CHECK(config->max_sandboxes == 7);
  CHECK(config->drain_timeout == std::chrono::milliseconds(1500));
  CHECK(config->log_format == "json");
  REQUIRE(config->runtimes.size() == 2);
  CHECK(config->runtimes[0].name == "other");
  CHECK(config->runtimes[0].image == "other");
  CHECK(config->runtimes[1].image == "python3");
  CHECK(config->runtimes[1].preload == std::vector<std::string>{"json", "urllib.parse"});
  CHECK(config->runtimes[1].pool_max == 2);
}

TEST_CASE("what the file must not say is refused with its line") {
  CHECK_THAT(refusal_of("socket = \"/a\"\nsokcet = \"/b\"\n"),
             Contains("broodd.toml, line 2") && Contains("'sokcet'"));
  CHECK_THAT(refusal_of("\n\nlimits = \"some\"\n"), Contains("line 3") && Contains("best-effort"));
  CHECK_THAT(refusal_of("limits = \n"), Contains("line 1"));
  CHECK_THAT(refusal_of("max_sandboxes = 1\nmax_sandboxes = 2\n"), Contains("line 2"));
  CHECK_THAT(refusal_of("[runtimes.py]\npoolmin = 1\n"),
             Contains("line 2") && Contains("'poolmin'"));
  CHECK_THAT(refusal_of("[runtimes.UPPER]\n"), Contains("'UPPER'"));
  CHECK_THAT(refusal_of("[runtimes.py]\npreload = [\"os; rm\"]\n"), Contains("'preload'"));
  CHECK_THAT(refusal_of("[runtimes.py]\npool_min = 9\npool_max = 3\n"), Contains("pool_min"));
  CHECK_THAT(refusal_of("runtimes = 3\n"), Contains("line 1") && Contains("'runtimes'"));
  CHECK_THAT(refusal_of("[unknown]\nkey = 1\n"), Contains("'unknown'"));
}

TEST_CASE("values out of their bounds or of another type are refused by key") {
  for (const char* line :
       {"socket = \"relative\"", "socket = 3", "socket = true", "max_sandboxes = 0",
        "max_sandboxes = -1", "max_sandboxes = 1.5", "payload_limit = 0",
        "payload_limit = \"2GiB\"", "payload_limit = \"lots\"", "drain_timeout = \"2 days\"",
        "log_level = \"loud\"", "group = \"\"", "max_connections = 99999999999"}) {
    CAPTURE(line);
    const std::string key(line, std::string(line).find(' '));
    CHECK_THAT(refusal_of(line), Contains("'" + key + "'"));
  }
}

TEST_CASE("flags win over the file, and are held to the same rules") {
  const tests::ScratchDirectory scratch;
  const std::string file = scratch.path() + "/broodd.toml";
  REQUIRE(base::replace_file_at(AT_FDCWD, file, "max_sandboxes = 5\nlog_level = \"warn\"\n", 0600));
  const auto config = load_config({file, {{"max_sandboxes", "6"}}});
  REQUIRE(config);
  CHECK(config->max_sandboxes == 6);
  CHECK(config->log_level == "warn");
  CHECK_THAT(flag_refusal("max_sandboxes", "many"), Contains("--max-sandboxes"));
  CHECK_THAT(flag_refusal("state_dir", "here"), Contains("--state-dir"));
  CHECK_THAT(flag_refusal("nonsense", "1"), Contains("--nonsense"));
}

TEST_CASE("a file that is not there is an error, not a default") {
  const auto config = load_config({"/nonexistent/broodd.toml", {}});
  REQUIRE_FALSE(config);
  CHECK_THAT(config.error().message(), Contains("/nonexistent/broodd.toml"));
}

TEST_CASE("a pool that can never be full is refused") {
  CHECK_THAT(refusal_of("max_sandboxes = 2\n[runtimes.py]\npool_min = 3\n"),
             Contains("max_sandboxes is 2"));
}

TEST_CASE("what a configuration shows can be read again") {
  AgentConfig config;
  config.limits = agent::LimitsMode::best_effort;
  config.payload_limit = 12345;
  config.drain_timeout = std::chrono::milliseconds(250);
  std::string text;
  for (const agent::Setting& setting : agent::settings()) {
    text += std::string(setting.key) + " = " + setting.show(config) + "\n";
  }
  const auto again = parse_config(text, "shown");
  REQUIRE(again);
  for (const agent::Setting& setting : agent::settings()) {
    CHECK(setting.show(*again) == setting.show(config));
  }
}

TEST_CASE("the documentation has every key with its default") {
  const std::string page = base::read_file(BROOD_SOURCE_DIR "/docs/configuration.md").value();
  for (const agent::Setting& setting : agent::settings()) {
    const std::string row =
        "| `" + std::string(setting.key) + "` | `" + setting.show(AgentConfig{}) + "` |";
    CHECK_THAT(page, Contains(row));
  }
}
