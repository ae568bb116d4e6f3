// What the kernel does with the limits. These cases need controllers: a host that lacks them skips,
// and the project's virtual machine runs them.
#include <fcntl.h>
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "cgroups/limit_writer.h"
#include "tests/cgroups/kernel_fixture.h"

using namespace std::chrono_literals;
using cgroups::Cgroup;
using cgroups::Controller;

namespace {

std::string file_of(const Cgroup& cgroup, const std::string& name) {
  std::string text = base::read_file_at(cgroup.fd(), name).value();
  text.erase(text.find_last_not_of('\n') + 1);
  return text;
}

int touch_memory(std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  std::memset(memory, 1, bytes);
  return ::munmap(memory, bytes);
}

void spin_for(std::chrono::milliseconds span) {
  const auto until = std::chrono::steady_clock::now() + span;
  while (std::chrono::steady_clock::now() < until) {
  }
}

}  // namespace

TEST_CASE("memory.max kills every process of the cgroup, and is told as out of memory") {
  const auto subtree = tests::limited_subtree({Controller::memory});
  const Cgroup box = subtree.root().create("box").value();
  REQUIRE(box.set_limits({.memory_bytes = 16 << 20}).value().empty());
  CHECK(file_of(box, "memory.max") == "16777216");
  CHECK(file_of(box, "memory.oom.group") == "1");

  base::OwnedPid bystander = tests::sleeping_child();
  REQUIRE(box.add(bystander.pid()));
  base::OwnedPid hog =
      tests::child_that([&] { return box.add_self() ? touch_memory(std::size_t{64} << 20) : 1; });
  CHECK(hog.wait()->status == SIGKILL);
  CHECK(bystander.wait()->status == SIGKILL);

  const auto usage = box.usage().value();
  REQUIRE(usage.memory_events);
  CHECK(usage.memory_events->oom_kill >= 1);
  CHECK(usage.memory_events->max >= 1);
  if (usage.memory_peak_bytes) {
    CHECK(*usage.memory_peak_bytes <= 17ULL << 20);
    CHECK(*usage.memory_peak_bytes > 8ULL << 20);
  }
}

TEST_CASE("pids.max refuses a process, and counts the refusal") {
  const auto subtree = tests::limited_subtree({Controller::pids});
  const Cgroup box = subtree.root().create("box").value();
  REQUIRE(box.set_limits({.pids = 3}).value().empty());
  base::OwnedPid bomb = tests::child_that([&] {
    if (!box.add_self()) {
      return 100;
    }
    int born = 0;
    while (born < 50) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::pause();
      }
      if (pid < 0) {
        return errno == EAGAIN ? born : 101;
      }
      ++born;
    }
    return born;
  });
  CHECK(bomb.wait()->status == 2);
  const auto usage = box.usage().value();
  CHECK(usage.pids_refused.value() == 1);
  CHECK(usage.pids.value() == 2);
}

TEST_CASE("cpu.max holds a spinning process back") {
  const auto subtree = tests::limited_subtree({Controller::cpu});
  const Cgroup box = subtree.root().create("box").value();
  REQUIRE(box.set_limits({.milli_cpu = 100, .cpu_weight = 50}).value().empty());
  CHECK(file_of(box, "cpu.max") == "10000 100000");
  CHECK(file_of(box, "cpu.weight") == "50");
  base::OwnedPid child = tests::child_that([&] {
    if (!box.add_self()) {
      return 1;
    }
    spin_for(600ms);
    return 0;
  });
  CHECK(child.wait()->status == 0);
  const auto cpu = box.cpu().value();
  CHECK(cpu.throttled > 0);
  CHECK(cpu.usage_us < 300'000);
}

TEST_CASE("a limit is written when it changes, and only then") {
  const auto subtree =
      tests::limited_subtree({Controller::cpu, Controller::memory, Controller::pids});
  const Cgroup box = subtree.root().create("box").value();
  auto writer = cgroups::LimitWriter::open(box).value();
  CHECK(writer.missing().empty());
  REQUIRE(writer.set_memory(32 << 20));
  REQUIRE(writer.set_cpu(500));
  REQUIRE(writer.set_cpu_weight(40));
  REQUIRE(writer.set_pids(8));
  CHECK(file_of(box, "memory.max") == "33554432");
  CHECK(file_of(box, "cpu.max") == "50000 100000");
  CHECK(file_of(box, "cpu.weight") == "40");
  CHECK(file_of(box, "pids.max") == "8");
  // Changed behind the writer's back: were the same value written again, it would come back.
  REQUIRE(box.set_limits({.memory_bytes = 64 << 20, .pids = 9}));
  REQUIRE(writer.set_memory(32 << 20));
  REQUIRE(writer.set_pids(10));
  CHECK(file_of(box, "memory.max") == "67108864");
  CHECK(file_of(box, "pids.max") == "10");
}

TEST_CASE("swap cannot stretch a memory limit") {
  const auto subtree = tests::limited_subtree({Controller::memory});
  const Cgroup box = subtree.root().create("box").value();
  if (::faccessat(box.fd(), "memory.swap.max", F_OK, 0) != 0) {
    WARN("this kernel counts no swap");
    return;
  }
  REQUIRE(box.set_limits({.memory_bytes = 16 << 20}));
  CHECK(file_of(box, "memory.swap.max") == "0");
}

TEST_CASE("io.max is set for a whole disk") {
  std::string disk;
  for (const char* name : {"vda", "sda", "nvme0n1", "xvda", "zram0", "ram0", "loop0"}) {
    const auto numbers = base::read_file("/sys/block/" + std::string(name) + "/dev");
    if (numbers && disk.empty()) {
      disk = *numbers;
    }
  }
  if (disk.empty()) {
    tests::skip_because("no block device");
  }
  const auto subtree = tests::limited_subtree({Controller::io});
  const Cgroup box = subtree.root().create("box").value();
  const cgroups::IoLimit limit{
      .major = static_cast<unsigned>(std::stoul(disk)),
      .minor = static_cast<unsigned>(std::stoul(disk.substr(disk.find(':') + 1))),
      .read_bps = 1 << 20};
  REQUIRE(box.set_limits({.io = {limit}}).value().empty());
  CHECK(file_of(box, "io.max").find("rbps=1048576 wbps=max") != std::string::npos);
}
