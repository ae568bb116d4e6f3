#include "cgroups/hierarchy.h"

#include <catch2/catch.hpp>
#include <string>

#include "cgroups/controllers.h"

using cgroups::Layout;
using cgroups::locate;
using cgroups::parse_membership;
using cgroups::parse_mountinfo;

namespace {

constexpr const char* kUnified =
    "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
    "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 "
    "rw,nsdelegate,memory_recursiveprot\n";

constexpr const char* kHybrid =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 master:2 - cgroup cgroup "
    "rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

constexpr const char* kHybridMembership =
    "9:name=systemd:/\n8:pids:/\n4:memory:/process_api/3d71\n2:cpu,cpuacct:/\n0::/\n";

}  // namespace

TEST_CASE("a unified host tells where the process is") {
  const auto found = locate(kUnified, "0::/system.slice/broodd.service\n");
  CHECK(found.layout == Layout::unified);
  CHECK(found.v1_controllers.empty());
  CHECK(found.own_path == "/system.slice/broodd.service");
  CHECK(found.own_directory == "/sys/fs/cgroup/system.slice/broodd.service");
  REQUIRE(found.mount);
  CHECK(found.mount->point == "/sys/fs/cgroup");
  CHECK_FALSE(found.mount->read_only);
}

TEST_CASE("a hybrid host has its v2 tree beside the controllers that v1 holds") {
  const auto found = locate(kHybrid, kHybridMembership);
  CHECK(found.layout == Layout::hybrid);
  CHECK(found.v1_controllers == std::vector<std::string>{"pids", "memory", "cpu", "cpuacct"});
  CHECK(found.own_directory == "/sys/fs/cgroup/unified");
}

TEST_CASE("a v1 hierarchy without a controller takes nothing from v2") {
  const auto found = locate(
      "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
      "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
      "1:name=systemd:/init.scope\n0::/init.scope\n");
  CHECK(found.layout == Layout::unified);
}

TEST_CASE("a v1 controller counts even where its mount is out of sight") {
  CHECK(locate(kUnified, "4:memory:/x\n0::/x\n").layout == Layout::hybrid);
}

TEST_CASE("a v1 host has no tree to live in") {
  const auto found = locate("35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
                            "4:memory:/a\n0::/a\n");
  CHECK(found.layout == Layout::v1);
  CHECK_FALSE(found.mount);
  CHECK_FALSE(found.own_directory);
}

TEST_CASE("a chroot without any cgroup mount says so") {
  CHECK(locate("22 27 0:21 / /proc rw - proc proc rw\n", "0::/x\n").layout == Layout::none);
  CHECK(locate("", "").layout == Layout::none);
}

TEST_CASE("a container whose mount shows only its own part finds itself below it") {
  const auto found =
      locate("35 24 0:30 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw\n",
             "0::/docker/abc/x\n");
  CHECK(found.own_directory == "/sys/fs/cgroup/x");
  CHECK(found.mount->read_only);
  CHECK(locate("35 24 0:30 /docker/abc /c rw - cgroup2 cgroup2 rw\n", "0::/docker/abc\n")
            .own_directory == "/c");
}

TEST_CASE("a mount that shows another part does not show the process") {
  const auto sibling =
      locate("35 24 0:30 /docker/abc /c rw - cgroup2 cgroup2 rw\n", "0::/docker/abcdef\n");
  CHECK(sibling.mount);
  CHECK_FALSE(sibling.own_directory);
  CHECK(sibling.layout == Layout::unified);
}

TEST_CASE("a process outside of its cgroup namespace is not looked for above the mount") {
  for (const char* path : {"/..", "/../../system.slice", "/../x"}) {
    INFO(path);
    CHECK_FALSE(locate(kUnified, "0::" + std::string(path) + "\n").own_directory);
  }
  // A cgroup may well be called "..x".
  CHECK(locate(kUnified, "0::/..x\n").own_directory == "/sys/fs/cgroup/..x");
}

TEST_CASE("of several mounts the one that can be written and shows most is taken") {
  const auto found = locate(
      "1 1 0:30 / /a ro - cgroup2 none rw\n"
      "2 1 0:30 /x /b rw - cgroup2 none rw\n"
      "3 1 0:30 / /c rw - cgroup2 none rw\n"
      "4 1 0:30 / /d rw - cgroup2 none rw\n",
      "0::/x/y\n");
  CHECK(found.own_directory == "/c/x/y");
}

TEST_CASE("a mount that is covered by a later one is out of reach") {
  const auto found =
      locate("1 1 0:30 / /c rw - cgroup2 none rw\n2 1 0:31 / /c rw - tmpfs none rw\n", "0::/\n");
  CHECK(found.layout == Layout::none);
}

TEST_CASE("octal escapes in mount points are undone, broken ones are kept") {
  const auto mounts = parse_mountinfo(
      "1 1 0:30 /a\\040b /sys/fs/c\\011\\134g\\0 rw - cgroup2 none rw\n"
      "1 1 0:30 / /end\\04 rw - cgroup2 none rw\n"
      "1 1 0:30 / /end\\999\\ rw - cgroup2 none rw\n");
  REQUIRE(mounts.size() == 3);
  CHECK(mounts[0].root == "/a b");
  CHECK(mounts[0].point == "/sys/fs/c\t\\g\\0");
  CHECK(mounts[1].point == "/end\\04");
  CHECK(mounts[2].point == "/end\\999\\");
}

TEST_CASE("lines that are cut short are passed over and do not hide the others") {
  const std::string whole = "41 31 0:38 / /sys/fs/cgroup rw shared:1 - cgroup2 none rw\n";
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    INFO(cut);
    const auto found = locate(cut + "\n" + whole, "0::/x\n");
    CHECK(found.own_directory == "/sys/fs/cgroup/x");
    (void)locate(cut, cut);
  }
}

TEST_CASE("a process whose cgroup was removed has no directory") {
  const auto own = parse_membership("0::/gone/brood-x (deleted)\n");
  CHECK(own.removed);
  CHECK(own.unified_path == "/gone/brood-x");
  CHECK_FALSE(locate(kUnified, "0::/gone (deleted)\n").own_directory);
}

TEST_CASE("membership lines that are odd are passed over") {
  const auto own = parse_membership(":::\n0:\n0::relative\n\nx\n7:cpu,weird,cpu:/a:b\n0::/a:b c\n");
  CHECK(own.unified_path == "/a:b c");
  CHECK(own.v1_controllers == std::vector<std::string>{"cpu"});
  CHECK_FALSE(parse_membership("1:name=systemd:/\n").unified_path);
}

TEST_CASE("controllers that brood has no use for are left out") {
  using cgroups::Controller;
  CHECK(cgroups::parse_controllers("cpuset cpu io memory hugetlb pids rdma misc\n") ==
        cgroups::ControllerSet::all());
  CHECK(cgroups::parse_controllers("hugetlb\n").empty());
  CHECK(cgroups::parse_controllers("  pids").joined() == "pids");
  CHECK(cgroups::ControllerSet::all().without({Controller::io}).joined() == "cpu, memory, pids");
}
