// The command line on a terminal of its own, which the test holds the other side of.
#pragma once

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/cmd/program.h"
#include "tests/support/agent_fixture.h"

namespace tests {

class OnTerminal {
 public:
  explicit OnTerminal(const std::vector<std::string>& arguments) {
    winsize size{};
    size.ws_row = 31;
    size.ws_col = 91;
    std::vector<char*> argv{const_cast<char*>("brood")};
    for (const std::string& argument : arguments) {
      argv.push_back(const_cast<char*>(argument.c_str()));
    }
    argv.push_back(nullptr);
    pid_ = ::forkpty(&master_, nullptr, nullptr, &size);
    if (pid_ == 0) {
      ::execv(brood_program().c_str(), argv.data());
      ::_exit(127);
    }
  }
  ~OnTerminal() {
    hang_up();
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  OnTerminal(const OnTerminal&) = delete;
  OnTerminal& operator=(const OnTerminal&) = delete;

  void type(const std::string& text) { REQUIRE(::write(master_, text.data(), text.size()) > 0); }
  bool shows(const std::string& text) {
    return soon([&] {
      pollfd asked{master_, POLLIN, 0};
      char piece[4096];
      while (::poll(&asked, 1, 20) > 0) {
        const ssize_t got = ::read(master_, piece, sizeof piece);
        if (got <= 0) {
          break;
        }
        seen_.append(piece, static_cast<std::size_t>(got));
      }
      return seen_.find(text) != std::string::npos;
    });
  }
  void hang_up() {
    if (master_ >= 0) {
      ::close(master_);
      master_ = -1;
    }
  }
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
  int master_ = -1;
  std::string seen_;
};

}  // namespace tests
