#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/support/scratch.h"

TEST_CASE("replacing a file leaves no half-written one and no helper file") {
  const tests::ScratchDirectory scratch;
  REQUIRE(base::replace_file_at(scratch.fd(), "a", "one", 0600));
  REQUIRE(base::replace_file_at(scratch.fd(), "a", "two", 0600));
  CHECK(base::read_file_at(scratch.fd(), "a").value() == "two");
  CHECK(::faccessat(scratch.fd(), "a.new", F_OK, 0) != 0);
}

TEST_CASE("a file longer than the limit is refused, not cut") {
  const tests::ScratchDirectory scratch;
  REQUIRE(base::replace_file_at(scratch.fd(), "a", std::string(5000, 'x'), 0600));
  const auto text = base::read_file_at(scratch.fd(), "a", 4999);
  REQUIRE_FALSE(text);
  CHECK(text.error().code() == EFBIG);
}

TEST_CASE("removing a tree removes links, not what they point to") {
  const tests::ScratchDirectory scratch;
  REQUIRE(base::make_directories(scratch.path() + "/tree/deep/er", 0700));
  REQUIRE(base::replace_file_at(scratch.fd(), "kept", "x", 0600));
  REQUIRE(::symlinkat("../../kept", scratch.fd(), "tree/deep/link") == 0);
  REQUIRE(::symlinkat("..", scratch.fd(), "tree/up") == 0);
  REQUIRE(base::remove_tree_at(scratch.fd(), "tree"));
  CHECK(::faccessat(scratch.fd(), "tree", F_OK, AT_SYMLINK_NOFOLLOW) != 0);
  CHECK(base::read_file_at(scratch.fd(), "kept").value() == "x");
  CHECK(base::remove_tree_at(scratch.fd(), "tree"));
}
