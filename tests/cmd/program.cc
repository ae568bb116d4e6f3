#include "tests/cmd/program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

#include "base/file.h"
#include "tests/support/scratch.h"

namespace tests {
namespace {

[[noreturn]] void exec_in_child(const std::vector<std::string>& arguments,
                                const std::map<std::string, std::string>& environment) {
  for (const auto& [key, value] : environment) {
    ::setenv(key.c_str(), value.c_str(), 1);
  }
  std::vector<char*> argv{const_cast<char*>("brood")};
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  ::execv(brood_program().c_str(), argv.data());
  ::_exit(127);
}

int exit_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

std::string brood_program() {
  const char* directory = ::getenv("BROOD_BIN_DIR");
  return directory != nullptr ? std::string(directory) + "/brood" : BROOD_PROGRAM;
}

Ran run_brood(const std::vector<std::string>& arguments, const RunOptions& options) {
  const ScratchDirectory scratch;
  if (!base::replace_file_at(scratch.fd(), "in", options.input, 0600)) {
    throw std::runtime_error("write the input");
  }
  const pid_t pid = ::fork();
  if (pid == 0) {
    const std::string path = scratch.path();
    ::dup2(::open((path + "/in").c_str(), O_RDONLY), 0);
    ::dup2(::open((path + "/out").c_str(), O_WRONLY | O_CREAT, 0600), 1);
    ::dup2(::open((path + "/err").c_str(), O_WRONLY | O_CREAT, 0600), 2);
    exec_in_child(arguments, options.environment);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return {exit_of(status), base::read_file_at(scratch.fd(), "out", 64 << 20).value(),
          base::read_file_at(scratch.fd(), "err", 64 << 20).value()};
}

Running::Running(const std::vector<std::string>& arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    throw std::runtime_error("pipe");
  }
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(ends[1], 1);
    exec_in_child(arguments, {});
  }
  ::close(ends[1]);
  output_ = ends[0];
}

Running::~Running() {
  if (pid_ > 0) {
    signal(SIGKILL);
    wait();
  }
  ::close(output_);
}

// A virtual machine without hardware for it takes many seconds for what takes one elsewhere.
constexpr int kPatienceMs = 20'000;

bool Running::prints(const std::string& text) {
  while (seen_.find(text) == std::string::npos) {
    pollfd readable{output_, POLLIN, 0};
    char piece[4096];
    const ssize_t size =
        ::poll(&readable, 1, kPatienceMs) == 1 ? ::read(output_, piece, sizeof piece) : 0;
    if (size <= 0) {
      return false;
    }
    seen_.append(piece, static_cast<std::size_t>(size));
  }
  return true;
}

void Running::signal(int number) const {
  ::kill(pid_, number);
}

int Running::wait() {
  int status = 0;
  ::waitpid(std::exchange(pid_, -1), &status, 0);
  return exit_of(status);
}

}  // namespace tests
