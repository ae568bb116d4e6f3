// An agent whose host is a namespace made for the test, with a network outside: tests/netns/town.h.
#pragma once

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "netns/inspect.h"
#include "netns/namespace.h"
#include "netns/nftables.h"
#include "tests/cmd/program.h"
#include "tests/netns/town.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/skip.h"

namespace tests {

// Says "yes" where HOST PORT answers by PROTOCOL, else why not.
constexpr const char* kAsk = R"(
import socket, sys
def ask(host, port, protocol="tcp"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as s:
        s.settimeout(5)
        try:
            s.connect((host, int(port)))
            s.send(b"hello")
            return "yes" if s.recv(10) else "closed"
        except OSError as error:
            return type(error).__name__
)";

struct City {
  Town town;
  ScratchDirectory scratch;
  std::unique_ptr<AgentFixture> agent;

  explicit City(std::vector<std::string> runtimes = {}) {
    const std::string resolver = scratch.path() + "/resolv.conf";
    std::ofstream(resolver) << "# of the test\nnameserver " << Town::kPublic4 << "\n";
    AgentOptions options;
    options.runtimes = std::move(runtimes);
    options.in_child = [host = town.host(), resolver] {
      if (::setns(host, CLONE_NEWNET) != 0 || ::unshare(CLONE_NEWNS) != 0 ||
          ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0 ||
          ::mount(resolver.c_str(), "/etc/resolv.conf", nullptr, MS_BIND, nullptr) != 0) {
        ::_exit(126);
      }
    };
    agent = std::make_unique<AgentFixture>(std::move(options));
  }

  Ran run(std::vector<std::string> flags, const std::string& script) const {
    std::vector<std::string> words{"--socket", agent->socket(), "run", "--image", "python3"};
    words.insert(words.end(), flags.begin(), flags.end());
    words.insert(words.end(), {"--", "python3", "-c", std::string(kAsk) + script});
    return run_brood(words);
  }
  // What comes of asking this address.
  std::string ask(std::vector<std::string> flags, const std::string& address, unsigned port,
                  const std::string& protocol = "tcp") const {
    const Ran ran = run(std::move(flags), "print(ask('" + address + "', " + std::to_string(port) +
                                              ", '" + protocol + "'))");
    INFO(ran.err);
    return ran.exit == 0 ? ran.out.substr(0, ran.out.find('\n')) : "status " + ran.err;
  }
  // Interfaces of the host that are the agent's, and its tables.
  std::size_t left_on_host() const {
    std::size_t found = 0;
    const auto interfaces = netns::interfaces(town.host()).value();
    for (const auto& one : interfaces) {
      found += one.name.starts_with("brood-") ? 1 : 0;
    }
    std::string tables;
    REQUIRE(netns::run_inside(town.host(), [&]() -> base::Status {
      BROOD_TRY(netns::Nftables filter, netns::Nftables::open());
      BROOD_TRY(tables, filter.list("list tables"));
      return {};
    }));
    return found + (tables.find("brood_") != std::string::npos ? 1 : 0);
  }
};

inline bool has_image() {
  return std::filesystem::exists(images_dir() + "/python3/image.json");
}

inline void need_image() {
  need_root();
  if (!has_image()) {
    skip_because("no image python3 in " + images_dir());
  }
}

inline std::vector<pid_t> children_named(const std::string& program, pid_t of) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "stat");
    std::string pid;
    std::string name;
    std::string state;
    pid_t parent = 0;
    if (file >> pid >> name >> state >> parent && name == "(" + program + ")" && parent == of &&
        state != "Z") {
      found.push_back(std::stoi(pid));
    }
  }
  return found;
}

}  // namespace tests
