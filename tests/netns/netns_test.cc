#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <functional>

#include "base/file.h"
#include "base/process.h"
#include "base/syscalls.h"
#include "netns/inspect.h"
#include "netns/namespace.h"
#include "tests/support/skip.h"

namespace {

bool raise_loopback() {
  const base::UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  if (::ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0) {
    return false;
  }
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  return ::ioctl(socket.get(), SIOCSIFFLAGS, &request) == 0;
}

// A child in a user and a network namespace of its own, where `prepare` has run. It ends with the
// scope, and its namespaces with it.
class Neighbour {
 public:
  explicit Neighbour(const std::function<bool()>& prepare = [] { return true; }) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const base::UniqueFd from_child(ends[0]);
    base::UniqueFd to_parent(ends[1]);
    const pid_t pid = ::fork();
    if (pid == 0) {
      int answer = ::unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 ? 0 : errno;
      if (answer == 0 && !prepare()) {
        answer = EIO;
      }
      (void)!::write(to_parent.get(), &answer, sizeof answer);
      for (;;) {
        ::pause();
      }
    }
    child_ = base::OwnedPid(pid, base::UniqueFd(base::pidfd_open(pid)));
    to_parent.reset();
    int answer = EPIPE;
    (void)!::read(from_child.get(), &answer, sizeof answer);
    if (answer != 0) {
      child_ = base::OwnedPid();
      tests::skip_because("cannot make a user and network namespace: " + base::errno_name(answer));
    }
  }
  const base::OwnedPid& process() const { return child_; }

 private:
  base::OwnedPid child_;
};

base::UniqueFd open_of(const Neighbour& neighbour) {
  tests::need_root();
  return netns::open_of_pidfd(neighbour.process().ref().fd()).value();
}

}  // namespace

TEST_CASE("a fresh namespace has a loopback that is down, and nothing else") {
  tests::need_root();
  const Neighbour neighbour;
  const base::UniqueFd fd = open_of(neighbour);
  const auto found = netns::interfaces(fd.get());
  REQUIRE(found);
  REQUIRE(found->size() == 1);
  const netns::Interface& lo = found->front();
  CHECK(lo.name == "lo");
  CHECK(lo.index == 1);
  CHECK(lo.loopback);
  CHECK_FALSE(lo.up);
  CHECK(lo.mac == "00:00:00:00:00:00");
  CHECK(lo.mtu == 65536);
  CHECK(lo.addresses.empty());
  CHECK(netns::routes(fd.get())->all == 0);
}

TEST_CASE("a loopback that is up has its address, and no route leads out") {
  tests::need_root();
  const Neighbour neighbour(raise_loopback);
  const base::UniqueFd fd = open_of(neighbour);
  const auto found = netns::interfaces(fd.get()).value();
  REQUIRE(found.size() == 1);
  CHECK(found[0].up);
  REQUIRE_FALSE(found[0].addresses.empty());
  CHECK(found[0].addresses[0] == "127.0.0.1/8");
  const auto routes = netns::routes(fd.get()).value();
  CHECK(routes.all > 0);
  CHECK(routes.leaving == 0);
}

TEST_CASE("looking into another namespace does not move the one who looks") {
  tests::need_root();
  const Neighbour neighbour;
  const base::UniqueFd theirs = open_of(neighbour);
  const auto own_before = netns::identity(netns::open_own()->get()).value();
  REQUIRE(netns::interfaces(theirs.get()));
  CHECK(netns::identity(netns::open_own()->get()).value() == own_before);
  CHECK(netns::identity(theirs.get()).value() != own_before);
}

TEST_CASE("one namespace is the same by pid and by pidfd") {
  tests::need_root();
  const Neighbour neighbour;
  const auto by_pid = netns::open_of_pid(neighbour.process().pid()).value();
  const auto by_pidfd = netns::open_of_pidfd(neighbour.process().ref().fd()).value();
  CHECK(netns::identity(by_pid.get()).value() == netns::identity(by_pidfd.get()).value());
}

TEST_CASE("a socket that is made inside stays inside") {
  tests::need_root();
  const Neighbour neighbour;
  const base::UniqueFd theirs = open_of(neighbour);
  base::UniqueFd socket;
  REQUIRE(netns::run_inside(theirs.get(), [&]() -> base::Status {
    socket.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    return {};
  }));
  ifreq request{};
  request.ifr_ifindex = 2;  // a fresh namespace has only interface 1
  CHECK(::ioctl(socket.get(), SIOCGIFNAME, &request) != 0);
  request.ifr_ifindex = 1;
  CHECK(::ioctl(socket.get(), SIOCGIFNAME, &request) == 0);
}

TEST_CASE("the namespace of a process that has ended cannot be opened") {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::_exit(0);
  }
  const base::UniqueFd pidfd(base::pidfd_open(pid));
  REQUIRE(::waitpid(pid, nullptr, 0) == pid);
  const auto opened = netns::open_of_pidfd(pidfd.get());
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code() == ESRCH);
}

TEST_CASE("a descriptor that is no namespace is refused, and the work is not done") {
  const base::UniqueFd null = base::open_at(AT_FDCWD, "/dev/null", O_RDONLY).value();
  bool ran = false;
  const auto status = netns::run_inside(null.get(), [&]() -> base::Status {
    ran = true;
    return {};
  });
  REQUIRE_FALSE(status);
  CHECK(status.error().code() == EINVAL);
  CHECK_FALSE(ran);
}
