#include "agent/native_function.h"

#include <catch2/catch.hpp>

using agent::FunctionSettings;
using agent::native_program;
using Catch::Contains;

namespace {

std::string words(std::string text) {
  for (char& c : text) {
    c = c == '\0' ? '|' : c;
  }
  return text;
}

}  // namespace

TEST_CASE("a handler is called in the code's folder, without the image's command") {
  FunctionSettings settings;
  settings.handler = "bin/hello";
  const rootfs::ImageConfig image{.entrypoint = {"/entry"}, .command = {"x"}, .directory = "/srv"};
  const auto program = native_program(settings, image);
  REQUIRE(program);
  CHECK(words(program->handler) == "/function||/function/bin/hello|");
}

TEST_CASE("without one, the image's own entrypoint and command run where the image says") {
  FunctionSettings settings;
  settings.listen = "8080";
  settings.environment = {{"A", "function"}};
  const rootfs::ImageConfig image{.entrypoint = {"/entry"},
                                  .command = {"x", "y z"},
                                  .environment = {"A=image", "B=image", "PATH=/opt/bin"},
                                  .directory = "/srv"};
  const auto program = native_program(settings, image);
  REQUIRE(program);
  CHECK(words(program->handler) == "/srv|8080|/entry|x|y z|");
  const std::string environment = "|" + words(program->environment);
  CHECK_THAT(environment, Contains("|A=function|"));
  CHECK_THAT(environment, Contains("|B=image|"));
  CHECK_THAT(environment, Contains("|PATH=/opt/bin|"));
  CHECK_THAT(environment, Contains("|HOME=/tmp|"));
}

TEST_CASE("an image that says nothing needs a handler") {
  const auto program = native_program({}, {});
  REQUIRE_FALSE(program);
  CHECK_THAT(program.error().message(), Contains("--handler"));
}
