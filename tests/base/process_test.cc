#include "base/process.h"

#include <signal.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "base/syscalls.h"

namespace {

base::OwnedPid sleeper() {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::pause();
    ::_exit(3);
  }
  return base::OwnedPid(pid, base::UniqueFd(base::pidfd_open(pid)));
}

}  // namespace

TEST_CASE("a killed child is told from one that exited") {
  base::OwnedPid child = sleeper();
  CHECK_FALSE(child.ref().ended());
  REQUIRE(child.ref().signal(SIGTERM));
  const auto end = child.wait();
  REQUIRE(end);
  CHECK(end->code == CLD_KILLED);
  CHECK(end->status == SIGTERM);
}

TEST_CASE("an owned child does not outlive its owner") {
  pid_t pid = 0;
  {
    const base::OwnedPid child = sleeper();
    pid = child.pid();
    CHECK(base::pid_of(child.ref().fd()) == pid);
  }
  CHECK(::kill(pid, 0) != 0);
}
