// What `brood` is linked with: a shell starts it for every invocation.
#include <catch2/catch.hpp>
#include <set>
#include <sstream>

#include "tests/cmd/program.h"
#include "tests/support/skip.h"

namespace {

std::string text_of(const char* command) {
  std::string text;
  FILE* pipe = ::popen(command, "r");
  REQUIRE(pipe != nullptr);
  char piece[4096];
  for (std::size_t got = 0; (got = std::fread(piece, 1, sizeof piece, pipe)) > 0;) {
    text.append(piece, got);
  }
  REQUIRE(::pclose(pipe) == 0);
  return text;
}

}  // namespace

TEST_CASE("brood is linked with the C library and what gives up powers, and with nothing else") {
#ifdef __SANITIZE_ADDRESS__
  tests::skip_because("a sanitizer's own libraries come along");
#endif
  std::istringstream lines(text_of(("ldd " + tests::brood_program()).c_str()));
  const std::set<std::string> light{"linux-vdso.so.1", "libc.so.6", "libm.so.6", "libcap.so.2"};
  int seen = 0;
  for (std::string name, rest; lines >> name && std::getline(lines, rest);) {
    INFO(name << rest);
    CHECK((light.contains(name) || name.find("/ld-linux-") != std::string::npos));
    ++seen;
  }
  CHECK(seen >= 3);
}
