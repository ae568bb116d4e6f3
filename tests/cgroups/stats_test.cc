#include "cgroups/stats.h"

#include <catch2/catch.hpp>

TEST_CASE("cpu.stat is read with and without the cpu controller") {
  const auto full = cgroups::parse_cpu_stat(
      "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\ncore_sched.force_idle_usec 0\n"
      "nr_periods 10\nnr_throttled 4\nthrottled_usec 90000\nnr_bursts 0\nburst_usec 0\n");
  CHECK(full.usage_us == 1500);
  CHECK(full.system_us == 500);
  CHECK(full.periods == 10);
  CHECK(full.throttled == 4);
  CHECK(full.throttled_us == 90000);
  const auto bare = cgroups::parse_cpu_stat("usage_usec 7\nuser_usec 3\nsystem_usec 4\n");
  CHECK(bare.usage_us == 7);
  CHECK(bare.throttled == 0);
}

TEST_CASE("memory.events of an older kernel lacks the newest counter") {
  const auto events = cgroups::parse_memory_events("low 0\nhigh 1\nmax 23\noom 2\noom_kill 1\n");
  CHECK(events.max == 23);
  CHECK(events.oom == 2);
  CHECK(events.oom_kill == 1);
  CHECK(events.oom_group_kill == 0);
}

TEST_CASE("a key is not mistaken for one that begins like it") {
  CHECK(cgroups::find_key("oom_kill 5\noom 2\n", "oom") == 2);
  CHECK(cgroups::find_key("oom_kill 5\n", "oom") == std::nullopt);
  CHECK(cgroups::find_key("oom", "oom") == std::nullopt);
  CHECK(cgroups::find_key("oom ", "oom") == std::nullopt);
  CHECK(cgroups::find_key("", "") == std::nullopt);
}

TEST_CASE("counts are digits or max, and nothing else") {
  CHECK(cgroups::parse_count("4096\n") == 4096);
  CHECK(cgroups::parse_count("max\n") == cgroups::kUnlimited);
  for (const char* text :
       {"", "\n", "-1", "+1", " 1", "1 ", "0x1", "maximum", "99999999999999999999999"}) {
    INFO(text);
    CHECK_FALSE(cgroups::parse_count(text));
  }
}

TEST_CASE("cgroup.events tells populated and frozen apart") {
  const auto events = cgroups::parse_events("populated 1\nfrozen 0\n");
  CHECK(events.populated);
  CHECK_FALSE(events.frozen);
  CHECK_FALSE(cgroups::parse_events("").populated);
}

TEST_CASE("a list of processes keeps those of other pid namespaces as 0, and no nonsense") {
  CHECK(cgroups::parse_procs("1\n0\n4194304\n99999999999\nx\nmax\n\n17") ==
        std::vector<pid_t>{1, 0, 4194304, 17});
}
