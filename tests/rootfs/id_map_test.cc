#include "rootfs/id_map.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "tests/support/scratch.h"
#include "tests/support/skip.h"

namespace {

constexpr std::uint32_t kFirst = 0x90000000;

struct stat about(int dir_fd, const char* path) {
  struct stat found {};
  REQUIRE(::fstatat(dir_fd, path, &found, AT_SYMLINK_NOFOLLOW) == 0);
  return found;
}

std::size_t descriptors() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

}  // namespace

TEST_CASE("a tree is shown with a sandbox's own ids, and those beyond them are nobody's") {
  tests::need_root();
  const tests::ScratchDirectory scratch;
  if (const auto able = rootfs::can_map_ids(scratch.fd()); !able) {
    tests::skip_because("no idmapped mounts below an overlay here: " + able.error().message());
  }
  for (const char* name : {"root", "web", "far"}) {
    REQUIRE(base::replace_file_at(scratch.fd(), name, "x", 0600));
  }
  REQUIRE(::fchownat(scratch.fd(), "web", 33, 34, 0) == 0);
  REQUIRE(::fchownat(scratch.fd(), "far", 65536, 65536, 0) == 0);
  const auto mount = rootfs::clone_tree_as(scratch.fd(), {.read_only = true}, kFirst, 65536);
  INFO((mount ? "" : mount.error().message()));
  REQUIRE(mount);
  CHECK(about(mount->get(), "root").st_uid == kFirst);
  CHECK(about(mount->get(), "web").st_uid == kFirst + 33);
  CHECK(about(mount->get(), "web").st_gid == kFirst + 34);
  CHECK(about(mount->get(), "far").st_uid == 65534);
  CHECK(about(scratch.fd(), "web").st_uid == 33);  // on the disk nothing has changed
  CHECK(!base::open_at(mount->get(), "new", O_WRONLY | O_CREAT, 0600));
}

TEST_CASE("no process and no descriptor stays for a map") {
  tests::need_root();
  const tests::ScratchDirectory scratch;
  if (!rootfs::can_map_ids(scratch.fd())) {
    tests::skip_because("no idmapped mounts below an overlay here");
  }
  REQUIRE(rootfs::clone_tree_as(scratch.fd(), {}, kFirst, 65536));
  const std::size_t before = descriptors();
  for (int i = 0; i < 20; ++i) {
    REQUIRE(rootfs::clone_tree_as(scratch.fd(), {}, kFirst, 65536));
  }
  CHECK(descriptors() == before);
  CHECK(::waitpid(-1, nullptr, WNOHANG) < 0);  // ECHILD: there is no child
}

TEST_CASE("an image's root is the sandbox's own, wherever the images are kept") {
  tests::need_root();
  const char* named = std::getenv("BROOD_IMAGES");  // NOLINT(concurrency-mt-unsafe)
  const std::string path =
      std::string(named != nullptr ? named : "/var/lib/brood/images") + "/python3/rootfs";
  const auto tree = base::open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
  if (!tree) {
    tests::skip_because("no image: " + tree.error().message());
  }
  if (const auto able = rootfs::can_map_ids(tree->get()); !able) {
    tests::skip_because("no idmapped mounts below an overlay here: " + able.error().message());
  }
  REQUIRE(about(tree->get(), "etc").st_uid == 0);
  const auto mount = rootfs::clone_tree_as(tree->get(), {.read_only = true}, kFirst, 65536);
  REQUIRE(mount);
  CHECK(about(mount->get(), "etc").st_uid == kFirst);
}
