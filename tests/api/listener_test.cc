#include "api/listener.h"

#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <catch2/catch.hpp>

#include <cstring>

#include "tests/support/scratch.h"

using api::Listener;

namespace {

constexpr const char* kNoGroup = "no-such-group-here";

struct stat info_of(const std::string& path) {
  struct stat info {};
  ::lstat(path.c_str(), &info);
  return info;
}

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

// What an agent leaves that was killed.
void leave_stale_socket(const std::string& path) {
  const base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(socket.get(), 1) == 0);
}

}  // namespace

TEST_CASE("a socket is 0660, its folder is made 0755, and it goes with its listener") {
  const tests::ScratchDirectory scratch;
  const std::string path = scratch.path() + "/run/brood.sock";
  {
    const auto listener = Listener::open(path, kNoGroup);
    REQUIRE(listener);
    CHECK((info_of(path).st_mode & 07777) == 0660);
    CHECK(S_ISSOCK(info_of(path).st_mode));
    CHECK((info_of(scratch.path() + "/run").st_mode & 07777) == 0755);
    CHECK_FALSE(exists(path + ".new"));
  }
  CHECK_FALSE(exists(path));
}

TEST_CASE("a socket belongs to the group that is named") {
  const tests::ScratchDirectory scratch;
  const auto* group = ::getgrgid(::getegid());
  REQUIRE(group != nullptr);
  const auto listener = Listener::open(scratch.path() + "/s", group->gr_name);
  REQUIRE(listener);
  CHECK(info_of(scratch.path() + "/s").st_gid == ::getegid());
}

TEST_CASE("the socket of an agent that was killed is replaced") {
  const tests::ScratchDirectory scratch;
  leave_stale_socket(scratch.path() + "/s");
  CHECK(Listener::open(scratch.path() + "/s", kNoGroup));
}

TEST_CASE("a second agent on the same socket is refused and does no harm") {
  const tests::ScratchDirectory scratch;
  const std::string path = scratch.path() + "/s";
  const auto first = Listener::open(path, kNoGroup);
  REQUIRE(first);
  const auto second = Listener::open(path, kNoGroup);
  REQUIRE_FALSE(second);
  CHECK_THAT(second.error().message(), Catch::Contains("another agent is running on"));
  CHECK(exists(path));
}

TEST_CASE("a file that is no socket is refused and kept") {
  const tests::ScratchDirectory scratch;
  const std::string path = scratch.path() + "/s";
  REQUIRE(base::replace_file_at(AT_FDCWD, path, "precious", 0600));
  CHECK_FALSE(Listener::open(path, kNoGroup));
  CHECK(base::read_file(path).value() == "precious");
}

TEST_CASE("a listener does not remove the file of the agent that followed it") {
  const tests::ScratchDirectory scratch;
  const std::string path = scratch.path() + "/s";
  auto first = Listener::open(path, kNoGroup);
  REQUIRE(first);
  ::unlink(path.c_str());
  const auto second = Listener::open(path, kNoGroup);
  REQUIRE(second);
  first->remove_file();
  CHECK(exists(path));
}

TEST_CASE("a path that no socket can have is refused with its limit") {
  const tests::ScratchDirectory scratch;
  const auto opened = Listener::open(scratch.path() + "/" + std::string(120, 's'), kNoGroup);
  REQUIRE_FALSE(opened);
  CHECK_THAT(opened.error().message(), Catch::Contains("107"));
  CHECK_FALSE(Listener::open("relative.sock", kNoGroup));
}
