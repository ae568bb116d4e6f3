#include "tests/support/registry.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "base/file.h"
#include "tests/support/skip.h"

namespace tests {
namespace {

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

}  // namespace

Registry::Registry(Access access) : access_(access) {
  need_root();
  for (const char* program : {"/usr/bin/skopeo", "/usr/bin/umoci", "/usr/bin/docker-registry"}) {
    if (::access(program, X_OK) != 0) {
      skip_because(std::string("there is no ") + program);
    }
  }
  scratch_.emplace();
  host_ = "127.0.0.1:" + std::to_string(free_port());
  configure();
  start();
  shell(R"(
      mkdir -p a/etc; echo pulled > a/etc/from
      umoci init --layout layout; umoci new --image layout:one; umoci insert --image layout:one a /
      umoci config --image layout:one --config.cmd /bin/x)");
  bool pushed = false;
  for (int i = 0; i < 100 && !pushed; ++i) {  // it takes a moment to listen
    pushed = try_push("layout:one", "team/one:tag");
    std::this_thread::sleep_for(pushed ? 0ms : 50ms);
  }
  REQUIRE(pushed);
}

Registry::~Registry() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

bool Registry::try_push(const std::string& from, const std::string& to) const {
  return run("skopeo copy --dest-tls-verify=false " +
             std::string(access_ == Access::password ? "--dest-creds me:secret " : "") +
             "oci:" + from + " docker://" + host_ + "/" + to) == 0;
}

void Registry::push(const std::string& from, const std::string& to) const {
  REQUIRE(try_push(from, to));
}

void Registry::shell(const std::string& script) const {
  REQUIRE(run("set -e\n" + script) == 0);
}

int Registry::run(const std::string& script) const {
  const std::string command = "cd " + scratch_->path() + " && exec >/dev/null 2>&1\n" + script;
  return std::system(command.c_str());  // NOLINT(concurrency-mt-unsafe)
}

void Registry::configure() const {
  std::string text =
      "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: " + path("store") +
      "}}\nhttp: {addr: '" + host_ + "'}\n";
  if (access_ == Access::password) {
    shell(
        "python3 -W ignore -c 'import crypt; print(\"me:\" + crypt.crypt(\"secret\", "
        "crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))' > users");
    text += "auth: {htpasswd: {realm: test, path: " + path("users") + "}}\n";
  }
  REQUIRE(base::replace_file_at(scratch_->fd(), "registry.yml", text, 0600));
}

void Registry::start() {
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

}  // namespace tests
