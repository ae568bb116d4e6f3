#include "base/descriptors.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>

namespace {

using base::UniqueFd;

struct Pair {
  Pair() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    one.reset(ends[0]);
    other.reset(ends[1]);
  }
  UniqueFd one;
  UniqueFd other;
};

std::vector<UniqueFd> some(std::size_t count) {
  std::vector<UniqueFd> all;
  for (std::size_t i = 0; i < count; ++i) {
    all.emplace_back(::open(i == 0 ? "/dev/null" : "/dev/zero", O_RDONLY | O_CLOEXEC));
  }
  return all;
}

dev_t device_of(const UniqueFd& fd) {
  struct stat about {};
  REQUIRE(::fstat(fd.get(), &about) == 0);
  return about.st_rdev;
}

}  // namespace

TEST_CASE("descriptors come with their bytes, in order, and close on exec") {
  const Pair pair;
  const auto sent = some(2);
  REQUIRE(base::send_with_descriptors(pair.one.get(), "abc", sent, 0) == 3);
  char bytes[8];
  std::vector<UniqueFd> got;
  REQUIRE(base::receive_with_descriptors(pair.other.get(), bytes, sizeof bytes, 3, got, 0) == 3);
  CHECK(std::string(bytes, 3) == "abc");
  REQUIRE(got.size() == 2);
  CHECK(device_of(got[0]) == device_of(sent[0]));
  CHECK(device_of(got[1]) == device_of(sent[1]));
  CHECK((::fcntl(got[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("bytes alone come alone, and nothing is an error that the call does not say") {
  const Pair pair;
  REQUIRE(base::send_with_descriptors(pair.one.get(), "x", {}, 0) == 1);
  char bytes[8];
  std::vector<UniqueFd> got;
  CHECK(base::receive_with_descriptors(pair.other.get(), bytes, sizeof bytes, 3, got, 0) == 1);
  CHECK(got.empty());
  CHECK(base::receive_with_descriptors(pair.other.get(), bytes, sizeof bytes, 3, got,
                                       MSG_DONTWAIT) == -1);
  CHECK(errno == EAGAIN);
}

TEST_CASE("more descriptors than are wanted are an error, at once and in parts") {
  const Pair pair;
  char bytes[8];
  std::vector<UniqueFd> got;
  REQUIRE(base::send_with_descriptors(pair.one.get(), "x", some(6), 0) == 1);
  CHECK(base::receive_with_descriptors(pair.other.get(), bytes, sizeof bytes, 2, got, 0) == -1);
  CHECK(errno == EPROTO);
  got.clear();
  for (const ssize_t expected : {1, -1}) {
    REQUIRE(base::send_with_descriptors(pair.one.get(), "x", some(2), 0) == 1);
    CHECK(base::receive_with_descriptors(pair.other.get(), bytes, sizeof bytes, 3, got, 0) ==
          expected);
  }
}
