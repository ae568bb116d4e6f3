#include "tests/support/host.h"

#include <signal.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#include "base/file.h"

namespace tests {
namespace {

struct Stat {
  char state = 'X';
  pid_t parent = -1;
};

Stat stat_of(pid_t pid) {
  const auto text = base::read_file("/proc/" + std::to_string(pid) + "/stat");
  Stat stat;
  if (text) {
    std::istringstream rest(text->substr(text->rfind(')') + 2));
    rest >> stat.state >> stat.parent;
  }
  return stat;
}

std::string source_dir() {
  const char* named = std::getenv("BROOD_SOURCE_DIR");
  return named != nullptr && *named != '\0' ? named : BROOD_BUILT_SOURCE_DIR;
}

}  // namespace

// Not /proc/PID/task/PID/children: a kernel may lack it, and what it says of a busy tree is a
// guess.
std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") == std::string::npos &&
        stat_of(std::stoi(name)).parent == pid) {
      children.push_back(std::stoi(name));
    }
  }
  return children;
}

std::vector<pid_t> descendants_of(pid_t pid) {
  std::vector<pid_t> all = children_of(pid);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto below = children_of(all[i]);
    all.insert(all.end(), below.begin(), below.end());
  }
  return all;
}

pid_t parent_of(pid_t pid) {
  return stat_of(pid).parent;
}

bool is_alive(pid_t pid) {
  const char state = stat_of(pid).state;
  return state != 'X' && state != 'Z';
}

std::vector<pid_t> zombies_below(pid_t pid) {
  std::vector<pid_t> zombies;
  for (const pid_t below : descendants_of(pid)) {
    if (stat_of(below).state == 'Z') {
      zombies.push_back(below);
    }
  }
  return zombies;
}

bool signal_process(pid_t pid, int signal) {
  if (pid <= 1) {
    throw std::invalid_argument("no process has the pid " + std::to_string(pid));
  }
  return ::kill(pid, signal) == 0;
}

pid_t handler_of(pid_t init) {
  const auto children = children_of(init);
  return children.empty() ? -1 : children.front();
}

Leftovers run_leftovers(const std::string& arguments) {
  const std::string command =
      "bash '" + source_dir() + "/scripts/leftovers' " + arguments + " 2>&1";
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) {
    throw std::runtime_error("popen " + command);
  }
  Leftovers left;
  std::array<char, 4096> piece{};
  while (const std::size_t got = std::fread(piece.data(), 1, piece.size(), pipe)) {
    left.text.append(piece.data(), got);
  }
  const int status = ::pclose(pipe);
  left.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return left;
}

Leftovers leftovers_of(const AgentFixture& agent) {
  return run_leftovers("--state-dir '" + agent.state_dir() + "' --run-dir '" + agent.run_dir() +
                       "' --socket '" + agent.socket() + "'");
}

}  // namespace tests
