#include "rootfs/archive.h"

#include <signal.h>

#include <catch2/catch.hpp>

namespace {

using Catch::Matchers::Contains;
using rootfs::safe_entry_path;
using rootfs::safe_link_target;

std::string refusal_of(const rootfs::Result<std::string>& result) {
  return result ? "accepted as '" + *result + "'" : result.error().message();
}

base::ProcessEnd exited(int status) {
  return {.code = CLD_EXITED, .status = status};
}
base::ProcessEnd killed(int signal) {
  return {.code = CLD_KILLED, .status = signal};
}

}  // namespace

TEST_CASE("an entry's path is brought to one form") {
  CHECK(safe_entry_path("a/b.py").value() == "a/b.py");
  CHECK(safe_entry_path("./a//b/./c/").value() == "a/b/c");
  CHECK(safe_entry_path("./").value().empty());
  CHECK(safe_entry_path("..a/b..").value() == "..a/b..");
  CHECK(safe_entry_path("gr\u00fc\u00dfe/\U0001f600.txt").value() ==
        "gr\u00fc\u00dfe/\U0001f600.txt");
}

TEST_CASE("an entry's path cannot leave its tree") {
  CHECK_THAT(refusal_of(safe_entry_path("/etc/passwd")), Contains("absolute"));
  CHECK_THAT(refusal_of(safe_entry_path("..")), Contains("'..'"));
  CHECK_THAT(refusal_of(safe_entry_path("a/../b")), Contains("'..'"));
  CHECK_THAT(refusal_of(safe_entry_path("a/..")), Contains("'..'"));
  CHECK_THAT(refusal_of(safe_entry_path("")), Contains("no name"));
}

TEST_CASE("an entry's name cannot trick whoever prints it") {
  using namespace std::string_view_literals;
  CHECK_THAT(refusal_of(safe_entry_path("a\0b"sv)), Contains("control character"));
  CHECK_THAT(refusal_of(safe_entry_path("a\x1b[2Jb")), Contains("control character"));
  CHECK_THAT(refusal_of(safe_entry_path("a\nb")), Contains("control character"));
  CHECK_THAT(refusal_of(safe_entry_path("a\u009bb")), Contains("control character"));
  CHECK_THAT(refusal_of(safe_entry_path("a\xff")), Contains("UTF-8"));
  CHECK_THAT(refusal_of(safe_entry_path("a\xc0\xaf")), Contains("UTF-8"));      // overlong '/'
  CHECK_THAT(refusal_of(safe_entry_path("a\xed\xa0\x80")), Contains("UTF-8"));  // a surrogate
  CHECK_THAT(refusal_of(safe_entry_path("a\xe2\x82")), Contains("UTF-8"));      // cut short
}

TEST_CASE("an entry's path has limits") {
  std::string deep = "a";
  for (int i = 1; i < 32; ++i) {
    deep += "/a";
  }
  CHECK(safe_entry_path(deep));
  CHECK_THAT(refusal_of(safe_entry_path(deep + "/a")), Contains("32 folders deep"));
  CHECK(safe_entry_path(std::string(255, 'n')));
  CHECK_THAT(refusal_of(safe_entry_path(std::string(256, 'n'))), Contains("255 bytes"));
  const std::string long_path =
      std::string(250, 'a') + "/" + std::string(250, 'b') + "/" + std::string(250, 'c');
  CHECK(safe_entry_path(long_path));
  CHECK_THAT(
      refusal_of(safe_entry_path(long_path + "/" + std::string(250, 'd') + std::string(30, '/'))),
      Contains("1024 bytes"));
}

TEST_CASE("a link's target stays inside") {
  CHECK(safe_link_target("a", "b").value() == "b");
  CHECK(safe_link_target("a/b/c", "../../d").value() == "../../d");
  CHECK(safe_link_target("a/b", ".././c//d/").value() == "../c/d");
  CHECK(safe_link_target("a/b", "..").value() == "..");
  CHECK(safe_link_target("a", ".").value() == ".");
  CHECK_THAT(refusal_of(safe_link_target("a", "/etc/passwd")), Contains("absolute"));
  CHECK_THAT(refusal_of(safe_link_target("a", "..")), Contains("leads out"));
  CHECK_THAT(refusal_of(safe_link_target("a/b", "../../c")), Contains("leads out"));
  CHECK_THAT(refusal_of(safe_link_target("a", "")), Contains("nothing"));
  CHECK_THAT(refusal_of(safe_link_target("a", "b\n")), Contains("control character"));
}

TEST_CASE("a link's target cannot leave by way of another link") {
  // With p/q/r/d -> ../../.., which is inside, this would lead above the root.
  CHECK(safe_link_target("p/q/r/d", "../../..").value() == "../../..");
  CHECK_THAT(refusal_of(safe_link_target("e", "p/q/r/d/../../../..")), Contains("behind a name"));
}

TEST_CASE("only the owner's right to execute is kept of a mode") {
  CHECK(rootfs::file_mode(04755) == 0755);
  CHECK(rootfs::file_mode(02677) == 0644);
  CHECK(rootfs::file_mode(0) == 0644);
}

TEST_CASE("a hostile name is printed harmlessly") {
  CHECK(rootfs::printable("a\x1b[31m\xff\u009b") == "a\\x1b[31m\\xff\\xc2\\x9b");
  CHECK(rootfs::printable(std::string(500, 'a')).size() == 203);
}

TEST_CASE("a verdict survives the pipe") {
  const auto accepted = rootfs::parse_verdict(
      rootfs::format_verdict({.files = 3, .bytes = 9, .refusal = {}, .entry = {}}), exited(0));
  REQUIRE(accepted);
  CHECK(accepted->accepted());
  CHECK(accepted->files == 3);
  CHECK(accepted->bytes == 9);
  const auto refused = rootfs::parse_verdict(
      rootfs::format_verdict({.refusal = "its path has a '..'", .entry = "../a\xff"}), exited(1));
  REQUIRE(refused);
  CHECK(refused->message() == "the archive is refused: '../a\ufffd': its path has a '..'");
  const auto unable = rootfs::parse_verdict(rootfs::format_unable("disk full", "a"), exited(2));
  REQUIRE_FALSE(unable);
  CHECK(unable.error().message() == "unpack: disk full ('a')");
}

TEST_CASE("a verdict is not believed against the way its process ended") {
  const std::string good = R"({"files":1,"bytes":1})";
  CHECK_FALSE(rootfs::parse_verdict(good, exited(1)));
  CHECK_FALSE(rootfs::parse_verdict(good, exited(77)));
  CHECK_FALSE(rootfs::parse_verdict(R"({"error":"x","entry":""})", exited(0)));
  CHECK_FALSE(rootfs::parse_verdict("", exited(0)));
  CHECK_FALSE(rootfs::parse_verdict("[]", exited(0)));
  CHECK_FALSE(rootfs::parse_verdict(R"({"files":-1,"bytes":1})", exited(0)));
  CHECK_FALSE(rootfs::parse_verdict(R"({"files":"1","bytes":1})", exited(0)));
  CHECK_FALSE(rootfs::parse_verdict(good + std::string(20'000, ' '), exited(0)));
  CHECK_FALSE(rootfs::parse_verdict(std::string(100'000, '['), exited(0)));
  CHECK_FALSE(rootfs::parse_verdict(R"({"error":""})", exited(1)));
  const auto at_once = rootfs::parse_verdict(good, killed(SIGSEGV));
  REQUIRE(at_once);
  CHECK_FALSE(at_once->accepted());
}

TEST_CASE("an unpacker that died says of what") {
  const auto message = [](int signal) {
    const auto verdict = rootfs::parse_verdict("", killed(signal));
    return verdict ? verdict->message() : "error: " + verdict.error().message();
  };
  CHECK_THAT(message(SIGSYS), Contains("SIGSYS") && Contains("forbidden system call"));
  CHECK_THAT(message(SIGXCPU), Contains("processor time"));
  CHECK_THAT(message(SIGSEGV), Contains("refused") && Contains("SIGSEGV"));
  CHECK_THAT(message(SIGKILL), Contains("error: ") && Contains("SIGKILL"));
}

TEST_CASE("a verdict's text cannot trick whoever prints it") {
  const auto verdict =
      rootfs::parse_verdict(R"({"error":"a\u001b[2Jb","entry":"\u0000"})", exited(1));
  REQUIRE(verdict);
  CHECK(verdict->refusal == "a\\x1b[2Jb");
  CHECK(verdict->entry == "\\x00");
}
