// Pulling from a registry: Debian's docker-registry, on a port of the loopback.
#include <catch2/catch.hpp>

#include "base/file.h"
#include "rootfs/image_store.h"
#include "tests/support/registry.h"

namespace {

using Catch::Contains;
using rootfs::ImportRequest;
using rootfs::SourceKind;

using tests::Access;
using tests::Registry;

ImportRequest request_of(const Registry& registry) {
  return {.images_dir = registry.path("images"),
          .name = "one",
          .source = registry.reference(),
          .kind = SourceKind::registry,
          .tls = false};
}

}  // namespace

TEST_CASE("an image is pulled from a registry") {
  const Registry registry(Access::anybody);
  const auto manifest = rootfs::import_image(request_of(registry));
  INFO((manifest ? "" : manifest.error().message()));
  REQUIRE(manifest);
  CHECK(manifest->source == registry.reference());
  CHECK(manifest->config.command == std::vector<std::string>{"/bin/x"});
  CHECK(base::read_file(registry.path("images/one/rootfs/etc/from")).value() == "pulled\n");
  ImportRequest missing = request_of(registry);
  missing.name = "two";
  missing.source = registry.host() + "/team/none:tag";
  const auto refused = rootfs::import_image(missing);
  REQUIRE(!refused);
  CHECK_THAT(refused.error().message(), Contains("skopeo failed"));
}

TEST_CASE("a registry that wants a password is given the one of the file, and none without") {
  const Registry registry(Access::password);
  const auto refused = rootfs::import_image(request_of(registry));
  REQUIRE(!refused);
  registry.shell("skopeo login --tls-verify=false --authfile auth.json -u me -p secret " +
                 registry.host());
  ImportRequest request = request_of(registry);
  request.credentials = registry.path("auth.json");
  const auto manifest = rootfs::import_image(request);
  INFO((manifest ? "" : manifest.error().message()));
  REQUIRE(manifest);
}

TEST_CASE("a registry without TLS is not spoken to unless that is asked for") {
  const Registry registry(Access::anybody);
  ImportRequest request = request_of(registry);
  request.tls = true;
  CHECK(!rootfs::import_image(request));
}
