#include "cgroups/limits.h"

#include <catch2/catch.hpp>
#include <string>

#include "cgroups/cgroup.h"

TEST_CASE("a share of the CPU is a quota of a 100 ms period") {
  CHECK(cgroups::cpu_max_text(500).view() == "50000 100000");
  CHECK(cgroups::cpu_max_text(2000).view() == "200000 100000");
  CHECK(cgroups::cpu_max_text(10).view() == "1000 100000");
  CHECK(cgroups::cpu_max_text(1'024'000).view() == "102400000 100000");
}

TEST_CASE("a share too small for the kernel's least quota gets a longer period") {
  CHECK(cgroups::cpu_max_text(5).view() == "1000 200000");
  CHECK(cgroups::cpu_max_text(1).view() == "1000 1000000");
  CHECK(cgroups::cpu_max_text(0).view() == "1000 1000000");
}

TEST_CASE("counts and devices are written as the kernel reads them") {
  CHECK(cgroups::count_text(134217728).view() == "134217728");
  CHECK(cgroups::count_text(cgroups::kUnlimited).view() == "max");
  CHECK(cgroups::io_max_text({.major = 254, .minor = 16, .read_bps = 1048576}).view() ==
        "254:16 rbps=1048576 wbps=max");
}

TEST_CASE("the longest line fits, and a longer one is cut within its buffer") {
  const cgroups::IoLimit widest{.major = UINT32_MAX,
                                .minor = UINT32_MAX,
                                .read_bps = UINT64_MAX - 1,
                                .write_bps = UINT64_MAX - 1};
  CHECK(cgroups::io_max_text(widest).view() ==
        "4294967295:4294967295 rbps=18446744073709551614 wbps=18446744073709551614");
  cgroups::ControlText text;
  text.add(std::string(200, 'x')).add_number(12345).add("y");
  CHECK(text.view() == std::string(112, 'x'));
}

TEST_CASE("a cgroup's name can be no control file and no way out") {
  for (const char* name : {"a", "sbx-17", "brood-default", "A_b"}) {
    INFO(name);
    CHECK(cgroups::is_child_name(name));
  }
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"),
        std::string("memory.max"), std::string("a\n"), std::string(201, 'a')}) {
    INFO(name);
    CHECK_FALSE(cgroups::is_child_name(name));
  }
}
