#include "bench/baselines.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>

#include "base/file.h"
#include "base/syscalls.h"
#include "bench/clock.h"
#include "bench/programs.h"

namespace bench {
namespace {

constexpr int kChildSocket = 3;
constexpr timeval kPatience{30, 0};

struct Child {
  base::OwnedPid process;
  base::UniqueFd socket;
};

// Forks a process that has one end of a socket and runs `body`, which does not return. It dies with
// this one.
template <typename Body>
base::Result<Child> fork_with_socket(Body body) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::fail_errno("socketpair");
  }
  base::UniqueFd ours(ends[0]);
  const base::UniqueFd theirs(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) {
    return base::fail_errno("fork");
  }
  if (pid == 0) {
    ours.reset();
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    body(theirs.get());
    ::_exit(1);
  }
  base::UniqueFd pidfd(base::pidfd_open(pid));
  if (!pidfd) {
    return base::fail_errno("pidfd_open");
  }
  ::setsockopt(ours.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  return Child{base::OwnedPid(pid, std::move(pidfd)), std::move(ours)};
}

// --- the echo ------------------------------------------------------------------------------------

base::Status read_exactly(int fd, char* into, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t got = ::read(fd, into + done, size - done);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      return got == 0 ? base::fail_because("the other end closed") : base::fail_errno("read");
    }
    done += static_cast<std::size_t>(got);
  }
  return {};
}

void echo_in_child(int socket) {
  std::array<char, UnixEcho::kSize> message{};
  while (read_exactly(socket, message.data(), message.size()) &&
         base::write_all(socket, {message.data(), message.size()})) {
  }
}

void forward_in_child(int client) {
  auto behind = fork_with_socket(echo_in_child);
  if (!behind) {
    return;
  }
  std::array<char, UnixEcho::kSize> message{};
  const auto pass_on = [&](int from, int to) {
    return read_exactly(from, message.data(), message.size()) &&
           base::write_all(to, {message.data(), message.size()});
  };
  while (pass_on(client, behind->socket.get()) && pass_on(behind->socket.get(), client)) {
  }
}

// --- the image's interpreter ---------------------------------------------------------------------

// The single-threaded parent forked this process: it may use the C library as it likes. What went
// wrong is told as a line on the socket.
[[noreturn]] void give_up(int socket, const base::Error& error) {
  (void)base::write_all(socket, "failed: " + error.message() + "\n");
  ::_exit(1);
}

base::Status write_id_map(const char* path, unsigned outside) {
  return base::write_control_at(AT_FDCWD, path, "0 " + std::to_string(outside) + " 1");
}

base::Status unshare_mounts() {
  const unsigned uid = ::geteuid();
  const unsigned gid = ::getegid();
  if (::unshare(CLONE_NEWNS | (uid == 0 ? 0 : CLONE_NEWUSER)) != 0) {
    return base::fail(base::Error::from_errno("unshare", "",
                                              "run as root, or where user namespaces are allowed"));
  }
  if (uid != 0) {
    BROOD_CHECK(base::write_control_at(AT_FDCWD, "/proc/self/setgroups", "deny"));
    BROOD_CHECK(write_id_map("/proc/self/uid_map", uid));
    BROOD_CHECK(write_id_map("/proc/self/gid_map", gid));
  }
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return base::fail_errno("mount MS_PRIVATE", "/");
  }
  return {};
}

base::Status bind_mount(const std::string& from, const std::string& to) {
  if (::mount(from.c_str(), to.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) {
    return base::fail_errno("mount MS_BIND", to);
  }
  return {};
}

// Not chroot(2): in a changed root the kernel makes no user namespaces (`churn` wants them).
base::Status enter_root(const std::string& root) {
  BROOD_CHECK(unshare_mounts());
  BROOD_CHECK(bind_mount(root, root));
  BROOD_CHECK(bind_mount("/proc", root + "/proc"));
  BROOD_CHECK(bind_mount("/dev", root + "/dev"));
  if (::mount("tmpfs", (root + "/tmp").c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=16m") != 0) {
    return base::fail_errno("mount tmpfs", root + "/tmp");
  }
  if (::chdir(root.c_str()) != 0 || base::pivot_root(".", ".") != 0 ||
      ::umount2(".", MNT_DETACH) != 0 || ::chdir("/") != 0) {
    return base::fail_errno("pivot_root", root);
  }
  return {};
}

void run_interpreter_in_child(const ForkImportSetup& setup, int socket) {
  if (const auto entered = enter_root(setup.root); !entered) {
    give_up(socket, entered.error());
  }
  // dup2 clears FD_CLOEXEC only on another number.
  if (socket == kChildSocket ? ::fcntl(socket, F_SETFD, 0) != 0
                             : ::dup2(socket, kChildSocket) != kChildSocket) {
    ::_exit(1);
  }
  const std::string program(kForkImportProgram);
  const char* arguments[] = {setup.interpreter.c_str(), "-I",   "-c", program.c_str(),
                             setup.handler.c_str(),     nullptr};
  const char* environment[] = {"PATH=/usr/bin:/bin", "LANG=C.UTF-8", nullptr};
  ::execve(setup.interpreter.c_str(), const_cast<char**>(arguments),
           const_cast<char**>(environment));
  const int code = errno;
  give_up(kChildSocket, base::Error("execve", code, setup.root + setup.interpreter));
}

}  // namespace

base::Result<UnixEcho> UnixEcho::start(Hops hops) {
  BROOD_TRY(Child child, fork_with_socket(hops == Hops::one ? echo_in_child : forward_in_child));
  return UnixEcho(std::move(child.process), std::move(child.socket));
}

base::Result<std::int64_t> UnixEcho::round_trip() {
  std::array<char, kSize> message{};
  const std::int64_t began = monotonic_ns();
  BROOD_CHECK(base::write_all(socket_.get(), {message.data(), message.size()}));
  BROOD_CHECK(read_exactly(socket_.get(), message.data(), message.size()));
  return monotonic_ns() - began;
}

base::Result<ForkImport> ForkImport::start(const ForkImportSetup& setup) {
  BROOD_TRY(Child child,
            fork_with_socket([&](int socket) { run_interpreter_in_child(setup, socket); }));
  ForkImport made(std::move(child.process), std::move(child.socket));
  BROOD_TRY(const std::string line, made.read_line());
  if (line != "ready") {
    return base::fail_because("the image's interpreter did not start: " + line);
  }
  return made;
}

base::Result<std::string> ForkImport::read_line() {
  std::string line;
  std::array<char, 4096> piece{};
  while (line.empty() || line.back() != '\n') {
    const ssize_t got = ::read(socket_.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      return base::fail_because(got == 0 ? "the image's interpreter ended (it says why above)"
                                         : "the image's interpreter does not answer");
    }
    line.append(piece.data(), static_cast<std::size_t>(got));
  }
  line.pop_back();
  return line;
}

base::Result<std::int64_t> ForkImport::call(std::string_view event, std::string_view expected) {
  BROOD_CHECK(base::write_all(socket_.get(), std::string(event) + "\n"));
  BROOD_TRY(const std::string line, read_line());
  std::int64_t took = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), took);
  const std::string_view answer(end, static_cast<std::size_t>(line.data() + line.size() - end));
  if (error != std::errc() || answer.substr(0, 1) != " " || answer.substr(1) != expected) {
    return base::fail_because("a fork of the image's interpreter answered '" + line +
                              "' and not '" + std::string(expected) + "'");
  }
  return took;
}

base::Result<double> ForkImport::churn(unsigned seconds, unsigned at_once) {
  const timeval patience{static_cast<time_t>(seconds) + kPatience.tv_sec, 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  BROOD_CHECK(base::write_all(
      socket_.get(), "churn " + std::to_string(seconds) + " " + std::to_string(at_once) + "\n"));
  BROOD_TRY(const std::string line, read_line());
  double rate = 0;
  if (std::from_chars(line.data(), line.data() + line.size(), rate).ec != std::errc()) {
    return base::fail_because("forks with namespaces of the image's interpreter failed: " + line);
  }
  return rate;
}

}  // namespace bench
