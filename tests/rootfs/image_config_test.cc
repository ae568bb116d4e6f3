#include "rootfs/image_config.h"

#include <sys/utsname.h>

#include <catch2/catch.hpp>

#include "rootfs/image_store.h"

using Catch::Contains;
using rootfs::ImageConfig;

namespace {

std::string refusal(const std::string& text) {
  const auto config = rootfs::parse_oci_config(text);
  REQUIRE(!config);
  return config.error().message();
}

}  // namespace

TEST_CASE("an OCI image's config is taken over, and what means nothing here is passed over") {
  const auto config = rootfs::parse_oci_config(R"({
    "os": "linux", "created": "2020-01-01T00:00:00Z", "rootfs": {"diff_ids": []},
    "config": {"Entrypoint": ["/bin/e", "x"], "Cmd": ["c"], "Env": ["A=1", "B=a=b", "C="],
               "WorkingDir": "/w", "User": "7:8", "StopSignal": "SIGQUIT",
               "ExposedPorts": {"80/tcp": {}}, "Labels": null}})");
  REQUIRE(config);
  CHECK(*config == ImageConfig{.entrypoint = {"/bin/e", "x"},
                               .command = {"c"},
                               .environment = {"A=1", "B=a=b", "C="},
                               .directory = "/w",
                               .user = "7:8",
                               .stop_signal = "SIGQUIT"});
  const auto again = rootfs::parse_image_config(rootfs::format_image_config(*config));
  REQUIRE(again);
  CHECK(*again == *config);
}

TEST_CASE("an image without a config, or with empty values, says nothing") {
  for (const char* text : {"{}", R"({"config": null})",
                           R"({"config": {"Entrypoint": null, "Cmd": [], "User": ""}})"}) {
    const auto config = rootfs::parse_oci_config(text);
    REQUIRE(config);
    CHECK(*config == ImageConfig{});
    CHECK(rootfs::format_image_config(*config) == "{}");
  }
}

TEST_CASE("a config that is none is refused by what is wrong with it") {
  CHECK_THAT(refusal("[]"), Contains("not a JSON object"));
  CHECK_THAT(refusal("{"), Contains("not a JSON object"));
  CHECK_THAT(refusal(R"({"config": 3})"), Contains("'config'"));
  CHECK_THAT(refusal(R"({"config": {"Cmd": "sh"}})"), Contains("'Cmd'"));
  CHECK_THAT(refusal(R"({"config": {"Cmd": [1]}})"), Contains("'Cmd'"));
  CHECK_THAT(refusal(R"({"config": {"Cmd": ["a\u0000b"]}})"), Contains("'Cmd'"));
  CHECK_THAT(refusal(R"({"config": {"Env": ["NAME"]}})"), Contains("'Env'"));
  CHECK_THAT(refusal(R"({"config": {"Env": ["=x"]}})"), Contains("'Env'"));
  CHECK_THAT(refusal(R"({"config": {"WorkingDir": "w"}})"), Contains("'WorkingDir'"));
  CHECK_THAT(refusal(R"({"config": {"User": 5}})"), Contains("'User'"));
  CHECK_THAT(refusal(R"({"config": {"Cmd": [")" + std::string(70'000, 'x') + "\"]}}"),
             Contains("64 KiB"));
}

TEST_CASE("an image for another system or processor is refused") {
  utsname own{};
  REQUIRE(::uname(&own) == 0);
  const bool amd = std::string(own.machine) == "x86_64";
  CHECK_THAT(refusal(R"({"os": "windows"})"), Contains("windows"));
  CHECK_THAT(refusal(amd ? R"({"architecture": "arm64"})" : R"({"architecture": "amd64"})"),
             Contains(amd ? "arm64" : "amd64"));
  CHECK_THAT(refusal(R"({"architecture": 4})"), Contains("architecture"));
  CHECK(rootfs::parse_oci_config(amd ? R"({"architecture": "amd64", "os": "linux"})"
                                     : R"({"os": "linux"})"));
}

TEST_CASE("what brood writes of a config is read strictly") {
  CHECK(!rootfs::parse_image_config(R"({"Entrypoint": ["x"]})"));
  CHECK(!rootfs::parse_image_config(R"({"command": "x"})"));
  CHECK(rootfs::parse_image_config(R"({"command": ["x"]})"));
}

TEST_CASE("a name is made of what an image comes from") {
  using rootfs::name_of_source;
  CHECK(name_of_source("/tmp/Alpine-3.18.tar.gz") == "alpine-3.18");
  CHECK(name_of_source("localhost:5000/team/web:1.2") == "web");
  CHECK(name_of_source("registry/web@sha256:0123") == "web");
  CHECK(name_of_source("/images/layout/") == "layout");
  CHECK(name_of_source("image.tgz") == "image");
  CHECK(name_of_source("/tmp/Ümlaut.tar").empty());
  CHECK(name_of_source("").empty());
}
