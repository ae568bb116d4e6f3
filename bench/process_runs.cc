#include "bench/process_runs.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd.h"
#include "base/file.h"
#include "bench/clock.h"

extern char**
    environ;  // NOLINT(readability-redundant-declaration): POSIX has the program declare it

namespace bench {
namespace {

constexpr std::size_t kShown = 300;  // bytes of what a failed process printed

struct Pipe {
  base::UniqueFd read;
  base::UniqueFd write;
};

base::Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return base::fail_errno("pipe2");
  }
  return Pipe{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
}

class Actions {
 public:
  Actions() { ::posix_spawn_file_actions_init(&actions_); }
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;
  ~Actions() { ::posix_spawn_file_actions_destroy(&actions_); }
  void place(int fd, int at) { ::posix_spawn_file_actions_adddup2(&actions_, fd, at); }
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

std::string read_to_end(int fd) {
  std::string text;
  std::array<char, 4096> piece{};
  for (;;) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got > 0) {
      text.append(piece.data(), static_cast<std::size_t>(got));
    } else if (got == 0 || errno != EINTR) {
      return text;
    }
  }
}

}  // namespace

base::Result<std::int64_t> run_process(const std::vector<std::string>& command,
                                       const std::string& input) {
  BROOD_TRY(Pipe in, make_pipe());
  BROOD_TRY(Pipe out, make_pipe());
  Actions actions;
  actions.place(in.read.get(), STDIN_FILENO);
  actions.place(out.write.get(), STDOUT_FILENO);
  actions.place(out.write.get(), STDERR_FILENO);
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  // Short enough for a pipe that nobody reads yet.
  BROOD_CHECK(base::write_all(in.write.get(), input));
  in.write.reset();

  const std::int64_t began = monotonic_ns();
  pid_t pid = -1;
  if (const int code =
          ::posix_spawnp(&pid, arguments[0], actions.get(), nullptr, arguments.data(), environ);
      code != 0) {
    return base::fail(base::Error("posix_spawnp", code, command[0]));
  }
  out.write.reset();
  const std::string printed = read_to_end(out.read.get());
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  const std::int64_t took = monotonic_ns() - began;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    const std::size_t from = printed.size() > kShown ? printed.size() - kShown : 0;
    return base::fail_because("'" + command[0] + "' ended with wait status " +
                              std::to_string(status) + ": " + printed.substr(from));
  }
  return took;
}

}  // namespace bench
