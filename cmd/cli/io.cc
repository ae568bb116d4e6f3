#include "cmd/cli/io.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include "base/error.h"
#include "base/file.h"

namespace cli {
namespace {

Outcome<std::string> read_all(int fd, const std::string& path) {
  std::string bytes;
  for (;;) {
    const std::size_t before = bytes.size();
    bytes.resize(before + (before < (1 << 16) ? 1 << 16 : before));
    const ssize_t size = ::read(fd, bytes.data() + before, bytes.size() - before);
    const auto error = base::Error::from_errno("read", path);
    bytes.resize(before + (size > 0 ? static_cast<std::size_t>(size) : 0));
    if (size < 0 && error.code() != EINTR) {
      return fail(Exit::failed, error.message());
    }
    if (size == 0) {
      return bytes;
    }
  }
}

Outcome<int> write_everything(int fd, std::string_view bytes) {
  if (auto written = base::write_all(fd, bytes); !written) {
    return fail(Exit::failed, written.error().message());
  }
  return 0;
}

}  // namespace

bool is_terminal(Standard stream) {
  return ::isatty(static_cast<int>(stream)) == 1;
}

Outcome<std::string> read_whole(const std::string& path) {
  if (path == "-") {
    return read_all(STDIN_FILENO, "standard input");
  }
  auto file = base::open_at(AT_FDCWD, path, O_RDONLY);
  if (!file) {
    return fail(Exit::usage, file.error().message());
  }
  return read_all(file->get(), path);
}

Outcome<int> write_output(std::string_view bytes) {
  return write_everything(STDOUT_FILENO, bytes);
}

Outcome<int> write_error(std::string_view bytes) {
  return write_everything(STDERR_FILENO, bytes);
}

Outcome<int> write_file(const std::string& path, std::string_view bytes) {
  auto file = base::open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (!file) {
    return fail(Exit::failed, file.error().message());
  }
  return write_everything(file->get(), bytes);
}

void tell(std::string_view line) {
  std::fprintf(stderr, "brood: %.*s\n", static_cast<int>(line.size()), line.data());
}

}  // namespace cli
