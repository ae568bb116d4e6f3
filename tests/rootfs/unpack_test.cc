// Hostile archives, each unpacked for real by brood-unpack.
#include "rootfs/unpack.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <catch2/catch.hpp>
#include <functional>
#include <optional>
#include <set>

#include "base/file.h"
#include "rootfs/pack.h"
#include "tests/rootfs/archive_builder.h"
#include "tests/support/scratch.h"
#include "tests/support/skip.h"

namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::Equals;
using rootfs::UnpackLimits;
using rootfs::UnpackVerdict;
using tests::ArchiveBuilder;

constexpr uid_t kUid = 1'879'048'193;  // far from any range that a host hands out

std::set<std::string> names_in(const std::string& path) {
  std::set<std::string> names;
  DIR* directory = ::opendir(path.c_str());
  REQUIRE(directory != nullptr);
  while (const dirent* entry = ::readdir(directory)) {
    names.insert(entry->d_name);
  }
  ::closedir(directory);
  names.erase(".");
  names.erase("..");
  return names;
}

// A scratch directory with the archive, a canary, and the directory to unpack into.
class Bench {
 public:
  Bench() {
    tests::need_root();
    scratch_.emplace();
    write("canary", "untouched");
    REQUIRE(::mkdir((scratch_->path() + "/out").c_str(), 0700) == 0);
    out_ = base::open_at(scratch_->fd(), "out", O_RDONLY | O_DIRECTORY).value();
    REQUIRE(::fchown(out_.get(), kUid, kUid) == 0);
  }

  base::Result<UnpackVerdict> unpack(const std::string& bytes, const UnpackLimits& limits = {},
                                     const std::string& single_file = {}) {
    auto process = start(bytes, limits, single_file);
    return process ? rootfs::finish_unpack(std::move(*process))
                   : base::Result<UnpackVerdict>(base::fail(std::move(process.error())));
  }

  base::Result<rootfs::UnpackProcess> start(const std::string& bytes,
                                            const UnpackLimits& limits = {},
                                            const std::string& single_file = {}) {
    write("archive", bytes);
    const auto archive = base::open_at(scratch_->fd(), "archive", O_RDONLY).value();
    return rootfs::start_unpack({.program = BROOD_UNPACK,
                                 .archive_fd = archive.get(),
                                 .directory_fd = out_.get(),
                                 .uid = kUid,
                                 .gid = kUid,
                                 .single_file = single_file,
                                 .limits = limits});
  }

  // What the verdict says, or the error; and nothing outside has changed.
  std::string message(const std::string& bytes, const UnpackLimits& limits = {}) {
    const auto verdict = unpack(bytes, limits);
    CHECK(names_in(scratch_->path()) == std::set<std::string>{"archive", "canary", "out"});
    CHECK(base::read_file_at(scratch_->fd(), "canary").value() == "untouched");
    return verdict ? verdict->message() : "error: " + verdict.error().message();
  }

  std::string out() const { return scratch_->path() + "/out"; }
  int out_fd() const { return out_.get(); }
  std::string text(const std::string& path) const {
    return base::read_file_at(out_.get(), path).value();
  }
  struct stat about(const std::string& path) const {
    struct stat about {};
    REQUIRE(::fstatat(out_.get(), path.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0);
    return about;
  }

 private:
  void write(const std::string& name, const std::string& bytes) {
    REQUIRE(base::replace_file_at(scratch_->fd(), name, bytes, 0600));
  }

  std::optional<tests::ScratchDirectory> scratch_;
  base::UniqueFd out_;
};

constexpr int kPax = ARCHIVE_FORMAT_TAR_PAX_RESTRICTED;
constexpr int kZip = ARCHIVE_FORMAT_ZIP;

std::string replaced(std::string bytes, const std::string& from, const std::string& to) {
  REQUIRE(from.size() == to.size());
  std::size_t count = 0;
  for (auto at = bytes.find(from); at != std::string::npos; at = bytes.find(from, at + 1)) {
    bytes.replace(at, from.size(), to);
    ++count;
  }
  REQUIRE(count > 0);
  return bytes;
}

}  // namespace

TEST_CASE("every accepted kind of archive gives the same tree") {
  struct Kind {
    int format;
    int filter;
  };
  const auto [format, filter] = GENERATE(
      Kind{ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_NONE},
      Kind{ARCHIVE_FORMAT_TAR_GNUTAR, ARCHIVE_FILTER_GZIP},
      Kind{ARCHIVE_FORMAT_TAR_PAX_RESTRICTED, ARCHIVE_FILTER_ZSTD},
      Kind{ARCHIVE_FORMAT_TAR, ARCHIVE_FILTER_GZIP}, Kind{ARCHIVE_FORMAT_ZIP, ARCHIVE_FILTER_NONE});
  Bench bench;
  const auto verdict = bench.unpack(ArchiveBuilder(format, filter)
                                        .directory("app/", 0700)
                                        .file("app/main.py", "print(1)\n", 0640)
                                        .file("app/tool", "#!/bin/sh\n", 04777)
                                        .file("deep/er/data", std::string(100'000, 'd'))
                                        .link("deep/main", "../app/main.py")
                                        .finish());
  REQUIRE(verdict);
  CHECK(verdict->message() == "the archive is accepted");
  CHECK(verdict->files == 7);
  CHECK(verdict->bytes == 100'019);
  CHECK(bench.text("app/main.py") == "print(1)\n");
  CHECK(bench.text("deep/main") == "print(1)\n");
  CHECK(bench.text("deep/er/data") == std::string(100'000, 'd'));
  CHECK(bench.about("app").st_mode == (S_IFDIR | 0755));
  CHECK(bench.about("app/main.py").st_mode == (S_IFREG | 0644));
  CHECK(bench.about("app/tool").st_mode == (S_IFREG | 0755));
  CHECK(bench.about("deep/main").st_uid == kUid);
  CHECK(rootfs::accept_tree(bench.out_fd()));
}

TEST_CASE("a name in any script arrives as it is") {
  Bench bench;
  const std::string name = "gr\u00fc\u00dfe \u4f60\u597d.txt";
  const int format = GENERATE(ARCHIVE_FORMAT_TAR_GNUTAR, ARCHIVE_FORMAT_ZIP);
  const auto verdict = bench.unpack(ArchiveBuilder(format).file(name, "hello").finish());
  REQUIRE(verdict);
  CHECK(verdict->message() == "the archive is accepted");
  CHECK(bench.text(name) == "hello");
}

TEST_CASE("a body that is no archive is kept as one file") {
  Bench bench;
  const auto verdict = bench.unpack("print(1)\n", {}, "handler.py");
  REQUIRE(verdict);
  CHECK(verdict->accepted());
  CHECK(bench.text("handler.py") == "print(1)\n");
  CHECK(bench.about("handler.py").st_mode == (S_IFREG | 0644));
}

TEST_CASE("a single file's name cannot lead elsewhere, nor its size over the limit") {
  Bench bench;
  CHECK_THAT(bench.unpack("x", {}, "../canary")->message(), Contains("'..'"));
  CHECK_THAT(bench.unpack("x", {}, "a/b")->message(), Contains("no folder"));
  CHECK_THAT(bench.unpack("xxxx", {.bytes = 3}, "a")->message(), Contains("larger than 3 bytes"));
}

TEST_CASE("an entry outside of the tree is refused by name") {
  const int format = GENERATE(kPax, kZip);
  Bench bench;
  CHECK_THAT(bench.message(ArchiveBuilder(format).file("../canary").finish()),
             Equals("the archive is refused: '../canary': its path has a '..'"));
  CHECK_THAT(bench.message(ArchiveBuilder(format).file("a/../../canary").finish()),
             Contains("'a/../../canary': its path has a '..'"));
  CHECK_THAT(bench.message(ArchiveBuilder(format).file("/tmp/brood-hostile").finish()),
             Contains("absolute"));
  CHECK(::access("/tmp/brood-hostile", F_OK) != 0);
}

TEST_CASE("a pax header cannot smuggle a path past the rules") {
  Bench bench;
  const std::string innocent = tests::raw_tar_header("innocent", '0', 1) + tests::tar_body("x");
  CHECK_THAT(bench.message(tests::pax_override("path", "../canary") + innocent + tests::tar_end()),
             Contains("'../canary': its path has a '..'"));
  CHECK_THAT(bench.message(tests::pax_override("path", "/etc/brood-hostile") + innocent +
                           tests::tar_end()),
             Contains("absolute"));
  CHECK_THAT(bench.message(tests::pax_override("linkpath", "/etc/passwd") +
                           tests::raw_tar_header("l", '2', 0, "inside") + tests::tar_end()),
             Contains("absolute path"));
}

TEST_CASE("a zip whose two names differ is judged by the one that is used") {
  Bench bench;
  const std::string zip = ArchiveBuilder(kZip).file("aa/canary").finish();
  const std::string hostile = replaced(zip, "aa/canary", "../canary");
  CHECK_THAT(bench.message(hostile), Contains("its path has a '..'"));
  // Only the name in the local header, which comes first.
  std::string local = zip;
  local.replace(local.find("aa/canary"), 9, "../canary");
  const std::string message = bench.message(local);
  CHECK((message == "the archive is accepted" || message.find("'..'") != std::string::npos));
}

TEST_CASE("a link that leads out is refused") {
  const int format = GENERATE(kPax, kZip);
  Bench bench;
  const auto link_to = [&](const std::string& target) {
    return bench.message(ArchiveBuilder(format).link("a/l", target).finish());
  };
  CHECK_THAT(link_to("/etc/passwd"), Contains("'a/l': it is a link to an absolute path"));
  CHECK_THAT(link_to("../../canary"), Contains("'a/l': it is a link that leads out"));
  CHECK_THAT(link_to("b/../../../canary"), Contains("'..' behind a name"));
}

TEST_CASE("nothing is written through a link") {
  Bench bench;
  const int format = GENERATE(kPax, kZip);
  CHECK_THAT(bench.message(ArchiveBuilder(format)
                               .directory("real")
                               .link("l", "real")
                               .file("l/inside", "x")
                               .finish()),
             Contains("'l/inside': it lies below the link 'l'"));
  CHECK(names_in(bench.out() + "/real").empty());
}

TEST_CASE("a link is not replaced by the file it points to, nor a file by a link") {
  Bench first;
  CHECK_THAT(first.message(ArchiveBuilder().link("l", "t").file("l", "x").finish()),
             Contains("'l': it is in the archive twice"));
  CHECK(names_in(first.out()) == std::set<std::string>{"l"});
  Bench second;
  CHECK_THAT(second.message(ArchiveBuilder().file("l", "x").link("l", "t").finish()),
             Contains("'l': it is in the archive twice"));
}

TEST_CASE("a hard link reaches earlier files of the archive and nothing else") {
  struct stat before {};
  REQUIRE(::stat("/etc/passwd", &before) == 0);
  Bench bench;
  CHECK_THAT(bench.message(ArchiveBuilder().hard_link("h", "/etc/passwd").finish()),
             Contains("'h': it is a hard link out of the archive"));
  CHECK_THAT(bench.message(ArchiveBuilder().hard_link("h", "../canary").finish()),
             Contains("'h': it is a hard link out of the archive"));
  CHECK_THAT(bench.message(ArchiveBuilder().hard_link("h", "later").file("later").finish()),
             Contains("no earlier file"));
  CHECK_THAT(bench.message(ArchiveBuilder().link("l", "x").hard_link("h", "l").finish()),
             Contains("no earlier file"));
  Bench good;
  const auto verdict =
      good.unpack(ArchiveBuilder().file("d/f", "12345").hard_link("e/h", "d/f").finish());
  REQUIRE(verdict);
  CHECK(verdict->message() == "the archive is accepted");
  CHECK(verdict->bytes == 10);
  CHECK(good.text("e/h") == "12345");
  CHECK(rootfs::accept_tree(good.out_fd()));
  struct stat after {};
  REQUIRE(::stat("/etc/passwd", &after) == 0);
  CHECK(after.st_nlink == before.st_nlink);
}

TEST_CASE("hard links count in full") {
  Bench bench;
  ArchiveBuilder archive;
  archive.file("f", std::string(1000, 'x'));
  for (int i = 0; i < 10; ++i) {
    archive.hard_link("h" + std::to_string(i), "f");
  }
  CHECK_THAT(bench.message(archive.finish(), {.bytes = 5000}), Contains("larger than 5000 bytes"));
}

TEST_CASE("devices, pipes and sockets are refused") {
  Bench bench;
  CHECK_THAT(bench.message(ArchiveBuilder().special("null", AE_IFCHR).finish()),
             Equals("the archive is refused: 'null': it is a device"));
  CHECK_THAT(bench.message(ArchiveBuilder().special("disk", AE_IFBLK).finish()),
             Contains("'disk': it is a device"));
  CHECK_THAT(bench.message(ArchiveBuilder().special("pipe", AE_IFIFO).finish()),
             Contains("'pipe': it is a named pipe"));
  CHECK(names_in(bench.out()).empty());
}

TEST_CASE("a file in the place of a directory, and the reverse, are refused") {
  Bench first;
  CHECK_THAT(first.message(ArchiveBuilder().file("a", "x").file("a/b", "x").finish()),
             Contains("'a/b': it lies below the file 'a'"));
  Bench second;
  CHECK_THAT(second.message(ArchiveBuilder().file("a/b", "x").file("a", "x").finish()),
             Contains("'a': it is in the archive twice"));
  Bench third;
  CHECK_THAT(third.message(ArchiveBuilder().file("a", "x").directory("a").finish()),
             Contains("in the place of an earlier entry"));
  Bench fourth;
  CHECK_THAT(fourth.message(ArchiveBuilder().directory("a").directory("a").file("a/b").finish()),
             Equals("the archive is accepted"));
}

TEST_CASE("an archive with the same file twice is refused") {
  const int format = GENERATE(kPax, kZip);
  Bench bench;
  CHECK_THAT(bench.message(ArchiveBuilder(format).file("a", "1").file("./a", "2").finish()),
             Contains("it is in the archive twice"));
}

TEST_CASE("names that no file should have are refused") {
  Bench bench;
  CHECK_THAT(bench.message(ArchiveBuilder().file(std::string(300, 'n')).finish()),
             Contains("longer than 255 bytes"));
  CHECK_THAT(bench.message(ArchiveBuilder(ARCHIVE_FORMAT_TAR_GNUTAR).file("a\x1b[2J").finish()),
             Contains("'a\\x1b[2J': its name has a control character"));
  CHECK_THAT(bench.message(ArchiveBuilder(ARCHIVE_FORMAT_TAR_GNUTAR).file("a\xff").finish()),
             Contains("'a\\xff': its name is not valid UTF-8"));
  std::string deep = "d";
  for (int i = 0; i < 40; ++i) {
    deep += "/d";
  }
  CHECK_THAT(bench.message(ArchiveBuilder().file(deep).finish()), Contains("32 folders deep"));
  std::string path = std::string(200, 'p');
  for (int i = 0; i < 6; ++i) {
    path += "/" + std::string(200, 'p');
  }
  CHECK_THAT(bench.message(ArchiveBuilder().file(path).finish()), Contains("1024 bytes"));
}

TEST_CASE("a bomb is stopped at the limit") {
  struct Bomb {
    int format;
    int filter;
  };
  const auto [format, filter] =
      GENERATE(Bomb{kPax, ARCHIVE_FILTER_GZIP}, Bomb{kPax, ARCHIVE_FILTER_ZSTD},
               Bomb{kZip, ARCHIVE_FILTER_NONE});
  const std::string bomb = ArchiveBuilder(format, filter).zeros("zeros", 300 << 20).finish();
  CHECK(bomb.size() < (2 << 20));
  Bench bench;
  CHECK_THAT(bench.message(bomb),
             Equals("the archive is refused: 'zeros': unpacked, the archive is larger than "
                    "268435456 bytes"));
}

TEST_CASE("a zip that lies about its size is stopped all the same") {
  // Sizes stand little-endian in the local header, the data descriptor and the central directory.
  const std::string size("\x00\x00\x40\x00", 4);
  const std::string lie("\x05\x00\x00\x00", 4);
  const std::string zip =
      replaced(ArchiveBuilder(kZip).zeros("zeros", 4 << 20).finish(), size, lie);
  Bench bench;
  CHECK_THAT(bench.message(zip, {.bytes = 1 << 20}), Contains("'zeros': "));
  CHECK(bench.about("zeros").st_size <= 1 << 20);
}

TEST_CASE("many small files together are stopped at the limit") {
  ArchiveBuilder archive(kPax, ARCHIVE_FILTER_GZIP);
  for (int i = 0; i < 200; ++i) {
    archive.file("f" + std::to_string(i), std::string(1000, 'x'));
  }
  Bench bench;
  CHECK_THAT(bench.message(archive.finish(), {.bytes = 100'000}), Contains("'f100': "));
}

TEST_CASE("a sparse file of a terabyte is stopped before it is made") {
  constexpr std::uint64_t kTerabyte = 1ULL << 40;
  Bench bench;
  CHECK_THAT(
      bench.message(tests::sparse_entry("hole", kTerabyte, kTerabyte - 1, "x") + tests::tar_end()),
      Equals("the archive is refused: 'hole': unpacked, the archive is larger than 268435456 "
             "bytes"));
  CHECK(names_in(bench.out()).empty());
}

TEST_CASE("a sparse file's holes are filled, and counted") {
  const std::string archive = tests::sparse_entry("hole", 100'000, 50'000, "x") + tests::tar_end();
  Bench bench;
  const auto verdict = bench.unpack(archive);
  REQUIRE(verdict);
  CHECK(verdict->message() == "the archive is accepted");
  CHECK(verdict->bytes == 100'000);
  CHECK(bench.text("hole") == std::string(50'000, '\0') + "x" + std::string(49'999, '\0'));
  Bench other;
  CHECK_THAT(other.message(archive, {.bytes = 99'999}), Contains("larger than 99999 bytes"));
}

TEST_CASE("a sparse file whose map contradicts its size is refused") {
  Bench bench;
  CHECK_THAT(bench.message(tests::sparse_entry("hole", 10, 50'000, "x") + tests::tar_end()),
             Contains("'hole': it is not as long as it says"));
  CHECK_THAT(bench.message(tests::sparse_entry("far", 10, 1ULL << 60, "x") + tests::tar_end()),
             Contains("larger than"));
}

TEST_CASE("a hundred thousand entries are too many") {
  std::string tar;
  for (int i = 0; i < 100'000; ++i) {
    tar += tests::raw_tar_header("f" + std::to_string(i), '0', 0);
  }
  Bench bench;
  CHECK_THAT(bench.message(tar + tests::tar_end()), Contains("more than 20000 entries"));
  CHECK(names_in(bench.out()).size() <= 20'000);
}

TEST_CASE("directories that only paths imply are counted too") {
  ArchiveBuilder archive;
  for (int i = 0; i < 10; ++i) {
    archive.file(std::to_string(i) + "/a/b/c/d/e/f/g/h/i");
  }
  Bench bench;
  CHECK_THAT(bench.message(archive.finish(), {.files = 50}), Contains("more than 50 entries"));
}

TEST_CASE("contents where there should be none are refused, not skipped") {
  Bench bench;
  CHECK_THAT(bench.message(tests::raw_tar_header("d/", '5', 5) + tests::tar_body("hello") +
                           tests::tar_end()),
             Contains("the archive is damaged"));
  CHECK_THAT(bench.message(tests::pax_override("size", "99999999999999") +
                           tests::raw_tar_header("d/", '5', 0) + tests::tar_end()),
             Contains("refused"));
  CHECK_THAT(bench.message(tests::raw_tar_header("f", '0', 0) + tests::pax_override("size", "5") +
                           tests::raw_tar_header("h", '1', 5, "f") + tests::tar_body("hello") +
                           tests::tar_end()),
             Contains("'h': it is a hard link with contents"));
  CHECK_THAT(bench.message(replaced(ArchiveBuilder(kZip).file("dd", "hello").finish(), "dd", "d/")),
             Contains("'d/': it is a directory with contents"));
}

TEST_CASE("an archive that is cut short anywhere is refused") {
  const int filter = GENERATE(ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD);
  const std::string whole = ArchiveBuilder(kPax, filter)
                                .file("a", "first")
                                .file("b", std::string(3000, 'b'))
                                .file("c", "last")
                                .finish();
  for (std::size_t cut = 1; cut < 10; ++cut) {
    Bench bench;
    const std::string part = whole.substr(0, whole.size() * cut / 10);
    CAPTURE(cut, part.size());
    // Only the zeros behind the end may go.
    const bool only_zeros_lost =
        filter == ARCHIVE_FILTER_NONE && part.size() >= whole.size() - 1024 + 512;
    CHECK_THAT(bench.message(part), only_zeros_lost ? Contains("accepted") : Contains("refused"));
  }
}

TEST_CASE("a tar that is cut between two entries is refused") {
  const std::string one = tests::raw_tar_header("a", '0', 1) + tests::tar_body("x");
  const std::string two = one + tests::raw_tar_header("b", '0', 1) + tests::tar_body("x");
  Bench bench;
  CHECK_THAT(bench.message(one), Contains("no end marker"));
  Bench other;
  CHECK_THAT(other.message(two), Contains("no end marker"));
  Bench third;
  CHECK_THAT(third.message(two + tests::tar_end()), Equals("the archive is accepted"));
}

TEST_CASE("a zip that is cut short is refused") {
  const std::string whole =
      ArchiveBuilder(kZip).file("a", "first").file("b", std::string(3000, 'b')).finish();
  Bench bench;
  for (std::size_t cut = 1; cut < 10; ++cut) {
    CAPTURE(cut);
    CHECK_THAT(bench.message(whole.substr(0, whole.size() * cut / 10)), Contains("refused"));
  }
}

TEST_CASE("damage inside an entry is noticed and named") {
  Bench bench;
  std::string zip =
      ArchiveBuilder(kZip, ARCHIVE_FILTER_NONE, "compression=store").file("a", "contents").finish();
  zip.replace(zip.find("contents"), 8, "cONTENTS");
  CHECK_THAT(bench.message(zip), Contains("'a': the archive is damaged"));
  std::string gzip = ArchiveBuilder(kPax, ARCHIVE_FILTER_GZIP).file("a", "contents").finish();
  gzip[gzip.size() / 2] = static_cast<char>(~gzip[gzip.size() / 2]);
  Bench other;
  CHECK_THAT(other.message(gzip), Contains("refused"));
}

TEST_CASE("an encrypted zip is refused") {
  Bench bench;
  CHECK_THAT(bench.message(ArchiveBuilder(kZip, ARCHIVE_FILTER_NONE, "encryption=aes256")
                               .file("a", "secret")
                               .finish()),
             Contains("'a': it is encrypted"));
}

TEST_CASE("kinds of archive that are not asked for are not read") {
  Bench bench;
  CHECK_THAT(bench.message(ArchiveBuilder(ARCHIVE_FORMAT_CPIO_POSIX).file("a").finish()),
             Contains("unknown kind"));
  CHECK_THAT(bench.message(ArchiveBuilder(ARCHIVE_FORMAT_7ZIP).file("a").finish()),
             Contains("unknown kind"));
  CHECK_THAT(bench.message(ArchiveBuilder(kPax, ARCHIVE_FILTER_XZ).file("a").finish()),
             Contains("unknown kind"));
  CHECK_THAT(bench.message(ArchiveBuilder(kPax, ARCHIVE_FILTER_BZIP2).file("a").finish()),
             Contains("unknown kind"));
  CHECK_THAT(bench.message("print('not an archive')\n"), Contains("unknown kind"));
  CHECK_THAT(bench.message(""), Contains("refused"));
}

TEST_CASE("an archive cannot bring files that a library would load") {
  // Were the locale not UTF-8 and the time zone not set, libarchive would make libc look for these
  // below the new root, which is the archive's own tree.
  Bench bench;
  ArchiveBuilder archive(kZip);
  for (const char* path :
       {"usr/lib/x86_64-linux-gnu/gconv/gconv-modules", "usr/lib/x86_64-linux-gnu/gconv/UTF-16.so",
        "etc/localtime", "usr/share/zoneinfo/UTC0", "etc/ld.so.preload"}) {
    archive.file(path, "hostile");
  }
  CHECK_THAT(bench.message(archive.file("gr\u00fc\u00dfe").finish()),
             Equals("the archive is accepted"));
}

TEST_CASE("processor time has a limit") {
  const std::string bomb =
      ArchiveBuilder(kPax, ARCHIVE_FILTER_GZIP).zeros("zeros", 300 << 20).finish();
  Bench bench;
  CHECK_THAT(bench.message(bomb, {.bytes = 1ULL << 40, .cpu_seconds = 0}),
             Contains("processor time"));
}

TEST_CASE("what the unpacker is while it reads: nobody, nowhere, with nothing") {
  // A file that takes long enough to look at its reader.
  const std::string slow =
      ArchiveBuilder(kPax, ARCHIVE_FILTER_GZIP).zeros("zeros", 240 << 20).finish();
  Bench bench;
  auto process = bench.start(slow);
  REQUIRE(process);
  const std::string proc = "/proc/" + std::to_string(process->child.pid()) + "/";
  std::string status;
  for (int i = 0; i < 2000; ++i) {
    status = base::read_file(proc + "status").value();
    if (status.find("Seccomp:\t2") != std::string::npos) {
      break;
    }
    ::usleep(200);
  }
  REQUIRE(process->child.ref().signal(SIGSTOP));
  const std::string uid = std::to_string(kUid);
  CHECK_THAT(status, Contains("Uid:\t" + uid + "\t" + uid + "\t" + uid + "\t" + uid));
  CHECK_THAT(status, Contains("Gid:\t" + uid + "\t" + uid + "\t" + uid + "\t" + uid));
  CHECK_THAT(status, Contains("Groups:\t \n"));
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    CHECK_THAT(status, Contains(std::string(set) + ":\t0000000000000000"));
  }
  CHECK_THAT(status, Contains("NoNewPrivs:\t1"));
  CHECK_THAT(status, Contains("Seccomp:\t2"));
  char root[4096] = {};
  REQUIRE(::readlink((proc + "root").c_str(), root, sizeof root - 1) > 0);
  CHECK(root == bench.out());
  for (const char* name : {"mnt", "net", "ipc", "uts", "cgroup"}) {
    struct stat mine {};
    struct stat its {};
    REQUIRE(::stat(("/proc/self/ns/" + std::string(name)).c_str(), &mine) == 0);
    REQUIRE(::stat((proc + "ns/" + name).c_str(), &its) == 0);
    CAPTURE(name);
    CHECK(mine.st_ino != its.st_ino);
  }
  for (const std::string& fd : names_in(proc + "fd")) {
    CAPTURE(fd);
    CHECK(std::stoi(fd) < 8);
  }
  const std::string limits = base::read_file(proc + "limits").value();
  CHECK_THAT(limits, Catch::Matchers::Matches("[^]*Max processes +0 +0 [^]*"));
  // 1: no core file, and no core_pattern helper either, which 0 would let the kernel start.
  CHECK_THAT(limits, Catch::Matchers::Matches("[^]*Max core file size +1 +1 [^]*"));
  CHECK_THAT(limits, Catch::Matchers::Matches("[^]*Max open files +16 +16 [^]*"));
}

TEST_CASE("the unpacker refuses to run as root, or over anything but a file and a directory") {
  Bench bench;
  const auto archive = base::open_at(AT_FDCWD, "/dev/null", O_RDONLY).value();
  CHECK_FALSE(rootfs::start_unpack({.program = BROOD_UNPACK,
                                    .archive_fd = archive.get(),
                                    .directory_fd = bench.out_fd(),
                                    .uid = 0,
                                    .gid = kUid,
                                    .limits = {}}));
  auto process = rootfs::start_unpack({.program = BROOD_UNPACK,
                                       .archive_fd = archive.get(),
                                       .directory_fd = bench.out_fd(),
                                       .uid = kUid,
                                       .gid = kUid,
                                       .limits = {}});
  REQUIRE(process);
  const auto verdict = rootfs::finish_unpack(std::move(*process));
  REQUIRE_FALSE(verdict);
  CHECK_THAT(verdict.error().message(), Contains("wants a file on descriptor 0"));
}

TEST_CASE("the unpacker cannot write to the archive, nor move its caller's place in it") {
  Bench bench;
  const base::UniqueFd archive(::memfd_create("archive", MFD_CLOEXEC));
  REQUIRE(base::write_all(
      archive.get(), ArchiveBuilder(kPax, ARCHIVE_FILTER_GZIP).zeros("z", 240 << 20).finish()));
  const off_t place = ::lseek(archive.get(), 0, SEEK_CUR);
  auto process = rootfs::start_unpack({.program = BROOD_UNPACK,
                                       .archive_fd = archive.get(),
                                       .directory_fd = bench.out_fd(),
                                       .uid = kUid,
                                       .gid = kUid,
                                       .limits = {}});
  REQUIRE(process);
  const std::string info =
      base::read_file("/proc/" + std::to_string(process->child.pid()) + "/fdinfo/0").value();
  CHECK_THAT(info, Catch::Matchers::Matches("[^]*flags:\t[0-7]*0\n[^]*"));  // O_RDONLY
  const auto verdict = rootfs::finish_unpack(std::move(*process));
  REQUIRE(verdict);
  CHECK(verdict->message() == "the archive is accepted");
  CHECK(::lseek(archive.get(), 0, SEEK_CUR) == place);
}

TEST_CASE("a packed folder is accepted, whatever honest things it holds") {
  const tests::ScratchDirectory folder;
  const std::string deep = std::string(120, 'd') + "/" + std::string(120, 'e');
  REQUIRE(base::make_directories(folder.path() + "/" + deep, 0700));
  REQUIRE(base::replace_file_at(folder.fd(), deep + "/gr\u00fc\u00dfe", "hello", 0700));
  REQUIRE(base::replace_file_at(folder.fd(), "main.py", "print(1)", 0600));
  REQUIRE(::symlinkat(("../" + std::string(120, 'd') + "/" + std::string(120, 'e')).c_str(),
                      folder.fd(), (std::string(120, 'd') + "/link").c_str()) == 0);
  const base::UniqueFd tar(::memfd_create("tar", MFD_CLOEXEC));
  const auto packed = rootfs::pack_folder(folder.path(), tar.get());
  REQUIRE(packed);
  Bench bench;
  const auto verdict =
      bench.unpack(base::read_file("/proc/self/fd/" + std::to_string(tar.get())).value());
  REQUIRE(verdict);
  CHECK(verdict->message() == "the archive is accepted");
  CHECK(verdict->files == packed->files);
  CHECK(verdict->bytes == packed->bytes);
  CHECK(bench.text(deep + "/gr\u00fc\u00dfe") == "hello");
  CHECK(bench.about(deep + "/gr\u00fc\u00dfe").st_mode == (S_IFREG | 0755));
  CHECK(bench.text(std::string(120, 'd') + "/link/gr\u00fc\u00dfe") == "hello");
  CHECK(rootfs::accept_tree(bench.out_fd()));
}

TEST_CASE("a missing unpacker is named") {
  const auto process = rootfs::start_unpack({.program = "/nonexistent/brood-unpack",
                                             .archive_fd = 0,
                                             .directory_fd = 0,
                                             .uid = 1,
                                             .gid = 1,
                                             .limits = {}});
  REQUIRE_FALSE(process);
  CHECK_THAT(process.error().message(),
             Contains("/nonexistent/brood-unpack") && Contains("ENOENT"));
}

TEST_CASE("a host that cannot take the files is told from a bad archive") {
  Bench bench;
  REQUIRE(::fchown(bench.out_fd(), 0, 0) == 0);
  const std::string message = bench.message(ArchiveBuilder().file("a").finish());
  CHECK_THAT(message, Contains("error: ") && Contains("'a'") && Contains("EACCES"));
}

TEST_CASE("a finished tree is looked at again") {
  const auto refusal = [](const std::function<void(int)>& make) {
    const tests::ScratchDirectory scratch;
    make(scratch.fd());
    const auto status = rootfs::accept_tree(scratch.fd(), {.bytes = 1000, .files = 10, .depth = 3});
    return status ? std::string("accepted") : status.error().message();
  };
  const auto file = [](int fd, const char* name, mode_t mode) {
    const auto made = base::open_at(fd, name, O_WRONLY | O_CREAT, 0644).value();
    REQUIRE(::fchmod(made.get(), mode) == 0);
  };
  CHECK(refusal([&](int fd) { file(fd, "a", 0644); }) == "accepted");
  CHECK_THAT(refusal([&](int fd) { file(fd, "a", 04755); }),
             Contains("'a': it has an unexpected mode"));
  CHECK_THAT(refusal([&](int fd) { file(fd, "a", 0666); }), Contains("unexpected mode"));
  CHECK_THAT(refusal([](int fd) { REQUIRE(::mkfifoat(fd, "p", 0644) == 0); }),
             Contains("'p': it is neither"));
  CHECK_THAT(refusal([](int fd) { REQUIRE(::symlinkat("/etc", fd, "l") == 0); }),
             Contains("'l': it is a link to an absolute path"));
  CHECK_THAT(refusal([](int fd) { REQUIRE(::mkdirat(fd, "d", 0700) == 0); }),
             Contains("'d': it has an unexpected mode"));
  CHECK_THAT(refusal([&](int fd) {
               for (int i = 0; i < 11; ++i) {
                 file(fd, std::to_string(i).c_str(), 0644);
               }
             }),
             Contains("too many"));
  CHECK_THAT(refusal([&](int fd) {
               file(fd, "a", 0644);
               const auto made = base::open_at(fd, "a", O_WRONLY).value();
               REQUIRE(::ftruncate(made.get(), 1001) == 0);
             }),
             Contains("too large"));
  CHECK_THAT(refusal([](int fd) {
               for (const char* path : {"a", "a/a", "a/a/a", "a/a/a/a"}) {
                 REQUIRE(::mkdirat(fd, path, 0755) == 0);
               }
             }),
             Contains("3 folders deep"));
}
