#include "rootfs/image.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <ctime>
#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "base/file.h"
#include "tests/support/scratch.h"
#include "tests/support/skip.h"

namespace {

using base::UniqueFd;
using nlohmann::json;

rootfs::Manifest some_manifest() {
  rootfs::Manifest manifest;
  manifest.name = "python3";
  manifest.from = "base";
  manifest.suite = "bookworm";
  manifest.packages = {"python3", "libstdc++6"};
  manifest.preload = {"json", "xml.etree.ElementTree"};
  manifest.interpreter = "/usr/bin/python3";
  manifest.interpreter_version = "3.11.2";
  manifest.digest = "sha256:" + std::string(64, 'a');
  manifest.size_bytes = 1;
  manifest.files = 2;
  return manifest;
}

// The manifest as JSON with one value changed.
std::string manifest_with(const std::string& key, const json& value) {
  json document = json::parse(rootfs::format_manifest(some_manifest()));
  document[key] = value;
  return document.dump();
}

// A small tree as an image is: the five empty directories, a file, a link.
void fill_tree(int fd) {
  for (const char* name : {"proc", "dev", "sys", "run", "tmp", "usr"}) {
    REQUIRE(::mkdirat(fd, name, 0755) == 0);
  }
  REQUIRE(::fchmodat(fd, "tmp", 01777, 0) == 0);
  REQUIRE(base::replace_file_at(fd, "usr/a", "alpha", 0644));
  REQUIRE(::symlinkat("usr/a", fd, "link") == 0);
}

std::string digest_of(int fd) {
  const auto digest = rootfs::tree_digest(fd);
  INFO((digest ? "" : digest.error().message()));
  REQUIRE(digest);
  return digest->digest;
}

// IMAGES/small, sealed as scripts/image/build would.
void make_image(const tests::ScratchDirectory& images) {
  REQUIRE(::mkdirat(images.fd(), "small", 0755) == 0);
  REQUIRE(::mkdirat(images.fd(), "small/rootfs", 0755) == 0);
  const UniqueFd tree = base::open_at(images.fd(), "small/rootfs", O_RDONLY).value();
  fill_tree(tree.get());
  rootfs::Manifest manifest = some_manifest();
  manifest.name = "small";
  manifest.digest = digest_of(tree.get());
  REQUIRE(base::replace_file_at(images.fd(), "small/image.json", rootfs::format_manifest(manifest),
                                0644));
}

// Whether a file was opened since the last time that this was asked.
class Opened {
 public:
  explicit Opened(const std::string& path) : events_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    REQUIRE(::inotify_add_watch(events_.get(), path.c_str(), IN_OPEN) >= 0);
  }
  bool operator()() const {
    char events[4096];
    return ::read(events_.get(), events, sizeof events) > 0;
  }

 private:
  UniqueFd events_;
};

// Well after whatever has been done to a tree.
std::int64_t later() {
  return std::time(nullptr) + 60;
}

}  // namespace

TEST_CASE("a manifest reads back as it was written") {
  const auto read = rootfs::parse_manifest(rootfs::format_manifest(some_manifest()));
  REQUIRE(read);
  CHECK(rootfs::format_manifest(*read) == rootfs::format_manifest(some_manifest()));
  CHECK(read->preload == some_manifest().preload);
  CHECK(read->interpreter_version == "3.11.2");
}

TEST_CASE("an image without an interpreter has a manifest too") {
  rootfs::Manifest manifest = some_manifest();
  manifest.from.clear();
  manifest.interpreter.clear();
  manifest.interpreter_version.clear();
  const auto read = rootfs::parse_manifest(rootfs::format_manifest(manifest));
  REQUIRE(read);
  CHECK(read->interpreter.empty());
  CHECK(read->from.empty());
}

TEST_CASE("a manifest that is not one is refused") {
  for (const char* text : {"", "{", "[]", "null", "7", "{}", "{\"schema\":1}", "\xff\xfe"}) {
    INFO(text);
    CHECK_FALSE(rootfs::parse_manifest(text));
  }
  CHECK_FALSE(rootfs::parse_manifest(std::string(rootfs::kManifestLimit + 1, ' ')));
  CHECK_FALSE(rootfs::parse_manifest(std::string(100'000, '[')));
}

TEST_CASE("a manifest's values are held to their rules, and the error names the key") {
  const std::vector<std::pair<std::string, json>> broken = {
      {"schema", 2},
      {"name", "../python3"},
      {"name", ""},
      {"from", 7},
      {"digest", "sha256:abc"},
      {"digest", std::string(71, 'a')},
      {"packages", "python3"},
      {"packages", json::array({"a b"})},
      {"packages", json::array({"--force"})},
      {"preload", json::array({"os; import evil"})},
      {"preload", json::array({"os."})},
      {"interpreter", "/usr/bin/python3"},
      {"interpreter", {{"path", "/usr/../bin/python3"}, {"version", "3"}}},
      {"interpreter", {{"path", "usr/bin/python3"}, {"version", "3"}}},
      {"interpreter", {{"path", "/usr/bin/python3"}, {"version", "3\n"}}},
      {"size_bytes", -1},
      {"files", 1.5},
  };
  for (const auto& [key, value] : broken) {
    INFO(key << " = " << value);
    const auto read = rootfs::parse_manifest(manifest_with(key, value));
    REQUIRE_FALSE(read);
    if (key != "interpreter") {
      CHECK(read.error().message().find(key) != std::string::npos);
    }
  }
}

TEST_CASE("a manifest with a key that schema 1 does not have, or one twice, is refused") {
  CHECK_FALSE(rootfs::parse_manifest(manifest_with("entrypoint", "/bin/sh")));
  std::string text = rootfs::format_manifest(some_manifest());
  text.insert(text.find("\"name\""), "\"name\": \"other\", ");
  CHECK_FALSE(rootfs::parse_manifest(text));
}

TEST_CASE("a tree's digest is that of its description") {
  const tests::ScratchDirectory scratch;
  REQUIRE(::fchmod(scratch.fd(), 0755) == 0);
  REQUIRE(base::replace_file_at(scratch.fd(), "a", "alpha", 0600));
  REQUIRE(::symlinkat("a", scratch.fd(), "l") == 0);
  const std::string ids = std::to_string(::geteuid()) + '\0' + std::to_string(::getegid()) + '\0';
  using namespace std::string_literals;
  const std::string description = "brood-tree-1\n"s +
                                  "d\0"
                                  "0755\0"s +
                                  ids + "0\0\0\0\0"s +
                                  "f\0"
                                  "0600\0"s +
                                  ids + "5\0"s + base::sha256_hex("alpha") + "\0\0a\0"s +
                                  "l\0"
                                  "0777\0"s +
                                  ids + "0\0a\0\0l\0"s;
  CHECK(digest_of(scratch.fd()) == "sha256:" + base::sha256_hex(description));
}

TEST_CASE("every property that a sandbox could notice changes the digest") {
  const tests::ScratchDirectory scratch;
  fill_tree(scratch.fd());
  const std::string original = digest_of(scratch.fd());
  CHECK(digest_of(scratch.fd()) == original);

  SECTION("content") {
    REQUIRE(base::replace_file_at(scratch.fd(), "usr/a", "alphb", 0644));
  }
  SECTION("mode") {
    REQUIRE(::fchmodat(scratch.fd(), "usr/a", 0755, 0) == 0);
  }
  SECTION("a directory's mode") {
    REQUIRE(::fchmodat(scratch.fd(), "usr", 0700, 0) == 0);
  }
  SECTION("the root's mode") {
    REQUIRE(::fchmod(scratch.fd(), 0711) == 0);
  }
  SECTION("a link's target") {
    REQUIRE(::unlinkat(scratch.fd(), "link", 0) == 0);
    REQUIRE(::symlinkat("usr/b", scratch.fd(), "link") == 0);
  }
  SECTION("a name") {
    REQUIRE(::renameat(scratch.fd(), "usr/a", scratch.fd(), "usr/b") == 0);
  }
  SECTION("one more empty directory") {
    REQUIRE(::mkdirat(scratch.fd(), "usr/d", 0755) == 0);
  }
  SECTION("a file for a link with the same bytes") {
    REQUIRE(::unlinkat(scratch.fd(), "link", 0) == 0);
    REQUIRE(base::replace_file_at(scratch.fd(), "link", "usr/a", 0777));
  }
  SECTION("an owner") {
    tests::need_root();
    REQUIRE(::fchownat(scratch.fd(), "usr/a", 12, 34, 0) == 0);
  }
  SECTION("a file capability") {
    tests::need_root();
    const UniqueFd file = base::open_at(scratch.fd(), "usr/a", O_RDONLY).value();
    // VFS_CAP_REVISION_2, CAP_NET_RAW permitted.
    const char value[] = "\0\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0";
    REQUIRE(::fsetxattr(file.get(), "security.capability", value, 20, 0) == 0);
  }
  CHECK(digest_of(scratch.fd()) != original);
}

TEST_CASE("times do not change the digest") {
  const tests::ScratchDirectory scratch;
  fill_tree(scratch.fd());
  const std::string original = digest_of(scratch.fd());
  const timespec times[2] = {{1, 0}, {1, 0}};
  REQUIRE(::utimensat(scratch.fd(), "usr/a", times, 0) == 0);
  CHECK(digest_of(scratch.fd()) == original);
}

TEST_CASE("a fifo in a tree is an error, not a reader that waits") {
  const tests::ScratchDirectory scratch;
  REQUIRE(::mkfifoat(scratch.fd(), "fifo", 0644) == 0);
  const auto digest = rootfs::tree_digest(scratch.fd());
  REQUIRE_FALSE(digest);
  CHECK(digest.error().message().find("fifo") != std::string::npos);
}

TEST_CASE("a link out of a tree is described, not followed") {
  const tests::ScratchDirectory scratch;
  REQUIRE(::symlinkat("/proc", scratch.fd(), "out") == 0);
  const auto digest = rootfs::tree_digest(scratch.fd());
  REQUIRE(digest);
  CHECK(digest->files == 1);
}

TEST_CASE("privileges are taken off a tree") {
  const tests::ScratchDirectory scratch;
  fill_tree(scratch.fd());
  REQUIRE(::fchmodat(scratch.fd(), "usr/a", 06755, 0) == 0);
  CHECK_FALSE(rootfs::check_contract(scratch.fd()));
  REQUIRE(rootfs::strip_privileges(scratch.fd()));
  struct stat status {};
  REQUIRE(::fstatat(scratch.fd(), "usr/a", &status, 0) == 0);
  CHECK((status.st_mode & 07777) == 0755);
  CHECK(rootfs::check_contract(scratch.fd()));
}

TEST_CASE("a tree that breaks the contract is refused by the name of what breaks it") {
  const tests::ScratchDirectory scratch;
  fill_tree(scratch.fd());
  REQUIRE(rootfs::check_contract(scratch.fd()));
  std::string named;
  SECTION("something in /run") {
    REQUIRE(::mkdirat(scratch.fd(), "run/lock", 0755) == 0);
    named = "run";
  }
  SECTION("no /proc") {
    REQUIRE(::unlinkat(scratch.fd(), "proc", AT_REMOVEDIR) == 0);
    named = "proc";
  }
  SECTION("/sys is a link") {
    REQUIRE(::unlinkat(scratch.fd(), "sys", AT_REMOVEDIR) == 0);
    REQUIRE(::symlinkat("/sys", scratch.fd(), "sys") == 0);
    named = "sys";
  }
  SECTION("/tmp is for its owner") {
    REQUIRE(::fchmodat(scratch.fd(), "tmp", 0755, 0) == 0);
    named = "tmp";
  }
  SECTION("a socket or fifo") {
    REQUIRE(::mkfifoat(scratch.fd(), "usr/fifo", 0644) == 0);
    named = "usr/fifo";
  }
  const auto kept = rootfs::check_contract(scratch.fd());
  REQUIRE_FALSE(kept);
  CHECK(kept.error().message().find(named) != std::string::npos);
}

TEST_CASE("an image is opened and verified, and one that was touched is not") {
  const tests::ScratchDirectory images;
  make_image(images);
  auto image = rootfs::open_image(images.path(), "small");
  INFO((image ? "" : image.error().message()));
  REQUIRE(image);
  CHECK(rootfs::verify(*image));
  REQUIRE(base::replace_file_at(images.fd(), "small/rootfs/usr/a", "ALPHA", 0644));
  const auto verified = rootfs::verify(*image);
  REQUIRE_FALSE(verified);
  CHECK(verified.error().message().find("small") != std::string::npos);
}

TEST_CASE("an image that was verified is not read again while nothing of it has changed") {
  const tests::ScratchDirectory images;
  make_image(images);
  const auto image = rootfs::open_image(images.path(), "small").value();
  const Opened opened(images.path() + "/small/rootfs/usr/a");
  CHECK(rootfs::verify_once(image, later()));
  CHECK(opened());
  CHECK(rootfs::verify_once(image, later()));
  CHECK_FALSE(opened());
  CHECK(rootfs::verify(image));
  CHECK(opened());
  REQUIRE(::utimensat(images.fd(), "small/rootfs/usr/a", nullptr, 0) == 0);
  CHECK(rootfs::verify_once(image, later()));
  CHECK(opened());
}

TEST_CASE("a change within the file system's grain of another is not taken for none") {
  const tests::ScratchDirectory images;
  make_image(images);
  const auto image = rootfs::open_image(images.path(), "small").value();
  const Opened opened(images.path() + "/small/rootfs/usr/a");
  for (int round = 0; round < 2; ++round) {
    CHECK(rootfs::verify_once(image, std::time(nullptr)));
    CHECK(opened());
  }
}

TEST_CASE("whatever changes in an image that was verified, it is read again and refused") {
  const tests::ScratchDirectory images;
  make_image(images);
  const auto image = rootfs::open_image(images.path(), "small").value();
  CHECK(rootfs::verify_once(image, later()));
  const std::string tree = images.path() + "/small/rootfs";
  SECTION("bytes, with the time of writing set back") {
    struct stat before {};
    REQUIRE(::stat((tree + "/usr/a").c_str(), &before) == 0);
    const UniqueFd file = base::open_at(images.fd(), "small/rootfs/usr/a", O_WRONLY).value();
    REQUIRE(::pwrite(file.get(), "A", 1, 0) == 1);
    const timespec times[] = {before.st_atim, before.st_mtim};
    REQUIRE(::futimens(file.get(), times) == 0);
  }
  SECTION("the mode") {
    REQUIRE(::chmod((tree + "/usr/a").c_str(), 0755) == 0);
  }
  SECTION("a file more") {
    REQUIRE(base::replace_file_at(images.fd(), "small/rootfs/usr/b", "", 0644));
  }
  SECTION("a file less") {
    REQUIRE(::unlink((tree + "/usr/a").c_str()) == 0);
  }
  SECTION("a link's target") {
    REQUIRE(::unlink((tree + "/link").c_str()) == 0);
    REQUIRE(::symlink("/etc", (tree + "/link").c_str()) == 0);
  }
  SECTION("the manifest") {
    rootfs::Manifest manifest = image.manifest;
    manifest.digest.back() = manifest.digest.back() == '0' ? '1' : '0';
    REQUIRE(base::replace_file_at(images.fd(), "small/image.json",
                                  rootfs::format_manifest(manifest), 0644));
  }
  const auto again = rootfs::open_image(images.path(), "small").value();
  for (int round = 0; round < 2; ++round) {
    const auto verified = rootfs::verify_once(again, later());
    REQUIRE_FALSE(verified);
    CHECK(verified.error().message().find("not what was built") != std::string::npos);
  }
}

TEST_CASE("an image that is not built says how to build it") {
  const tests::ScratchDirectory images;
  const auto image = rootfs::open_image(images.path(), "python3");
  REQUIRE_FALSE(image);
  CHECK(image.error().message().find("make -f Makefile.rootfs") != std::string::npos);
}

TEST_CASE("an image's name cannot lead out of the folder of images") {
  const tests::ScratchDirectory images;
  for (const char* name : {"..", ".", "", "../etc", "a/b", ".hidden", "A"}) {
    INFO(name);
    CHECK_FALSE(rootfs::open_image(images.path(), name));
  }
}

TEST_CASE("an image under another image's name is refused") {
  const tests::ScratchDirectory images;
  make_image(images);
  REQUIRE(::renameat(images.fd(), "small", images.fd(), "other") == 0);
  CHECK_FALSE(rootfs::open_image(images.path(), "other"));
}

TEST_CASE("images are listed by name, the unusable ones with the reason") {
  const tests::ScratchDirectory images;
  make_image(images);
  REQUIRE(::mkdirat(images.fd(), "broken", 0755) == 0);
  REQUIRE(::mkdirat(images.fd(), ".small.previous", 0755) == 0);
  const auto listed = rootfs::list_images(images.path());
  REQUIRE(listed);
  REQUIRE(listed->size() == 2);
  CHECK((*listed)[0].name == "broken");
  CHECK_FALSE((*listed)[0].manifest);
  CHECK((*listed)[1].name == "small");
  CHECK((*listed)[1].manifest);
  CHECK(rootfs::list_images(images.path() + "/nowhere")->empty());
}
