#include "cgroups/cgroup.h"

#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>

#include "cgroups/limit_writer.h"
#include "tests/cgroups/kernel_fixture.h"

using namespace std::chrono_literals;
using cgroups::Cgroup;
using cgroups::Controller;
using cgroups::Freeze;
using cgroups::Removed;

namespace {

// 0, or the errno with which the kernel refused a child born in `target`.
int clone_into(const Cgroup& target) {
  struct clone_args args {};
  args.flags = CLONE_INTO_CGROUP;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<std::uint64_t>(target.fd());
  const long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid == 0) {
    ::_exit(0);
  }
  if (pid < 0) {
    return errno;
  }
  ::waitpid(static_cast<pid_t>(pid), nullptr, 0);
  return 0;
}

}  // namespace

TEST_CASE("a process that was added is listed, and makes the cgroup populated") {
  const tests::ScratchCgroup scratch;
  CHECK(scratch->procs()->empty());
  CHECK_FALSE(scratch->populated().value());
  const base::OwnedPid child = tests::sleeping_child();
  REQUIRE(scratch->add(child.pid()));
  CHECK(scratch->procs().value() == std::vector<pid_t>{child.pid()});
  CHECK(scratch->populated().value());
  CHECK_FALSE(scratch->is_hierarchy_root());
}

TEST_CASE("a process that has ended cannot be added, and the error says so") {
  const tests::ScratchCgroup scratch;
  pid_t gone = 0;
  {
    const base::OwnedPid child = tests::sleeping_child();
    gone = child.pid();
  }
  const auto added = scratch->add(gone);
  REQUIRE_FALSE(added);
  CHECK(added.error().code() == ESRCH);
  CHECK(added.error().message().find(scratch->path() + "/cgroup.procs") != std::string::npos);
}

TEST_CASE("a cgroup that is in use is busy, and gone once its process is") {
  const tests::ScratchCgroup scratch;
  const Cgroup box = scratch->create("box").value();
  base::OwnedPid child = tests::sleeping_child();
  REQUIRE(box.add(child.pid()));
  CHECK(box.remove().value() == Removed::busy);
  CHECK(scratch->remove().value() == Removed::busy);
  REQUIRE(child.ref().signal(SIGKILL));
  REQUIRE(child.wait());
  CHECK(box.remove().value() == Removed::yes);
  CHECK(box.remove().value() == Removed::yes);
  CHECK(scratch->children()->empty());
}

TEST_CASE("a zombie does not keep its cgroup") {
  const tests::ScratchCgroup scratch;
  const Cgroup box = scratch->create("box").value();
  const base::OwnedPid child = tests::sleeping_child();
  REQUIRE(box.add(child.pid()));
  REQUIRE(box.kill());
  REQUIRE(box.wait_until_empty(10s).value());
  CHECK(box.remove().value() == Removed::yes);
}

TEST_CASE("a frozen process stands still until it is thawed") {
  const tests::ScratchCgroup scratch;
  const tests::SharedCounter counter;
  const base::OwnedPid child = tests::child_that([&] {
    for (;;) {
      ++*counter;
    }
    return 0;
  });
  REQUIRE(scratch->add(child.pid()));
  REQUIRE(tests::soon([&] { return *counter > 0; }));

  REQUIRE(scratch->freeze(Freeze::frozen));
  REQUIRE(tests::soon([&] { return scratch->events()->frozen; }));
  const std::uint64_t stopped_at = *counter;
  std::this_thread::sleep_for(50ms);
  CHECK(*counter == stopped_at);

  REQUIRE(scratch->freeze(Freeze::thawed));
  CHECK(tests::soon([&] { return *counter > stopped_at; }));
}

TEST_CASE("killing takes the processes of every cgroup below, frozen or not") {
  const tests::ScratchCgroup scratch;
  const Cgroup above = scratch->create("above").value();
  const Cgroup below = above.create("below").value();
  base::OwnedPid first = tests::sleeping_child();
  base::OwnedPid second = tests::sleeping_child();
  REQUIRE(above.add(first.pid()));
  REQUIRE(below.add(second.pid()));
  REQUIRE(below.freeze(Freeze::frozen));
  SECTION("through cgroup.kill") {
    REQUIRE(above.kill());
  }
  SECTION("one by one, as a kernel without cgroup.kill needs it") {
    REQUIRE(above.kill_each_process());
  }
  CHECK(first.wait()->status == SIGKILL);
  CHECK(second.wait()->status == SIGKILL);
  CHECK_FALSE(above.populated().value());
}

TEST_CASE("killing one by one reaches processes that keep forking") {
  const tests::ScratchCgroup scratch;
  const base::OwnedPid forker = tests::child_that([] {
    ::signal(SIGCHLD, SIG_IGN);
    for (;;) {
      if (::fork() == 0) {
        ::usleep(2000);
        ::_exit(0);
      }
      ::usleep(200);
    }
    return 0;
  });
  REQUIRE(scratch->add(forker.pid()));
  std::this_thread::sleep_for(20ms);
  REQUIRE(scratch->kill_each_process());
  CHECK(scratch->wait_until_empty(10s).value());
}

TEST_CASE("waiting for a cgroup to empty ends when its time is up") {
  const tests::ScratchCgroup scratch;
  const base::OwnedPid child = tests::sleeping_child();
  REQUIRE(scratch->add(child.pid()));
  CHECK_FALSE(scratch->wait_until_empty(30ms).value());
}

TEST_CASE("the events descriptor wakes a poll when the last process is gone") {
  const tests::ScratchCgroup scratch;
  base::OwnedPid child = tests::sleeping_child();
  REQUIRE(scratch->add(child.pid()));
  const base::UniqueFd events = scratch->events_fd().value();
  char text[128];
  REQUIRE(::pread(events.get(), text, sizeof text, 0) > 0);
  pollfd poll{.fd = events.get(), .events = POLLPRI, .revents = 0};
  CHECK(::poll(&poll, 1, 0) == 0);
  REQUIRE(child.ref().signal(SIGKILL));
  REQUIRE(child.wait());
  CHECK(::poll(&poll, 1, 10'000) == 1);
}

TEST_CASE("removing a tree takes processes and cgroups of any name with it") {
  const tests::ScratchCgroup scratch;
  const Cgroup top = scratch->create("top").value();
  const Cgroup inner = top.create("inner").value();
  REQUIRE(::mkdirat(inner.fd(), "not.our name", 0755) == 0);
  const base::OwnedPid child = tests::sleeping_child();
  REQUIRE(inner.add(child.pid()));
  CHECK(top.remove_tree(10s).value() == Removed::yes);
  CHECK(scratch->children()->empty());
  CHECK(child.ref().ended());
  CHECK(top.remove_tree(10s).value() == Removed::yes);
}

TEST_CASE("a child is made once, and only under a name that can be no control file") {
  const tests::ScratchCgroup scratch;
  REQUIRE(scratch->create("box"));
  CHECK(scratch->create("box").error().code() == EEXIST);
  CHECK(scratch->open_child("box")->path() == scratch->path() + "/box");
  CHECK(scratch->open_child("box")->name() == "box");
  CHECK(scratch->open_child("none").error().code() == ENOENT);
  CHECK_FALSE(scratch->create("../out"));
  CHECK_FALSE(scratch->open_child(".."));
}

TEST_CASE("a directory that is on no cgroup2 mount is refused") {
  CHECK(Cgroup::open("/tmp").error().message().find("not a directory of cgroup v2") !=
        std::string::npos);
  CHECK(Cgroup::open("/nowhere/at/all").error().code() == ENOENT);
}

TEST_CASE("a child is born in a cgroup through its descriptor") {
  const tests::ScratchCgroup scratch;
  CHECK(clone_into(*scratch) == 0);
}

TEST_CASE("an unprivileged zygote may place children only where it was given cgroup.procs") {
  const tests::ScratchCgroup scratch;
  const Cgroup home = scratch->create("zygote").value();
  const Cgroup given = scratch->create("given").value();
  const Cgroup kept = scratch->create("kept").value();
  constexpr uid_t kNobody = 65534;
  REQUIRE(scratch->chown_procs(kNobody));
  REQUIRE(given.chown_procs(kNobody));

  base::OwnedPid zygote = tests::child_that([&] {
    if (!home.add_self() || ::setresuid(kNobody, kNobody, kNobody) != 0) {
      return 1;
    }
    if (clone_into(given) != 0) {
      return 2;
    }
    if (clone_into(kept) != EACCES) {
      return 3;
    }
    return ::mkdirat(given.fd(), "mine", 0755) == 0 ? 4 : 0;
  });
  CHECK(zygote.wait()->status == 0);
}

TEST_CASE("CPU time is counted even where it cannot be limited") {
  const tests::ScratchCgroup scratch;
  base::OwnedPid child = tests::child_that([&] {
    if (!scratch->add_self()) {
      return 1;
    }
    const auto until = std::chrono::steady_clock::now() + 30ms;
    while (std::chrono::steady_clock::now() < until) {
    }
    return 0;
  });
  CHECK(child.wait()->status == 0);
  CHECK(scratch->cpu()->usage_us > 1000);
  CHECK(scratch->usage()->cpu.usage_us >= scratch->cpu()->user_us);
}

TEST_CASE("limits that the host cannot enforce are told, not passed over") {
  const tests::ScratchCgroup scratch;
  const Cgroup box = scratch->create("box").value();  // nothing is enabled for it
  const cgroups::Limits limits{.memory_bytes = 64 << 20,
                               .milli_cpu = 500,
                               .pids = 10,
                               .io = {{.major = 8, .minor = 0, .read_bps = 1}}};
  CHECK(box.set_limits(limits).value() == cgroups::ControllerSet::all());
  CHECK(box.set_limits({}).value().empty());

  auto writer = cgroups::LimitWriter::open(box).value();
  CHECK(writer.missing() ==
        cgroups::ControllerSet{Controller::cpu, Controller::memory, Controller::pids});
  CHECK(writer.set_memory(1 << 20));

  const auto usage = box.usage().value();
  CHECK_FALSE(usage.memory_bytes);
  CHECK_FALSE(usage.memory_events);
  CHECK_FALSE(usage.pids);
}

TEST_CASE("a controller that is not there cannot be enabled, and the error names the file") {
  const tests::ScratchCgroup scratch;
  const Cgroup box = scratch->create("box").value();
  const auto enabled = box.enable(Controller::memory);
  REQUIRE_FALSE(enabled);
  CHECK(enabled.error().message().find("box/cgroup.subtree_control") != std::string::npos);
}
