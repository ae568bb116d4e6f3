#include "agent/registry.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "base/file.h"
#include "tests/support/scratch.h"

namespace {

using agent::Function;
using agent::Registry;
using Catch::Matchers::Contains;

Function function_named(const std::string& name) {
  Function function;
  function.name = name;
  function.code_digest = std::string(64, 'a');
  function.deployed_at_ms = 1'700'000'000'123;
  return function;
}

std::string path_in(const tests::ScratchDirectory& scratch) {
  return scratch.path() + "/registry.db";
}

void execute(const std::string& path, const std::string& sql) {
  sqlite3* database = nullptr;
  REQUIRE(::sqlite3_open(path.c_str(), &database) == SQLITE_OK);
  char* error = nullptr;
  ::sqlite3_exec(database, sql.c_str(), nullptr, nullptr, &error);
  const std::string message = error == nullptr ? "" : error;
  ::sqlite3_free(error);
  ::sqlite3_close(database);
  REQUIRE(message.empty());
}

std::string refusal(const std::string& path) {
  const auto registry = Registry::open(path);
  return registry ? "opened" : registry.error().message();
}

}  // namespace

TEST_CASE("a function comes back after a restart with everything it was deployed with") {
  const tests::ScratchDirectory scratch;
  Function function = function_named("wordcount");
  function.settings = {
      .runtime = "python3-pil",
      .handler = "app.run",
      .memory_bytes = 64ULL << 30,
      .milli_cpu = 1'024'000,
      .pids = 32'768,
      .timeout = std::chrono::milliseconds(900'000),
      .concurrency = 1000,
      .queue = 0,
      .reuse = false,
      .idle = std::chrono::milliseconds(1),
      .network = "nat",
      .allow = {"192.0.2.0/24:443", "[2001:db8::/32]:53/udp"},
      .network_rate = 1ULL << 40,
      .network_connections = 65'535,
      .environment = {{"KEY", "va'l\"ue\n"}, {"GR\u00dcSSE", "\u4f60"}, {"EMPTY", ""}},
      .layers = {"fonts", "common"}};
  function.layer_digests = {std::string(64, 'c'), std::string(64, 'd')};
  function.runtime_chosen = true;
  REQUIRE(Registry::open(path_in(scratch)).value().put(function));
  const auto all = Registry::open(path_in(scratch)).value().load_all().value();
  REQUIRE(all.size() == 1);
  CHECK(all[0].name == "wordcount");
  CHECK(all[0].version == 1);
  CHECK(all[0].code_digest == function.code_digest);
  CHECK(all[0].deployed_at_ms == function.deployed_at_ms);
  CHECK(all[0].settings.runtime == "python3-pil");
  CHECK(all[0].settings.handler == "app.run");
  CHECK(all[0].settings.memory_bytes == 64ULL << 30);
  CHECK(all[0].settings.milli_cpu == 1'024'000);
  CHECK(all[0].settings.pids == 32'768);
  CHECK(all[0].settings.timeout.count() == 900'000);
  CHECK(all[0].settings.concurrency == 1000);
  CHECK(all[0].settings.queue == 0);
  CHECK_FALSE(all[0].settings.reuse);
  CHECK(all[0].settings.idle.count() == 1);
  CHECK(all[0].settings.network == "nat");
  CHECK(all[0].settings.allow == function.settings.allow);
  CHECK(all[0].settings.network_rate == 1ULL << 40);
  CHECK(all[0].settings.network_connections == 65'535);
  CHECK(all[0].settings.environment == function.settings.environment);
  CHECK(all[0].settings.layers == function.settings.layers);
  CHECK(all[0].layer_digests == function.layer_digests);
  CHECK(all[0].runtime_chosen);
}

TEST_CASE(
    "layers come back, one of a name, and their code and that of functions' layers is in use") {
  const tests::ScratchDirectory scratch;
  {
    Registry registry = Registry::open(path_in(scratch)).value();
    REQUIRE(registry.put_layer({"fonts", std::string(64, 'e'), 1}));
    REQUIRE(registry.put_layer({"fonts", std::string(64, 'f'), 2}));
    REQUIRE(registry.put_layer({"gone", std::string(64, '0'), 3}));
    REQUIRE(registry.remove_layer("gone"));
    Function function = function_named("f");
    function.code_digest = std::string(64, 'a');
    function.settings.layers = {"fonts"};
    function.layer_digests = {std::string(64, 'e')};
    REQUIRE(registry.put(function));
  }
  const Registry registry = Registry::open(path_in(scratch)).value();
  const auto layers = registry.load_layers().value();
  REQUIRE(layers.size() == 1);
  CHECK(layers[0].name == "fonts");
  CHECK(layers[0].digest == std::string(64, 'f'));
  CHECK(layers[0].published_at_ms == 2);
  CHECK(registry.code_in_use().value() ==
        std::set<std::string>{std::string(64, 'a'), std::string(64, 'e'), std::string(64, 'f')});
}

TEST_CASE("deploying again replaces, and counts") {
  const tests::ScratchDirectory scratch;
  Registry registry = Registry::open(path_in(scratch)).value();
  Function function = function_named("f");
  CHECK(registry.put(function)->version == 1);
  function.code_digest = std::string(64, 'b');
  function.version = 77;
  CHECK(registry.put(function)->version == 2);
  CHECK(registry.put(function_named("other"))->version == 1);
  const auto all = registry.load_all().value();
  REQUIRE(all.size() == 2);
  CHECK(all[0].code_digest == function.code_digest);
  CHECK(all[0].version == 2);
}

TEST_CASE("a version never comes again, not even after removal and restart") {
  const tests::ScratchDirectory scratch;
  {
    Registry registry = Registry::open(path_in(scratch)).value();
    CHECK(registry.put(function_named("f"))->version == 1);
    CHECK(registry.put(function_named("f"))->version == 2);
    CHECK(registry.remove("f").value() == Registry::Removed::yes);
    CHECK(registry.remove("f").value() == Registry::Removed::was_not_there);
    CHECK(registry.load_all()->empty());
  }
  Registry registry = Registry::open(path_in(scratch)).value();
  CHECK(registry.put(function_named("f"))->version == 3);
}

TEST_CASE("code is in use as long as a function refers to it") {
  const tests::ScratchDirectory scratch;
  Registry registry = Registry::open(path_in(scratch)).value();
  Function second = function_named("second");
  second.code_digest = std::string(64, 'b');
  REQUIRE(registry.put(function_named("first")));
  REQUIRE(registry.put(function_named("same")));
  REQUIRE(registry.put(second));
  CHECK(registry.code_in_use().value() ==
        std::set<std::string>{std::string(64, 'a'), std::string(64, 'b')});
  REQUIRE(registry.remove("second"));
  REQUIRE(registry.remove("first"));
  CHECK(registry.code_in_use().value() == std::set<std::string>{std::string(64, 'a')});
}

TEST_CASE("what was answered survives SIGKILL, at whatever moment it comes") {
  const tests::ScratchDirectory scratch;
  for (const int after_us : {5'000, 20'000, 45'000}) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      Registry registry = Registry::open(path_in(scratch)).value();
      for (;;) {
        const std::uint64_t version = registry.put(function_named("f"))->version;
        (void)!::write(ends[1], &version, sizeof version);
      }
    }
    ::close(ends[1]);
    std::uint64_t answered = 0;
    REQUIRE(::read(ends[0], &answered, sizeof answered) == sizeof answered);
    ::usleep(static_cast<useconds_t>(after_us));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    while (::read(ends[0], &answered, sizeof answered) == sizeof answered) {
    }
    ::close(ends[0]);
    const Registry registry = Registry::open(path_in(scratch)).value();
    const auto all = registry.load_all().value();
    REQUIRE(all.size() == 1);
    // The last one may have been stored just before its answer.
    CHECK(all[0].version >= answered);
    CHECK(all[0].version <= answered + 1);
  }
}

TEST_CASE("the registry is for its owner's eyes") {
  const tests::ScratchDirectory scratch;
  Registry registry = Registry::open(path_in(scratch)).value();
  REQUIRE(registry.put(function_named("f")));
  for (const std::string name : {"registry.db", "registry.db-wal"}) {
    struct stat about {};
    CAPTURE(name);
    REQUIRE(::fstatat(scratch.fd(), name.c_str(), &about, 0) == 0);
    CHECK((about.st_mode & 07777) == 0600);
  }
}

TEST_CASE("a second agent on the same registry is turned away") {
  const tests::ScratchDirectory scratch;
  const Registry registry = Registry::open(path_in(scratch)).value();
  const pid_t child = ::fork();  // its own process: file locks do not hold within one
  if (child == 0) {
    const std::string message = refusal(path_in(scratch));
    ::_exit(message.find("another agent has it open") != std::string::npos ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
}

TEST_CASE("a registry from the future is refused and left alone") {
  const tests::ScratchDirectory scratch;
  REQUIRE(Registry::open(path_in(scratch)).value().put(function_named("f")));
  execute(path_in(scratch), "PRAGMA user_version=999");
  const std::string before = base::read_file(path_in(scratch)).value();
  CHECK_THAT(refusal(path_in(scratch)), Contains("form 999") && Contains("newer brood"));
  CHECK(base::read_file(path_in(scratch)).value() == before);
}

TEST_CASE("a file that is no registry is refused and left alone") {
  const tests::ScratchDirectory scratch;
  SECTION("no database") {
    REQUIRE(base::replace_file_at(scratch.fd(), "registry.db", std::string(5000, 'x'), 0600));
    CHECK_THAT(refusal(path_in(scratch)), Contains("not a database") && Contains("move it"));
    CHECK(base::read_file(path_in(scratch)).value() == std::string(5000, 'x'));
  }
  SECTION("somebody else's database") {
    execute(path_in(scratch), "CREATE TABLE theirs (x)");
    CHECK_THAT(refusal(path_in(scratch)), Contains("not brood's"));
  }
  SECTION("a directory") {
    REQUIRE(::mkdirat(scratch.fd(), "registry.db", 0700) == 0);
    CHECK_THAT(refusal(path_in(scratch)), Contains("EISDIR"));
  }
  SECTION("a missing directory") {
    CHECK_THAT(refusal(scratch.path() + "/missing/registry.db"), Contains("ENOENT"));
  }
}

TEST_CASE("a damaged registry is refused, never made anew") {
  const tests::ScratchDirectory scratch;
  {
    Registry registry = Registry::open(path_in(scratch)).value();
    for (int i = 0; i < 200; ++i) {
      REQUIRE(registry.put(function_named("f" + std::to_string(i))));
    }
  }
  std::string bytes = base::read_file(path_in(scratch)).value();
  REQUIRE(bytes.size() > 16384);
  SECTION("overwritten in the middle") {
    bytes.replace(8192, 4096, std::string(4096, '\x5a'));
  }
  SECTION("cut short") {
    bytes.resize(bytes.size() / 2);
  }
  SECTION("a torn header") {
    bytes.replace(20, 80, std::string(80, '\xff'));
  }
  REQUIRE(base::replace_file_at(scratch.fd(), "registry.db", bytes, 0600));
  CHECK_THAT(refusal(path_in(scratch)), Contains("damaged"));
  CHECK(base::read_file(path_in(scratch))->size() == bytes.size());
}

TEST_CASE("a value that no deployment can have had is damage") {
  const tests::ScratchDirectory scratch;
  REQUIRE(Registry::open(path_in(scratch)).value().put(function_named("f")));
  const auto message = [&](const std::string& change) {
    execute(path_in(scratch), "UPDATE functions SET " + change);
    const auto all = Registry::open(path_in(scratch)).value().load_all();
    return all ? std::string("loaded") : all.error().message();
  };
  CHECK_THAT(message("milli_cpu = -1"), Contains("'f'") && Contains("out of range"));
  CHECK_THAT(message("milli_cpu = 1, environment = 'no json'"), Contains("out of range"));
  CHECK(message("environment = '{}'") == "loaded");
}

TEST_CASE("an empty file, as a crash at the first start leaves it, is a new registry") {
  const tests::ScratchDirectory scratch;
  REQUIRE(base::replace_file_at(scratch.fd(), "registry.db", "", 0600));
  CHECK(Registry::open(path_in(scratch)).value().put(function_named("f"))->version == 1);
}

TEST_CASE("records of commands are kept beside the functions, each under its id") {
  const tests::ScratchDirectory scratch;
  {
    Registry registry = Registry::open(path_in(scratch)).value();
    REQUIRE(registry.put_command("b", "second"));
    REQUIRE(registry.put_command("a", "first"));
    REQUIRE(registry.put_command("b", "second, changed"));
  }
  Registry registry = Registry::open(path_in(scratch)).value();
  CHECK(registry.load_commands().value() == std::vector<std::string>{"first", "second, changed"});
  REQUIRE(registry.remove_command("a"));
  REQUIRE(registry.remove_command("nobody"));
  CHECK(registry.load_commands().value() == std::vector<std::string>{"second, changed"});
}
