#include "cmd/cli/other_program.h"

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

}  // namespace

// Installed (PREFIX/bin beside PREFIX/lib/brood), or as it was built.
Outcome<int> become_program(const char* name, char** arguments) {
  const std::string directory = own_directory();
  for (const char* place : {"/../lib/brood/", "/"}) {
    ::execv((directory + place + name).c_str(), arguments);
    if (errno != ENOENT) {
      break;
    }
  }
  return fail(Exit::failed, std::string("this verb's own program, ") + name +
                                ", cannot be run from " + directory + " or its ../lib/brood: " +
                                base::Error::from_errno("execve").message() +
                                "; install brood again");
}

}  // namespace cli
