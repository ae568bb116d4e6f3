// Pulling from a registry: Debian's docker-registry, on a port of the loopback.
#include <arpa/inet.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <thread>

#include "base/file.h"
#include "rootfs/image_store.h"
#include "tests/support/scratch.h"
#include "tests/support/skip.h"

namespace {

using Catch::Contains;
using rootfs::ImportRequest;
using rootfs::SourceKind;
using namespace std::chrono_literals;

int free_port() {
  const base::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return ntohs(address.sin_port);
}

enum class Access { anybody, password };

// With an image `one:tag` in it.
class Registry {
 public:
  explicit Registry(Access access) {
    tests::need_root();
    for (const char* program : {"/usr/bin/skopeo", "/usr/bin/umoci", "/usr/bin/docker-registry"}) {
      if (::access(program, X_OK) != 0) {
        tests::skip_because(std::string("there is no ") + program);
      }
    }
    scratch_.emplace();
    host_ = "127.0.0.1:" + std::to_string(free_port());
    configure(access);
    start();
    shell(R"(
      mkdir -p a/etc; echo pulled > a/etc/from
      umoci init --layout layout; umoci new --image layout:one; umoci insert --image layout:one a /
      umoci config --image layout:one --config.cmd /bin/x)");
    bool pushed = false;
    const std::string push =
        "skopeo copy --dest-tls-verify=false " +
        std::string(access == Access::password ? "--dest-creds me:secret " : "") +
        "oci:layout:one docker://" + reference();
    for (int i = 0; i < 100 && !pushed; ++i) {  // it takes a moment to listen
      pushed = run(push) == 0;
      std::this_thread::sleep_for(pushed ? 0ms : 50ms);
    }
    REQUIRE(pushed);
  }
  ~Registry() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  std::string path(const std::string& name) const { return scratch_->path() + "/" + name; }
  std::string reference() const { return host_ + "/team/one:tag"; }
  void shell(const std::string& script) const { REQUIRE(run("set -e\n" + script) == 0); }
  const std::string& host() const { return host_; }

  ImportRequest request() const {
    return {.images_dir = path("images"),
            .name = "one",
            .source = reference(),
            .kind = SourceKind::registry,
            .tls = false};
  }

 private:
  int run(const std::string& script) const {
    const std::string command = "cd " + scratch_->path() + " && exec >/dev/null 2>&1\n" + script;
    return std::system(command.c_str());  // NOLINT(concurrency-mt-unsafe)
  }

  void configure(Access access) const {
    std::string text = "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: " +
                       path("store") + "}}\nhttp: {addr: '" + host_ + "'}\n";
    if (access == Access::password) {
      shell(
          "python3 -W ignore -c 'import crypt; print(\"me:\" + crypt.crypt(\"secret\", "
          "crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))' > users");
      text += "auth: {htpasswd: {realm: test, path: " + path("users") + "}}\n";
    }
    REQUIRE(base::replace_file_at(scratch_->fd(), "registry.yml", text, 0600));
  }

  void start() {
    const std::string config = path("registry.yml");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
      const int null = ::open("/dev/null", O_RDWR);
      ::dup2(null, 1);
      ::dup2(null, 2);
      ::execl("/usr/bin/docker-registry", "docker-registry", "serve", config.c_str(), nullptr);
      ::_exit(127);
    }
    REQUIRE(pid_ > 0);
  }

  std::optional<tests::ScratchDirectory> scratch_;
  std::string host_;
  pid_t pid_ = -1;
};

}  // namespace

TEST_CASE("an image is pulled from a registry") {
  const Registry registry(Access::anybody);
  const auto manifest = rootfs::import_image(registry.request());
  INFO((manifest ? "" : manifest.error().message()));
  REQUIRE(manifest);
  CHECK(manifest->source == registry.reference());
  CHECK(manifest->config.command == std::vector<std::string>{"/bin/x"});
  CHECK(base::read_file(registry.path("images/one/rootfs/etc/from")).value() == "pulled\n");
  ImportRequest missing = registry.request();
  missing.name = "two";
  missing.source = registry.host() + "/team/none:tag";
  const auto refused = rootfs::import_image(missing);
  REQUIRE(!refused);
  CHECK_THAT(refused.error().message(), Contains("skopeo failed"));
}

TEST_CASE("a registry that wants a password is given the one of the file, and none without") {
  const Registry registry(Access::password);
  const auto refused = rootfs::import_image(registry.request());
  REQUIRE(!refused);
  registry.shell("skopeo login --tls-verify=false --authfile auth.json -u me -p secret " +
                 registry.host());
  ImportRequest request = registry.request();
  request.credentials = registry.path("auth.json");
  const auto manifest = rootfs::import_image(request);
  INFO((manifest ? "" : manifest.error().message()));
  REQUIRE(manifest);
}

TEST_CASE("a registry without TLS is not spoken to unless that is asked for") {
  const Registry registry(Access::anybody);
  ImportRequest request = registry.request();
  request.tls = true;
  CHECK(!rootfs::import_image(request));
}
