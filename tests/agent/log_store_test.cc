#include "agent/log_store.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>

#include "base/file.h"
#include "base/utf8.h"
#include "tests/support/scratch.h"

namespace {

using agent::FunctionLog;
using agent::LineSplitter;
using agent::LogLimits;
using agent::LogSource;
using agent::LogStore;
using Catch::Matchers::Contains;

struct Collected {
  std::vector<std::string> lines;  // a cut one ends in "|cut"
  void operator()(LineSplitter::Line line) {
    lines.push_back(std::string(line.text) + (line.cut ? "|cut" : ""));
  }
};

std::vector<std::string> split(const std::vector<std::string>& pieces, std::size_t limit) {
  LineSplitter splitter(limit);
  Collected collected;
  for (const std::string& piece : pieces) {
    splitter.feed(piece, std::ref(collected));
  }
  splitter.finish(std::ref(collected));
  return collected.lines;
}

using Lines = std::vector<std::string>;

std::vector<std::string> texts(const std::vector<agent::LogLine>& lines) {
  std::vector<std::string> all;
  for (const agent::LogLine& line : lines) {
    all.push_back(line.text);
  }
  return all;
}

std::vector<std::string> texts(const LogStore& store, std::size_t tail = 1000,
                               std::uint64_t after = 0) {
  return texts(store.read("f", tail, after).value());
}

void print(const std::shared_ptr<FunctionLog>& log, const std::string& text) {
  LogSource source = log->source();
  log->append(source, text, "i1", 1);
}

}  // namespace

TEST_CASE("lines are put together from pieces") {
  CHECK(split({"a\nb\n"}, 10) == Lines{"a", "b"});
  CHECK(split({"a", "b", "\nc", "d\n\n", "e"}, 10) == Lines{"ab", "cd", "", "e"});
  CHECK(split({""}, 10).empty());
  CHECK(split({"0123456789\n"}, 10) == Lines{"0123456789"});
}

TEST_CASE("a line that is too long is cut once, and the next one is whole") {
  CHECK(split({"0123456789x\nnext\n"}, 10) == Lines{"0123456789|cut", "next"});
  CHECK(split({"01234", "56789", "abc", "def\nnext\n"}, 10) == Lines{"0123456789|cut", "next"});
  CHECK(split({"0123456789abc"}, 10) == Lines{"0123456789|cut"});
}

TEST_CASE("a line is not cut within a character") {
  CHECK(split({"0123456\u20ac89\n"}, 9) == Lines{"0123456|cut"});
  CHECK(split({"0123456\u20ac89\n"}, 10) == Lines{"0123456\u20ac|cut"});
  CHECK(split({"01234\U0001f600\n"}, 8) == Lines{"01234|cut"});
  CHECK(split({"0123\xff\xff\xff\xffxxx\n"}, 8) == Lines{"0123\xff\xff\xff|cut"});
}

TEST_CASE("ten megabytes without a newline are held in no more than a line") {
  LineSplitter splitter(16 << 10);
  std::size_t given = 0;
  std::size_t cut = 0;
  const auto sink = [&](LineSplitter::Line line) {
    given += line.text.size();
    cut += line.cut ? 1 : 0;
  };
  const std::string piece(4096, 'x');
  for (int i = 0; i < 2560; ++i) {
    splitter.feed(piece, sink);
    REQUIRE(given <= 16 << 10);
  }
  CHECK(given == 16 << 10);
  CHECK(cut == 1);
  CHECK_FALSE(splitter.holds_partial());
  splitter.feed("\nnext\n", sink);
  CHECK(given == (16 << 10) + 4);
}

TEST_CASE("what was printed is read back with its invocation") {
  const tests::ScratchDirectory scratch;
  LogStore store = LogStore::open(scratch.path() + "/logs").value();
  const auto log = store.writer("f").value();
  LogSource source = log->source();
  log->append(source, "one\ntw", "inv-1", 1000);
  log->append(source, "o\n", "inv-1", 1001);
  log->append(source, "boot\n", "", 1002);
  const auto lines = store.read("f", 100, 0).value();
  REQUIRE(lines.size() == 3);
  CHECK(texts(lines) == Lines{"one", "two", "boot"});
  CHECK(lines[0].sequence == 1);
  CHECK(lines[0].time_ms == 1000);
  CHECK(lines[0].origin == "inv-1");
  CHECK_FALSE(lines[0].cut);
  CHECK(lines[1].time_ms == 1001);
  CHECK(lines[2].sequence == 3);
  CHECK(lines[2].origin.empty());
}

TEST_CASE("functions that do not print hold no descriptor, and print when they do") {
  const tests::ScratchDirectory scratch;
  LogStore store = LogStore::open(scratch.path() + "/logs").value();
  const auto open_now = [] {
    const auto all = std::filesystem::directory_iterator("/proc/self/fd");
    return std::distance(begin(all), end(all));
  };
  const auto before = open_now();
  std::vector<std::shared_ptr<FunctionLog>> logs;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 200; ++i) {
      const std::string name = "f" + std::to_string(i);
      logs.push_back(store.writer(name).value());
      print(logs.back(), "round " + std::to_string(round) + "\n");
      REQUIRE(logs.back()->flush());
    }
    CHECK(open_now() - before <= static_cast<long>(2 * agent::OpenLogs::kMost));
  }
  for (int i = 0; i < 200; ++i) {
    CHECK(texts(store.read("f" + std::to_string(i), 10, 0).value()) == Lines{"round 0", "round 1"});
  }
}

TEST_CASE("half a line stays with the invocation that printed it") {
  const tests::ScratchDirectory scratch;
  LogStore store = LogStore::open(scratch.path()).value();
  const auto log = store.writer("f").value();
  LogSource source = log->source();
  log->append(source, "no newline", "inv-1", 1);
  log->append(source, "second\nrest", "inv-2", 2);
  log->end(source, 3);
  const auto lines = store.read("f", 100, 0).value();
  CHECK(texts(lines) == Lines{"no newline", "second", "rest"});
  CHECK(lines[0].origin == "inv-1");
  CHECK(lines[1].origin == "inv-2");
  CHECK(lines[2].origin == "inv-2");
}

TEST_CASE("lines of two sandboxes do not mix") {
  const tests::ScratchDirectory scratch;
  LogStore store = LogStore::open(scratch.path()).value();
  const auto log = store.writer("f").value();
  LogSource a = log->source();
  LogSource b = log->source();
  log->append(a, "aa", "1", 1);
  log->append(b, "bb", "2", 1);
  log->append(a, "AA\n", "1", 1);
  log->append(b, "BB\n", "2", 1);
  CHECK(texts(store) == Lines{"aaAA", "bbBB"});
}

TEST_CASE("text becomes valid UTF-8 and keeps everything else") {
  const tests::ScratchDirectory scratch;
  LogStore store = LogStore::open(scratch.path()).value();
  const auto log = store.writer("f").value();
  print(log, std::string("\xff\xfe ok \xe2\x82 \ttab \x1b[31mred \"q\" \\ \0 nul\n", 35));
  const auto lines = texts(store);
  REQUIRE(lines.size() == 1);
  CHECK(base::is_utf8(lines[0]));
  CHECK(lines[0] ==
        std::string("\ufffd\ufffd ok \ufffd \ttab \x1b[31mred \"q\" \\ \0 nul",
                    sizeof("\ufffd\ufffd ok \ufffd \ttab \x1b[31mred \"q\" \\ \0 nul") - 1));
}

TEST_CASE("a cut line is marked") {
  const tests::ScratchDirectory scratch;
  LogStore store = LogStore::open(scratch.path()).value();
  print(store.writer("f").value(), std::string(10 << 20, 'x') + "\nafter\n");
  const auto lines = store.read("f", 100, 0).value();
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].cut);
  CHECK(lines[0].text.size() == 16 << 10);
  CHECK_FALSE(lines[1].cut);
  CHECK(lines[1].text == "after");
}

TEST_CASE("the last lines after a sequence are read, oldest first") {
  const tests::ScratchDirectory scratch;
  LogStore store = LogStore::open(scratch.path()).value();
  const auto log = store.writer("f").value();
  print(log, "1\n2\n3\n4\n5\n");
  CHECK(texts(store, 2) == Lines{"4", "5"});
  CHECK(texts(store, 100, 3) == Lines{"4", "5"});
  CHECK(texts(store, 1, 3) == Lines{"5"});
  CHECK(texts(store, 0).empty());
  CHECK(texts(store, 100, 5).empty());
  CHECK(store.read("never-printed", 10, 0)->empty());
  CHECK(store.read("../f", 10, 0)->empty());
}

TEST_CASE("files are rotated and bounded together, and reading goes across them") {
  const tests::ScratchDirectory scratch;
  const LogLimits limits{.file_bytes = 4096, .files = 3, .line_bytes = 256};
  LogStore store = LogStore::open(scratch.path(), limits).value();
  const auto log = store.writer("f").value();
  for (int i = 1; i <= 1000; ++i) {
    print(log, "line " + std::to_string(i) + "\n");
    REQUIRE(log->flush());
  }
  std::uint64_t total = 0;
  for (const std::string name : {"current.jsonl", "1.jsonl", "2.jsonl"}) {
    struct stat about {};
    CAPTURE(name);
    REQUIRE(::fstatat(scratch.fd(), ("f/" + name).c_str(), &about, 0) == 0);
    CHECK(about.st_size <= 4096);
    CHECK((about.st_mode & 07777) == 0600);
    total += static_cast<std::uint64_t>(about.st_size);
  }
  CHECK(total > 8192 - 256);
  CHECK(::faccessat(scratch.fd(), "f/3.jsonl", F_OK, 0) != 0);
  const auto lines = store.read("f", 1000, 0).value();
  REQUIRE(lines.size() > 80);
  CHECK(lines.back().text == "line 1000");
  for (std::size_t i = 1; i < lines.size(); ++i) {
    REQUIRE(lines[i].sequence == lines[i - 1].sequence + 1);
  }
  CHECK(lines.front().sequence == 1000 - lines.size() + 1);
}

TEST_CASE("one file is enough") {
  const tests::ScratchDirectory scratch;
  LogStore store =
      LogStore::open(scratch.path(), {.file_bytes = 1000, .files = 1, .line_bytes = 64}).value();
  const auto log = store.writer("f").value();
  for (int i = 0; i < 100; ++i) {
    print(log, std::to_string(i) + "\n");
  }
  const auto lines = texts(store);
  REQUIRE_FALSE(lines.empty());
  CHECK(lines.back() == "99");
  CHECK(lines.size() < 30);
}

TEST_CASE("held lines are bounded without a flush") {
  const tests::ScratchDirectory scratch;
  LogStore store = LogStore::open(scratch.path()).value();
  const auto log = store.writer("f").value();
  LogSource source = log->source();
  for (int i = 0; i < 100; ++i) {
    log->append(source, std::string(10'000, 'x') + "\n", "i", 1);
  }
  struct stat about {};
  REQUIRE(::fstatat(scratch.fd(), "f/current.jsonl", &about, 0) == 0);
  CHECK(about.st_size > 800'000);
  CHECK(log->holds_lines());
}

TEST_CASE("after a crash the half line is dropped and the sequence goes on") {
  const tests::ScratchDirectory scratch;
  print(LogStore::open(scratch.path()).value().writer("f").value(), "one\ntwo\n");
  {
    const auto file = base::open_at(scratch.fd(), "f/current.jsonl", O_WRONLY | O_APPEND).value();
    REQUIRE(base::write_all(file.get(), R"({"sequence":3,"time_ms":1,"invocat)"));
  }
  LogStore store = LogStore::open(scratch.path()).value();
  CHECK(texts(store) == Lines{"one", "two"});
  const auto log = store.writer("f").value();
  CHECK(log->last_sequence() == 2);
  print(log, "three\n");
  const auto lines = store.read("f", 100, 0).value();
  CHECK(texts(lines) == Lines{"one", "two", "three"});
  CHECK(lines.back().sequence == 3);
}

TEST_CASE("the sequence goes on when the crash came right after a rotation") {
  const tests::ScratchDirectory scratch;
  print(LogStore::open(scratch.path()).value().writer("f").value(), "one\ntwo\n");
  REQUIRE(::renameat(scratch.fd(), "f/current.jsonl", scratch.fd(), "f/1.jsonl") == 0);
  LogStore store = LogStore::open(scratch.path()).value();
  print(store.writer("f").value(), "three\n");
  const auto lines = store.read("f", 100, 0).value();
  CHECK(texts(lines) == Lines{"one", "two", "three"});
  CHECK(lines.back().sequence == 3);
}

TEST_CASE("a spoilt line in the middle is skipped") {
  const tests::ScratchDirectory scratch;
  print(LogStore::open(scratch.path()).value().writer("f").value(), "one\n");
  {
    const auto file = base::open_at(scratch.fd(), "f/current.jsonl", O_WRONLY | O_APPEND).value();
    REQUIRE(base::write_all(file.get(), "spoilt\n[]\n{}\n\n"));
  }
  LogStore store = LogStore::open(scratch.path()).value();
  print(store.writer("f").value(), "two\n");
  CHECK(texts(store) == Lines{"one", "two"});
}

TEST_CASE("a disk that takes no more costs lines, is told, and spoils nothing") {
  const tests::ScratchDirectory scratch;
  const pid_t child = ::fork();  // its own process: a limit on file size stands for the full disk
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    LogStore store = LogStore::open(scratch.path()).value();
    const auto log = store.writer("f").value();
    print(log, "one\n");
    bool good = log->flush().has_value();
    rlimit limit{};
    ::getrlimit(RLIMIT_FSIZE, &limit);
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 100;
    ::setrlimit(RLIMIT_FSIZE, &limit);
    print(log, "lost\nlost\n");
    good = good && !log->flush() && log->lost_lines() == 2 && log->flush().has_value();
    limit.rlim_cur = before;
    ::setrlimit(RLIMIT_FSIZE, &limit);
    print(log, "four\n");
    good = good && log->flush().has_value() && log->lost_lines() == 2;
    ::_exit(good ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
  const LogStore store = LogStore::open(scratch.path()).value();
  const auto lines = store.read("f", 100, 0).value();
  CHECK(texts(lines) == Lines{"one", "four"});
  CHECK(lines.back().sequence == 4);
}

TEST_CASE("removing a log takes its files, and its old writer cannot bring them back") {
  const tests::ScratchDirectory scratch;
  LogStore store = LogStore::open(scratch.path()).value();
  const auto old = store.writer("f").value();
  print(old, "old\n");
  REQUIRE(old->flush());
  REQUIRE(store.remove("f"));
  CHECK(::faccessat(scratch.fd(), "f", F_OK, 0) != 0);
  print(old, "late\n");
  CHECK(old->flush());
  CHECK(::faccessat(scratch.fd(), "f", F_OK, 0) != 0);
  print(store.writer("f").value(), "new\n");
  CHECK(texts(store) == Lines{"new"});
  CHECK(store.remove("never-printed"));
  CHECK_FALSE(store.remove("../etc"));
}

TEST_CASE("all who write a function's log share it") {
  const tests::ScratchDirectory scratch;
  LogStore store = LogStore::open(scratch.path()).value();
  const auto first = store.writer("f").value();
  CHECK(store.writer("f").value() == first);
  CHECK(store.writer("g").value() != first);
  CHECK_FALSE(store.writer("../f"));
  CHECK_FALSE(store.writer(""));
}
