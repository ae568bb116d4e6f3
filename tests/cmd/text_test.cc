#include "cmd/cli/text.h"
#include "cmd/cli/detach_keys.h"

#include <catch2/catch.hpp>

#include "cmd/cli/env_file.h"
#include "cmd/cli/manifest.h"

using Catch::Contains;

TEST_CASE("a table's columns are as wide as their widest cell, without trailing blanks") {
  cli::Table table({"NAME", "N"});
  table.add({"word-count", "1"});
  table.add({"x", "20"});
  CHECK(table.print() == "NAME        N\nword-count  1\nx           20\n");
}

TEST_CASE("what steers a terminal is shown, not done") {
  CHECK(cli::escape_controls("a\tb \xc3\xa9") == "a\tb \xc3\xa9");
  CHECK(cli::escape_controls("\x1b[31m") == "\\x1b[31m");
  CHECK(cli::escape_controls(std::string("\0\r\n\x7f", 4)) == "\\x00\\x0d\\x0a\\x7f");
  CHECK(cli::escape_controls("\xc2\x9b"
                             "31m") == "\\xc2\\x9b31m");             // CSI as one code point
  CHECK(cli::escape_controls("\xe2\x80\xae") == "\\xe2\\x80\\xae");  // right-to-left override
  CHECK(cli::escape_controls("\xff\xc3") == "\\xff\\xc3");
}

TEST_CASE("sizes and times are rough but right") {
  CHECK(cli::rough_bytes(0) == "0 B");
  CHECK(cli::rough_bytes(7 << 20) == "7.0 MiB");
  CHECK(cli::rough_bytes(1536) == "1.5 KiB");
  CHECK(cli::rough_time(0.00085) == "850 us");
  CHECK(cli::rough_time(0.0015) == "1.5 ms");
  CHECK(cli::rough_time(240) == "4 min");
  CHECK(cli::rough_time(200'000) == "2 d");
}

TEST_CASE("a name becomes one segment of a path") {
  CHECK(cli::encode_segment("word-count_1.py") == "word-count_1.py");
  CHECK(cli::encode_segment("a b/../\xff") == "a%20b%2F..%2F%FF");
}

TEST_CASE("a quantile is read from the histogram, cold and warm together") {
  const std::string metrics =
      "brood_invocation_duration_seconds_bucket{function=\"f\",start=\"cold\",le=\"0.001\"} 0\n"
      "brood_invocation_duration_seconds_bucket{function=\"f\",start=\"cold\",le=\"0.002\"} 10\n"
      "brood_invocation_duration_seconds_bucket{function=\"f\",start=\"cold\",le=\"+Inf\"} 10\n"
      "brood_invocation_duration_seconds_bucket{function=\"f\",start=\"warm\",le=\"0.001\"} 90\n"
      "brood_invocation_duration_seconds_bucket{function=\"f\",start=\"warm\",le=\"0.002\"} 90\n"
      "brood_invocation_duration_seconds_bucket{function=\"f\",start=\"warm\",le=\"+Inf\"} 90\n"
      "brood_invocation_duration_seconds_bucket{function=\"g\",start=\"warm\",le=\"+Inf\"} 0\n";
  CHECK(*cli::duration_quantile(metrics, "f", 0.45) == Approx(0.0005));
  CHECK(*cli::duration_quantile(metrics, "f", 0.95) == Approx(0.0015));
  CHECK_FALSE(cli::duration_quantile(metrics, "g", 0.5));
  CHECK_FALSE(cli::duration_quantile(metrics, "h", 0.5));
  CHECK_FALSE(cli::duration_quantile("", "f", 0.5));
}

TEST_CASE("a manifest's values keep their types") {
  const auto manifest = cli::parse_manifest(
      "memory = \"64MiB\"\npids = 8\ncpu = 0.5\nreuse = false\n[env]\nA = \"1\"\n", "brood.toml");
  REQUIRE(manifest);
  CHECK(manifest->settings ==
        std::map<std::string, std::string>{
            {"memory", "\"64MiB\""}, {"pids", "8"}, {"cpu", "0.5"}, {"reuse", "false"}});
  CHECK(manifest->environment.at("A") == "1");
}

TEST_CASE("what a manifest must not say is refused with its line") {
  const auto refusal = [](std::string_view text) {
    const auto manifest = cli::parse_manifest(text, "brood.toml");
    return manifest ? "(accepted)" : manifest.error().message;
  };
  CHECK_THAT(refusal("memory = \"1\"\nmemry = 2\n"),
             Contains("brood.toml, line 2: ") && Contains("'memry'"));
  CHECK_THAT(refusal("memory = [1]\n"), Contains("line 1") && Contains("'memory'"));
  CHECK_THAT(refusal("[env]\nA = 1\n"), Contains("line 2") && Contains("'A'"));
  CHECK_THAT(refusal("env = 3\n"), Contains("'env'"));
  CHECK_THAT(refusal("env_file = 3\n"), Contains("'env_file'"));
  CHECK_THAT(refusal("memory = \n"), Contains("line 1"));
  CHECK_THAT(refusal("[runtime]\nname = 1\n"), Contains("'runtime'"));
}

TEST_CASE("an env file is KEY=VALUE lines") {
  const auto parsed = cli::parse_env_file("# comment\n\nA=1\r\nB=\nC=\"x=y\"", "vars");
  REQUIRE(parsed);
  CHECK(*parsed == std::map<std::string, std::string>{{"A", "1"}, {"B", ""}, {"C", "\"x=y\""}});
  CHECK_THAT(cli::parse_env_file("A=1\nnonsense\n", "vars").error().message,
             Contains("vars, line 2"));
  CHECK_FALSE(cli::parse_env_file("=1\n", "vars"));
}

TEST_CASE("detach keys are read as docker writes them") {
  CHECK(cli::parse_detach_keys("ctrl-p,ctrl-q").value() == "\x10\x11");
  CHECK(cli::parse_detach_keys("ctrl-[,a").value() ==
        "\x1b"
        "a");
  CHECK(cli::parse_detach_keys("").value().empty());
  for (const char* wrong : {"ctrl-", "ctrl-P", "ab", "a,,b", "ctrl-@"}) {
    CHECK(!cli::parse_detach_keys(wrong));
  }
}

TEST_CASE("detach keys are found wherever reads cut them, and all else goes through") {
  const auto typed = [](cli::DetachKeys& keys, std::string text) {
    const bool left = keys.take(text);
    return text + (left ? "|" : "");
  };
  cli::DetachKeys keys("pq");
  CHECK(typed(keys, "abc") == "abc");
  CHECK(typed(keys, "xp") == "x");
  CHECK(typed(keys, "y") == "py");
  CHECK(typed(keys, "pp") == "p");
  CHECK(typed(keys, "q and more") == "|");
  CHECK(typed(keys, "q") == "q");
  cli::DetachKeys longer("ppq");
  CHECK(typed(longer, "pppq") == "p|");
  cli::DetachKeys none("");
  CHECK(typed(none, "pq") == "pq");
}
