#include "agent/types.h"

#include <catch2/catch.hpp>
#include <set>

TEST_CASE("every ending has a name of its own, and the name leads back") {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < agent::kEndingCount; ++i) {
    const auto ending = static_cast<agent::Ending>(i);
    names.insert(agent::ending_name(ending));
    CHECK(agent::ending_of(agent::ending_name(ending)) == ending);
  }
  CHECK(names.size() == agent::kEndingCount);
  CHECK_FALSE(agent::ending_of("fine"));
}

TEST_CASE("only ok is a success, for HTTP and for the shell") {
  std::set<int> codes;
  for (std::size_t i = 0; i < agent::kEndingCount; ++i) {
    const auto ending = static_cast<agent::Ending>(i);
    codes.insert(agent::exit_code_of(ending));
    CHECK((agent::http_status_of(ending) == 200) == (ending == agent::Ending::ok));
    CHECK((agent::exit_code_of(ending) == 0) == (ending == agent::Ending::ok));
  }
  CHECK(codes.size() == agent::kEndingCount);
  CHECK(agent::http_status_of(agent::Ending::overloaded) == 429);
}

TEST_CASE("names are short, lower-case and free of anything a path could mean") {
  for (const char* name : {"a", "wordcount", "0-a_b",
                           "x23456789012345678901234567890123456789012345678901234567890123"}) {
    CHECK(agent::validate_name(name).empty());
  }
  for (const char* name : {"", "A", "a/b", "..", ".a", "-a", "_a", "a b", "a\n", "ä",
                           "x234567890123456789012345678901234567890123456789012345678901234"}) {
    INFO(name);
    CHECK_FALSE(agent::validate_name(name).empty());
  }
}

TEST_CASE("settings out of bounds are refused by the field's name") {
  const auto problem = [](auto change) {
    agent::FunctionSettings settings;
    change(settings);
    return agent::validate(settings);
  };
  CHECK(agent::validate({}).empty());
  CHECK(problem([](auto& s) { s.memory_bytes = 1; }).find("memory") == 0);
  CHECK(problem([](auto& s) { s.milli_cpu = 0; }).find("cpu") == 0);
  CHECK(problem([](auto& s) { s.pids = 1; }).find("pids") == 0);
  CHECK(problem([](auto& s) { s.timeout = std::chrono::milliseconds(0); }).find("timeout") == 0);
  CHECK(problem([](auto& s) { s.concurrency = 0; }).find("concurrency") == 0);
  CHECK(problem([](auto& s) { s.queue = 10'001; }).find("queue") == 0);
  CHECK(problem([](auto& s) { s.network = "host"; }).find("network") == 0);
  CHECK(problem([](auto& s) { s.allow = {"192.0.2.1"}; }).find("allow") == 0);
  CHECK(problem([](auto& s) { s.network_rate = 1; }).find("allow, network_rate") == 0);
  for (const char* handler : {"/abs", "../x", "a/../b", "a//b", "a/", "./a", "."}) {
    INFO(handler);
    CHECK(problem([&](auto& s) { s.handler = handler; }).find("handler") == 0);
  }
  for (const char* listen : {"0", "65536", "80a", "-1", "a/b", " 80"}) {
    INFO(listen);
    CHECK(problem([&](auto& s) { s.listen = listen; }).find("listen") == 0);
  }
  CHECK(problem([](auto& s) { s.listen = "/" + std::string(107, 'x'); }).find("listen") == 0);
  CHECK(problem([](auto& s) { s.environment["A=B"] = "x"; }).find("environment") == 0);
  CHECK(problem([](auto& s) { s.environment["A"] = std::string("x\0y", 3); }).find("environment") ==
        0);
  CHECK(problem([](auto& s) { s.environment["A"] = std::string(5000, 'x'); }).find("environment") ==
        0);
}

TEST_CASE("a handler is a function of a module, or a program below the code") {
  for (const char* handler :
       {"main", "", ".main", "a.", "a..b", "../x.main", "a/b.main", "1a.b", "a.b c"}) {
    INFO(handler);
    CHECK_FALSE(agent::is_module_handler(handler));
  }
  CHECK(agent::is_module_handler("app.sub.go"));
  CHECK(agent::is_program_handler("bin/hello"));
  CHECK(agent::is_program_handler("hello.sh"));
  CHECK_FALSE(agent::is_program_handler(""));
  CHECK_FALSE(agent::is_program_handler(std::string("a\0b", 3)));
}
