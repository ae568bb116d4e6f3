#include "tests/runtimes/python_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <stdexcept>

#include "base/syscalls.h"

namespace tests {
namespace {

constexpr int kPatienceMs = 10'000;

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what);
}

bool readable(int fd, int milliseconds) {
  pollfd poll{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&poll, 1, milliseconds) == 1;
}

[[noreturn]] void become_python(std::vector<char*> argv, const std::vector<int>& descriptors) {
  std::vector<int> parked;
  for (const int fd : descriptors) {
    parked.push_back(::fcntl(fd, F_DUPFD_CLOEXEC, 50));
  }
  for (std::size_t i = 0; i < parked.size(); ++i) {
    ::dup2(parked[i], static_cast<int>(i));
  }
  ::close_range(static_cast<unsigned>(parked.size()), ~0U, 0);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

}  // namespace

Pair socket_pair(int type) {
  int ends[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) {
    fail("socketpair");
  }
  return {base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
}

Pair pipe_pair() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    fail("pipe2");
  }
  return {base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
}

base::OwnedPid start_python(const std::vector<std::string>& arguments,
                            const std::vector<int>& descriptors) {
  std::vector<std::string> words = {BROOD_PYTHON, "-I", "-B"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) {
    fail("fork");
  }
  if (pid == 0) {
    become_python(argv, descriptors);
  }
  return {pid, base::UniqueFd(base::pidfd_open(pid))};
}

std::string read_until_quiet(int fd, std::chrono::milliseconds quiet) {
  std::string text;
  char buffer[4096];
  while (readable(fd, static_cast<int>(quiet.count()))) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got <= 0) {
      break;
    }
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

Finished run_python(const std::vector<std::string>& arguments) {
  const base::UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  Pair output = pipe_pair();
  base::OwnedPid python =
      start_python(arguments, {null.get(), output.theirs.get(), output.theirs.get()});
  output.theirs.reset();
  const std::string text =
      read_until_quiet(output.ours.get(), std::chrono::milliseconds(kPatienceMs));
  return {.end = python.wait().value(), .output = text};
}

std::string marshalled(const std::string& source, const std::string& path) {
  const std::string program =
      "import marshal, sys\n"
      "sys.stdout.buffer.write(marshal.dumps(compile(sys.argv[1], sys.argv[2], 'exec')))\n";
  const Finished finished = run_python({"-c", program, source, path});
  if (!finished.end.exited_with(0)) {
    fail("marshal: " + finished.output);
  }
  return finished.output;
}

void Conn::send(agent::Gather& gather) {
  while (gather.size() > 0) {
    const auto pieces = gather.pieces();
    const ssize_t written = ::writev(fd_.get(), pieces.data(), static_cast<int>(pieces.size()));
    if (written < 0) {
      fail("writev to a sandbox");
    }
    gather.wrote(static_cast<std::size_t>(written));
  }
  gather.clear();
}

bool Conn::fill() {
  if (!readable(fd_.get(), kPatienceMs)) {
    fail("nothing came from the sandbox");
  }
  const auto space = reader_.space();
  const ssize_t got = ::read(fd_.get(), space.data(), space.size());
  if (got <= 0) {
    return false;
  }
  reader_.filled(static_cast<std::size_t>(got));
  return true;
}

agent::Frame Conn::next() {
  for (;;) {
    auto frame = reader_.next();
    if (!frame) {
      fail(frame.error().message());
    }
    if (*frame) {
      return std::move(**frame);
    }
    if (!fill()) {
      fail("the sandbox closed its socket");
    }
  }
}

bool Conn::closed() {
  return !fill() && reader_.at_boundary();
}

}  // namespace tests
