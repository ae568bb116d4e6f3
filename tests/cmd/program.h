// The real `brood`, run with its streams as files.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace tests {

struct Ran {
  int exit = -1;  // 128 + signal for one that a signal ended
  std::string out;
  std::string err;
};

struct RunOptions {
  std::string input;  // its standard input
  std::map<std::string, std::string> environment;
};

// As it was built, or in BROOD_BIN_DIR of the environment.
std::string brood_program();

// Runs it to its end.
Ran run_brood(const std::vector<std::string>& arguments, const RunOptions& options = {});

// Starts it with its output in a pipe, for what does not end by itself.
class Running {
 public:
  explicit Running(const std::vector<std::string>& arguments);
  ~Running();
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  // Reads until `text` has come; false after twenty seconds without a word, or at the end.
  bool prints(const std::string& text);
  void signal(int number) const;
  int wait();

 private:
  int pid_ = -1;
  int output_ = -1;
  std::string seen_;
};

}  // namespace tests
