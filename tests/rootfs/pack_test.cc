#include "rootfs/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <utility>

#include "base/digest.h"
#include "base/file.h"
#include "tests/support/scratch.h"

namespace {

using Catch::Matchers::Contains;

void write(const tests::ScratchDirectory& folder, const std::string& path,
           const std::string& text = "x", mode_t mode = 0644) {
  const auto slash = path.rfind('/');
  if (slash != std::string::npos) {
    REQUIRE(base::make_directories(folder.path() + "/" + path.substr(0, slash), 0755));
  }
  REQUIRE(base::replace_file_at(folder.fd(), path, text, mode));
}

struct Packed {
  std::string bytes;
  rootfs::PackSummary summary;
};

base::Result<Packed> pack(const tests::ScratchDirectory& folder,
                          const rootfs::UnpackLimits& limits = {}) {
  const base::UniqueFd out(::memfd_create("tar", MFD_CLOEXEC));
  BROOD_TRY(const auto summary, rootfs::pack_folder(folder.path(), out.get(), limits));
  BROOD_TRY(std::string bytes, base::read_file("/proc/self/fd/" + std::to_string(out.get())));
  return Packed{.bytes = std::move(bytes), .summary = summary};
}

std::string refusal(const tests::ScratchDirectory& folder,
                    const rootfs::UnpackLimits& limits = {}) {
  const auto packed = pack(folder, limits);
  return packed ? "packed" : packed.error().message();
}

// "d app", "- app/main.py 644", "l link -> target" in the archive's order.
std::vector<std::string> listing(const std::string& bytes) {
  std::vector<std::string> lines;
  archive* a = ::archive_read_new();
  ::archive_read_support_format_tar(a);
  REQUIRE(::archive_read_open_memory(a, bytes.data(), bytes.size()) == ARCHIVE_OK);
  archive_entry* entry = nullptr;
  while (::archive_read_next_header(a, &entry) == ARCHIVE_OK) {
    const std::string path = ::archive_entry_pathname(entry);
    CHECK(::archive_entry_mtime(entry) == 0);
    CHECK(::archive_entry_uid(entry) == 0);
    CHECK(::archive_entry_gid(entry) == 0);
    char mode[8];
    std::snprintf(mode, sizeof mode, "%o", ::archive_entry_perm(entry));
    switch (::archive_entry_filetype(entry)) {
      case AE_IFDIR:
        lines.push_back("d " + path + " " + mode);
        break;
      case AE_IFLNK:
        lines.push_back("l " + path + " -> " + ::archive_entry_symlink(entry));
        break;
      default:
        lines.push_back("- " + path + " " + mode);
    }
  }
  ::archive_read_free(a);
  return lines;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("a folder becomes a sorted tar without times and owners") {
  const tests::ScratchDirectory folder;
  write(folder, "z.py", "last");
  write(folder, "lib/tool", "#!/bin/sh", 0700);
  write(folder, "a.py", "first", 0600);
  REQUIRE(::symlinkat("../a.py", folder.fd(), "lib/link") == 0);
  const auto packed = pack(folder);
  REQUIRE(packed);
  CHECK(listing(packed->bytes) ==
        Lines{"- a.py 644", "d lib/ 755", "l lib/link -> ../a.py", "- lib/tool 755", "- z.py 644"});
  CHECK(packed->summary.files == 5);
  CHECK(packed->summary.bytes == 5 + 9 + 4);
}

TEST_CASE("the same folder gives the same bytes") {
  const auto digest = [](int year) {
    const tests::ScratchDirectory folder;
    const std::string long_name = std::string(120, 'n') + "/" + std::string(120, 'm');
    const std::vector<std::string> names{"b", "a", long_name, "gr\u00fc\u00dfe"};
    for (std::size_t i = 0; i < names.size(); ++i) {
      write(folder, names[year % 2 == 0 ? i : names.size() - 1 - i], names[i % 1]);
    }
    const timespec times[2] = {{.tv_sec = year * 31'000'000L, .tv_nsec = 5},
                               {.tv_sec = year * 31'000'000L, .tv_nsec = 5}};
    for (const std::string& name : names) {
      REQUIRE(::utimensat(folder.fd(), name.c_str(), times, 0) == 0);
    }
    return base::sha256_hex(pack(folder).value().bytes);
  };
  CHECK(digest(20) == digest(31));
}

TEST_CASE("what no deployment wants is left out") {
  const tests::ScratchDirectory folder;
  for (const char* path : {"main.py", "main.pyc", ".git/config", ".hg/store", "__pycache__/x",
                           "lib/__pycache__/y", "lib/.git", ".gitignore"}) {
    write(folder, path);
  }
  CHECK(listing(pack(folder).value().bytes) ==
        Lines{"- .gitignore 644", "d lib/ 755", "- main.py 644"});
}

TEST_CASE(".broodignore leaves out what it names") {
  const tests::ScratchDirectory folder;
  write(folder, ".broodignore", "# notes\n\n*.log\n!keep.log\n/only-here\nbuild/\ndocs/*.md  \n");
  for (const char* path : {"a.log", "keep.log", "sub/b.log", "only-here", "sub/only-here",
                           "build/x", "sub/build", "docs/a.md", "docs/sub/a.md", "main.py"}) {
    write(folder, path);
  }
  CHECK(listing(pack(folder).value().bytes) ==
        Lines{"d docs/ 755", "d docs/sub/ 755", "- docs/sub/a.md 644", "- keep.log 644",
              "- main.py 644", "d sub/ 755", "- sub/build 644", "- sub/only-here 644"});
}

TEST_CASE("a pattern that is not understood is refused, not ignored") {
  const tests::ScratchDirectory folder;
  write(folder, "main.py");
  write(folder, ".broodignore", "*.log\nlib/**/x\n");
  CHECK_THAT(refusal(folder), Contains(".broodignore") && Contains("line 2") && Contains("'**'"));
}

TEST_CASE("what an agent would refuse is refused before it is sent") {
  const tests::ScratchDirectory folder;
  write(folder, "main.py");
  SECTION("a link out") {
    REQUIRE(::symlinkat("/etc/passwd", folder.fd(), "passwd") == 0);
    CHECK_THAT(refusal(folder), Contains("cannot deploy 'passwd'") && Contains("absolute path") &&
                                    Contains(".broodignore"));
  }
  SECTION("a link above the folder") {
    REQUIRE(::symlinkat("../x", folder.fd(), "up") == 0);
    CHECK_THAT(refusal(folder), Contains("'up'") && Contains("leads out"));
  }
  SECTION("a named pipe") {
    REQUIRE(::mkfifoat(folder.fd(), "pipe", 0644) == 0);
    CHECK_THAT(refusal(folder), Contains("'pipe'") && Contains("neither file"));
  }
  SECTION("a name with a control character") {
    write(folder, "a\nb");
    CHECK_THAT(refusal(folder), Contains("'a\\x0ab'") && Contains("control character"));
  }
  SECTION("too many files") {
    write(folder, "other.py");
    CHECK_THAT(refusal(folder, {.files = 1}), Contains("more than 1 entries"));
  }
  SECTION("too many bytes") {
    write(folder, "other.py", std::string(100, 'x'));
    CHECK_THAT(refusal(folder, {.bytes = 100}), Contains("larger than 100 bytes"));
  }
}

TEST_CASE("an empty or missing folder is refused") {
  const tests::ScratchDirectory folder;
  CHECK_THAT(refusal(folder), Contains("nothing to deploy"));
  const auto missing = rootfs::pack_folder("/nonexistent", -1);
  REQUIRE_FALSE(missing);
  CHECK_THAT(missing.error().message(), Contains("'/nonexistent'") && Contains("ENOENT"));
}

TEST_CASE("a write that fails is told by its reason") {
  const tests::ScratchDirectory folder;
  write(folder, "main.py", std::string(100'000, 'x'));
  const auto full = base::open_at(AT_FDCWD, "/dev/full", O_WRONLY).value();
  const auto status = rootfs::pack_folder(folder.path(), full.get());
  REQUIRE_FALSE(status);
  CHECK_THAT(status.error().message(), Contains("main.py") && Contains("ENOSPC"));
}

TEST_CASE("a source of code is told by what it is") {
  const tests::ScratchDirectory folder;
  const auto kind = [&](const std::string& name) {
    write(folder, name);
    return rootfs::code_source(folder.path() + "/" + name).value();
  };
  CHECK(rootfs::code_source(folder.path()).value() == rootfs::CodeSource::folder);
  for (const char* name : {"a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.TAR.ZST"}) {
    CHECK(kind(name) == rootfs::CodeSource::archive);
  }
  for (const char* name : {"handler.py", "zip", "a.gz", "a.tar.xz"}) {
    CHECK(kind(name) == rootfs::CodeSource::single_file);
  }
  CHECK_FALSE(rootfs::code_source("/dev/null"));
  CHECK_FALSE(rootfs::code_source(folder.path() + "/missing"));
}
