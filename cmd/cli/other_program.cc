#include "cmd/cli/other_program.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <string>

#include "base/error.h"

namespace cli {
namespace {

std::string own_directory() {
  char path[PATH_MAX];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof path);
  const std::string whole(path, size > 0 ? static_cast<std::size_t>(size) : 0);
  return whole.substr(0, whole.rfind('/'));
}

// Replaces the process; comes back with what errno says.
void try_to_become(const std::string& directory, const char* name, char** arguments) {
  for (const char* place : {"/../lib/brood/", "/"}) {
    ::execv((directory + place + name).c_str(), arguments);
    if (errno != ENOENT) {
      return;
    }
  }
}

}  // namespace

// Installed (PREFIX/bin beside PREFIX/lib/brood), or as it was built.
Outcome<int> become_program(const char* name, char** arguments) {
  const std::string directory = own_directory();
  try_to_become(directory, name, arguments);
  return fail(Exit::failed, std::string("this verb's own program, ") + name +
                                ", cannot be run from " + directory + " or its ../lib/brood: " +
                                base::Error::from_errno("execve").message() +
                                "; install brood again");
}

Outcome<int> run_program(const char* name, char** arguments) {
  const std::string directory = own_directory();
  const pid_t pid = ::fork();
  if (pid < 0) {
    return fail(Exit::failed, base::Error::from_errno("fork").message());
  }
  if (pid == 0) {
    try_to_become(directory, name, arguments);
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace cli
