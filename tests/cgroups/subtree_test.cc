#include "cgroups/subtree.h"

#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/cgroups/kernel_fixture.h"

using namespace std::chrono_literals;
using cgroups::Cgroup;
using cgroups::Controller;
using cgroups::Leftovers;
using cgroups::Removed;
using cgroups::Subtree;

namespace {

std::string membership() {
  return base::read_file("/proc/self/cgroup").value();
}

bool exists(const Cgroup& parent, const std::string& name) {
  return static_cast<bool>(parent.open_child(name));
}

// What the vacating agent of the tests below sees; its exit status names what went wrong.
int live_and_leave(const Cgroup& home) {
  const std::string before = membership();
  if (!home.add_self()) {
    return 1;
  }
  auto subtree = Subtree::open("inner");
  if (!subtree) {
    return 2;
  }
  if (membership().find("/home/agent\n") == std::string::npos) {
    return 3;
  }
  if (!subtree->available().has(Controller::pids) || !exists(home, "brood-inner")) {
    return 4;
  }
  const auto box = subtree->root().create("box");
  if (!box || !box->set_limits({.pids = 5})->empty()) {
    return 5;
  }
  if (subtree->remove().value_or(Removed::busy) != Removed::yes) {
    return 6;
  }
  if (membership().find("/home\n") == std::string::npos) {
    return 7;
  }
  return home.children()->empty() ? 0 : 8;
}

}  // namespace

TEST_CASE("a subtree is made below a named parent, and nothing is left of it") {
  const tests::ScratchCgroup scratch;
  {
    auto subtree = Subtree::open("one", {.parent = scratch->path()});
    REQUIRE(subtree);
    CHECK(subtree->root().path() == scratch->path() + "/brood-one");
    CHECK(subtree->root().create("box"));
    CHECK(exists(*scratch, "brood-one"));
    CHECK(subtree->remove().value() == Removed::yes);
    CHECK_FALSE(exists(*scratch, "brood-one"));
  }
  CHECK(scratch->children()->empty());
}

TEST_CASE("a dropped subtree takes its processes with it") {
  const tests::ScratchCgroup scratch;
  const base::OwnedPid child = tests::sleeping_child();
  {
    const auto subtree = Subtree::open("one", {.parent = scratch->path()});
    REQUIRE(subtree);
    REQUIRE(subtree->root().create("box")->add(child.pid()));
  }
  CHECK(child.ref().ended());
  CHECK(scratch->children()->empty());
}

TEST_CASE("a released subtree stays, and the next agent clears it, processes and all") {
  const tests::ScratchCgroup scratch;
  const base::OwnedPid child = tests::sleeping_child();
  {
    auto killed = Subtree::open("one", {.parent = scratch->path()}).value();
    REQUIRE(killed.root().create("old")->add(child.pid()));
    killed.release();
  }
  CHECK(exists(*scratch, "brood-one"));
  const auto refused =
      Subtree::open("one", {.parent = scratch->path(), .leftovers = Leftovers::refuse});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code() == EEXIST);
  CHECK_FALSE(child.ref().ended());

  const auto next = Subtree::open("one", {.parent = scratch->path()});
  REQUIRE(next);
  CHECK(child.ref().ended());
  CHECK(next->root().children()->empty());
}

TEST_CASE("instances side by side do not touch each other") {
  const tests::ScratchCgroup scratch;
  const auto first = Subtree::open("one", {.parent = scratch->path()}).value();
  {
    const auto second = Subtree::open("two", {.parent = scratch->path()}).value();
    CHECK(scratch->children()->size() == 2);
  }
  CHECK(exists(*scratch, "brood-one"));
}

TEST_CASE("a forked copy that ends does not take the subtree down") {
  const tests::ScratchCgroup scratch;
  auto subtree = Subtree::open("one", {.parent = scratch->path()}).value();
  base::OwnedPid copy = tests::child_that([&] {
    subtree.~Subtree();
    return 0;
  });
  CHECK(copy.wait()->status == 0);
  CHECK(exists(*scratch, "brood-one"));
}

TEST_CASE("a controller that cannot be had is told with the reason") {
  const tests::ScratchCgroup scratch;  // nothing is enabled for it
  const Cgroup parent = scratch->create("parent").value();
  const auto subtree = Subtree::open("one", {.parent = parent.path()});
  REQUIRE(subtree);
  CHECK(subtree->available().empty());
  REQUIRE(subtree->missing().size() == 4);
  for (const auto& missing : subtree->missing()) {
    CHECK_FALSE(missing.reason.empty());
  }
}

TEST_CASE("a parent that is no cgroup is refused by name") {
  const auto elsewhere = Subtree::open("one", {.parent = "/tmp"});
  REQUIRE_FALSE(elsewhere);
  CHECK(elsewhere.error().message().find("/tmp") != std::string::npos);
  CHECK_FALSE(Subtree::open("one", {.parent = "/no/such/cgroup"}));
  CHECK_FALSE(Subtree::open("..", {}));
  CHECK_FALSE(Subtree::open("", {}));
}

TEST_CASE("a parent may be named as /proc/PID/cgroup prints it") {
  const tests::ScratchCgroup scratch;
  base::OwnedPid child = tests::child_that([&] {
    if (!scratch->add_self()) {
      return 1;
    }
    std::string path = membership();
    path = path.substr(path.find("0::") + 3);
    path.resize(path.find('\n'));
    const auto subtree = Subtree::open("one", {.parent = path});
    return subtree && exists(*scratch, "brood-one") ? 0 : 2;
  });
  CHECK(child.wait()->status == 0);
}

TEST_CASE("an agent alone in its cgroup moves into a leaf, and back when it leaves") {
  const auto host = tests::limited_subtree(cgroups::ControllerSet{Controller::pids});
  const Cgroup home = host.root().create("home").value();
  base::OwnedPid agent = tests::child_that([&] { return live_and_leave(home); });
  CHECK(agent.wait()->status == 0);
}

TEST_CASE("an agent that shares its cgroup is refused, and told what to do") {
  const auto host = tests::limited_subtree(cgroups::ControllerSet{Controller::pids});
  const Cgroup home = host.root().create("home").value();
  const base::OwnedPid shell = tests::sleeping_child();
  REQUIRE(home.add(shell.pid()));
  base::OwnedPid agent = tests::child_that([&] {
    if (!home.add_self()) {
      return 1;
    }
    const auto subtree = Subtree::open("inner");
    if (subtree) {
      return 2;
    }
    const std::string message = subtree.error().message();
    if (message.find("Delegate=yes") == std::string::npos ||
        message.find(std::to_string(shell.pid())) == std::string::npos) {
      return 3;
    }
    return membership().find("/home\n") == std::string::npos || !home.children()->empty() ? 4 : 0;
  });
  CHECK(agent.wait()->status == 0);
}

TEST_CASE("inner nodes hand every controller on") {
  const auto host = tests::limited_subtree(cgroups::ControllerSet{Controller::pids});
  const Cgroup inner = host.create_inner(host.root(), "runtime").value();
  const Cgroup box = inner.create("box").value();
  CHECK(box.set_limits({.pids = 7}).value().empty());
}
