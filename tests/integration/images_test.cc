// Images that were imported, run by a real agent.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>

#include "base/file.h"
#include "rootfs/id_map.h"
#include "tests/cmd/program.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/registry.h"
#include "tests/support/skip.h"

namespace {

using namespace tests;
using Catch::Contains;
namespace fs = std::filesystem;

// A folder with an image `said` in it (one static program, and what runs it), before its agent.
class Images {
 public:
  Images() {
    need_root();
    for (const char* needed : {"/usr/bin/skopeo", "/usr/bin/umoci", BROOD_TEST_SAY}) {
      if (::access(needed, X_OK) != 0) {
        skip_because(std::string("there is no ") + needed);
      }
    }
    scratch_.emplace();
    shell("mkdir -p tree/bin tree/w; cp " BROOD_TEST_SAY R"( tree/bin/say
      umoci init --layout layout; umoci new --image layout:one; umoci insert --image layout:one tree /
      umoci config --image layout:one --config.entrypoint /bin/say --config.cmd default \
        --config.env GREETING=hello --config.workingdir /w)");
    const Ran imported = image({"import", scratch_->path() + "/layout", "--name", "said"});
    INFO(imported.err);
    REQUIRE(imported.exit == 0);
  }

  std::string directory() const { return scratch_->path() + "/images"; }
  std::string path(const std::string& name) const { return scratch_->path() + "/" + name; }

  void shell(const std::string& script) const {
    const std::string command =
        "cd " + scratch_->path() + " && exec >/dev/null 2>&1 && set -e\n" + script;
    REQUIRE(std::system(command.c_str()) == 0);  // NOLINT(concurrency-mt-unsafe)
  }

  Ran image(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "image");
    arguments.insert(arguments.end(), {"--images", directory()});
    return run_brood(arguments);
  }

 private:
  std::optional<ScratchDirectory> scratch_;
};

AgentOptions with(const Images& images) {
  AgentOptions options;
  options.runtimes = {};
  options.images_dir = images.directory();
  return options;
}

std::string said(const AgentFixture& agent, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"--socket", agent.socket(), "run"});
  const Ran ran = run_brood(arguments);
  CHECK(ran.exit == 0);
  return ran.out + ran.err;
}

}  // namespace

TEST_CASE("an image's own command, environment and directory are what a command finds") {
  const Images images;
  const AgentFixture agent(with(images));
  CHECK_THAT(said(agent, {"--image", "said"}),
             Contains("/bin/say default in /w ") && Contains("greeting hello"));
  CHECK_THAT(said(agent, {"--image", "said", "--", "a", "b"}), Contains("/bin/say a b in /w "));
  CHECK_THAT(said(agent, {"--image", "said", "-w", "/", "-e", "GREETING=mine"}),
             Contains(" in / ") && Contains("greeting mine"));
  CHECK_THAT(said(agent, {"--image", "said", "--entrypoint", "", "--", "/bin/say"}),
             Contains("/bin/say in /w "));
}

TEST_CASE("an image that is replaced is found by the next command, and the former's pool ends") {
  const Images images;
  const AgentFixture agent(with(images));
  CHECK_THAT(said(agent, {"--image", "said"}), Contains("greeting hello"));
  CHECK(images.image({"remove", "said"}).exit != 0);  // the agent uses it
  images.shell(
      "umoci config --image layout:one --config.env GREETING=other\n"
      "mkdir more; echo x > more/new; umoci insert --image layout:one more /more");
  REQUIRE(images.image({"import", images.path("layout"), "--name", "said", "--replace"}).exit == 0);
  CHECK_THAT(said(agent, {"--image", "said"}), Contains("greeting other"));
  // Two sandboxes at most were in the former's stock; a look follows every half second.
  bool pruned = false;
  for (int i = 0; i < 40 && !pruned; ++i) {
    REQUIRE(images.image({"prune"}).exit == 0);
    pruned = std::none_of(
        fs::directory_iterator(images.directory()), fs::directory_iterator(),
        [](const auto& entry) { return entry.path().filename().string().starts_with(".gone"); });
    std::this_thread::sleep_for(100ms);
  }
  CHECK(pruned);
}

TEST_CASE("an image's name may have dots, and what cannot be run is refused") {
  const Images images;
  REQUIRE(images.image({"import", images.path("layout"), "--name", "said-1.0.2_x"}).exit == 0);
  const AgentFixture agent(with(images));
  CHECK_THAT(said(agent, {"--image", "said-1.0.2_x"}), Contains("/bin/say default"));
  const Ran missing = run_brood({"--socket", agent.socket(), "run", "--image", "nope"});
  CHECK(missing.exit == 125);
  CHECK_THAT(missing.err, Contains("no image 'nope'"));
}

TEST_CASE("an image's files have their owners inside, and its user is who runs") {
  const Images images;
  if (const auto able = rootfs::can_map_ids(
          base::open_at(AT_FDCWD, images.directory(), O_RDONLY | O_DIRECTORY)->get());
      !able) {
    skip_because("no idmapped mounts below an overlay here: " + able.error().message());
  }
  images.shell(
      "umoci config --image layout:one --config.user 7\n"
      "chown 33 tree/bin/say; umoci insert --image layout:one tree/bin/say /bin/say");
  REQUIRE(images.image({"import", images.path("layout"), "--name", "seven"}).exit == 0);
  const AgentFixture agent(with(images));
  CHECK_THAT(said(agent, {"--image", "said"}), Contains("uid 0 gid 0 ") && Contains("owner 0 "));
  CHECK_THAT(said(agent, {"--image", "seven"}), Contains("uid 7 gid 0 ") && Contains("owner 33 "));
  CHECK_THAT(said(agent, {"--image", "seven", "-u", "33:44"}), Contains("uid 33 gid 44 "));
  const Ran nobody =
      run_brood({"--socket", agent.socket(), "run", "--image", "said", "-u", "nosuch"});
  CHECK(nobody.exit == 125);
  CHECK_THAT(nobody.err, Contains("no user 'nosuch'"));
}

TEST_CASE("what an imported image's user may write is the sandbox's own, and gone with it") {
  const Images images;
  const AgentFixture agent(with(images));
  CHECK_THAT(said(agent, {"--image", "said"}), Contains("root writable"));
  CHECK_THAT(said(agent, {"--image", "said", "-u", "7"}), Contains("root closed"));
  CHECK(!fs::exists(images.directory() + "/said/rootfs/made"));
}

TEST_CASE("an image of Debian's packages, pushed and pulled, runs unmodified, and is a function") {
  const Registry registry(Access::anybody);
  const std::string base = images_dir() + "/base/rootfs";
  if (!fs::exists(base)) {
    skip_because("there is no image 'base' to take Debian from");
  }
  // As another engine would find it: a layer of what mmdebstrap made, and one over it.
  registry.shell("umoci new --image layout:debian; umoci insert --image layout:debian " + base +
                 " /\nmkdir over; printf '#!/bin/sh\\nexec tr a-z A-Z\\n' > over/shout; chmod 755 "
                 "over/shout; umoci insert --image layout:debian over /opt\n"
                 "umoci config --image layout:debian --config.entrypoint /opt/shout "
                 "--config.user nobody --config.workingdir /tmp --config.env MARK=here");
  registry.push("layout:debian", "team/debian:12");
  const std::string images = registry.path("images");
  const Ran pulled = run_brood({"image", "pull", registry.host() + "/team/debian:12",
                                "--no-tls-verify", "--images", images});
  INFO(pulled.err);
  REQUIRE(pulled.exit == 0);

  AgentOptions options;
  options.runtimes = {};
  options.images_dir = images;
  AgentFixture agent(options);
  const Ran shouted = run_brood({"--socket", agent.socket(), "run", "-i", "--image", "debian"},
                                {.input = "quiet\n", .environment = {}});
  CHECK(shouted.exit == 0);
  CHECK(shouted.out == "QUIET\n");
  const Ran asked = run_brood({"--socket", agent.socket(), "run", "--image", "debian",
                               "--entrypoint", "", "--", "/bin/sh", "-c",
                               "id -un; echo $MARK; pwd; cat /etc/debian_version; dpkg-query -W "
                               "-f '${Package}' libc6; perl -e 'print 6 * 7'"});
  INFO(asked.err);
  CHECK(asked.exit == 0);
  CHECK_THAT(asked.out, Contains("nobody\nhere\n/tmp\n12") && Contains("libc6"));

  const Ran deployed = run_brood(
      {"--socket", agent.socket(), "deploy", "shout", "--runtime", "debian", "--memory", "64MiB"});
  INFO(deployed.err);
  REQUIRE(deployed.exit == 0);
  const Invoked answer = agent.invoke_bytes("shout", "hello");
  INFO(answer.body);
  CHECK(answer.ok());
  CHECK(answer.body == "HELLO");
}

TEST_CASE("an import that is interrupted leaves nothing") {
  const Images images;
  images.shell(
      "mkdir -p many/files && cd many/files && seq 60000 | xargs touch && cd ../.. && "
      "tar -C many -cf many.tar . && rm -rf many");
  Running importing({"image", "import", images.path("many.tar"), "--images", images.directory()});
  // It is being unpacked: what is made is there in part.
  REQUIRE(soon([&] {
    for (const auto& place : fs::directory_iterator(images.directory())) {
      const fs::path unpacked = place.path() / "files/rootfs/files";
      if (place.path().filename().string().starts_with(".import-") && fs::exists(unpacked)) {
        return true;
      }
    }
    return false;
  }));
  importing.signal(SIGINT);
  CHECK(importing.wait() != 0);
  std::vector<std::string> left;
  for (const auto& place : fs::directory_iterator(images.directory())) {
    left.push_back(place.path().filename());
  }
  CHECK(left == std::vector<std::string>{"said"});
}

TEST_CASE("an import that would fill the disk is ended, says so, and leaves nothing") {
  const Images images;
  // 256 MiB have to be left, of which this tmpfs, seen by nobody else, has little more.
  images.shell(
      "mkdir big small && head -c 100000000 /dev/urandom >big/data && tar -C big -cf big.tar . && "
      "unshare --mount sh -c 'mount -t tmpfs -o size=300m tmpfs small; " +
      brood_program() +
      " image import big.tar --images \"$PWD\"/small 2>said && exit 1; ls -A small >left'");
  CHECK_THAT(base::read_file(images.path("said")).value(), Contains("MiB are left"));
  CHECK(base::read_file(images.path("left")).value().empty());
}
