#include "isolate/spawn.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/file.h"
#include "isolate/child.h"

namespace isolate {
namespace {

// Everything the child needs, made before it exists.
struct Launch {
  const Plan* plan;
  brood_child_values values;
  std::vector<char*> arguments;
  std::vector<char*> environment;
  const std::vector<int>* descriptors;
  int release_fd;  // readable once the maps are written
  int report_fd;   // write end; close-on-exec, so that success is its end of file
};

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> list;
  list.reserve(texts.size() + 1);
  for (const std::string& text : texts) {
    list.push_back(const_cast<char*>(text.c_str()));
  }
  list.push_back(nullptr);
  return list;
}

[[noreturn]] void give_up(const Launch& launch, brood_setup_report& report, Step step, int error) {
  report.step = static_cast<std::uint32_t>(step);
  report.error = error;
  ::syscall(SYS_write, launch.report_fd, &report, sizeof report);
  ::syscall(SYS_exit_group, 1);
  __builtin_unreachable();
}

// pid 1: reaps until nobody is left. Orphans of the whole namespace end up here.
[[noreturn]] void reap_until_empty() {
  ::syscall(SYS_close_range, 0, ~0U, 0);
  for (;;) {
    if (::syscall(SYS_wait4, -1, nullptr, __WALL, nullptr) < 0 && errno == ECHILD) {
      ::syscall(SYS_exit_group, 0);
    }
  }
}

// Runs between clone and exec, in a copy of a process that had threads: system calls only.
[[noreturn]] void run_child(Launch& launch) {
  brood_setup_report report;
  char go = 0;
  if (::syscall(SYS_read, launch.release_fd, &go, 1) != 1) {
    ::syscall(SYS_exit_group, 1);  // the agent gave up
  }
  if (brood_enter(launch.plan, sizeof(Plan), &launch.values, &report) != 0) {
    give_up(launch, report, static_cast<Step>(report.step), report.error);
  }
  const long child = ::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (child < 0) {
    give_up(launch, report, Step::execute, errno);
  }
  if (child > 0) {
    reap_until_empty();
  }
  int kept[8];
  const auto count = static_cast<int>(launch.descriptors->size());
  for (int i = 0; i < count; ++i) {
    kept[i] = (*launch.descriptors)[static_cast<std::size_t>(i)];
  }
  kept[count] = launch.report_fd;
  if (const int error = brood_keep_fds(0, kept, count + 1)) {
    give_up(launch, report, Step::descriptors, error);
  }
  launch.report_fd = count;
  ::syscall(SYS_fcntl, count, F_SETFD, FD_CLOEXEC);
  ::syscall(SYS_execve, launch.arguments[0], launch.arguments.data(), launch.environment.data());
  give_up(launch, report, Step::execute, errno);
}

base::Status write_maps(pid_t pid, const IdRange& ids) {
  const std::string map = "0 " + std::to_string(ids.first) + " " + std::to_string(ids.count) + "\n";
  const std::string directory = "/proc/" + std::to_string(pid);
  BROOD_CHECK(base::write_control_at(AT_FDCWD, directory + "/gid_map", map));
  return base::write_control_at(AT_FDCWD, directory + "/uid_map", map);
}

base::Status read_report(int fd) {
  brood_setup_report report{};
  const ssize_t got = ::read(fd, &report, sizeof report);
  if (got == 0) {
    return {};  // the program runs
  }
  if (got != sizeof report) {
    return base::fail_because("the child broke off its set-up");
  }
  return base::fail(
      base::Error(std::string("step ") + step_name(static_cast<Step>(report.step)), report.error));
}

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

}  // namespace

base::Result<base::OwnedPid> spawn(const SpawnRequest& request) {
  if (request.descriptors.size() > 7) {
    return base::fail_because("spawn: at most 7 descriptors");
  }
  BROOD_TRY(Pipe release, make_pipe());
  BROOD_TRY(Pipe report, make_pipe());
  Launch launch{.plan = request.plan,
                .values = {.root_fd = request.root_fd,
                           .lower_fd = request.lower_fd,
                           .dev_fd = request.dev_fd,
                           .run_fd = request.run_fd,
                           .support_fd = request.support_fd,
                           .code_fd = -1,
                           .layers_fd = -1,
                           .hostname = request.hostname.c_str(),
                           .seccomp_listener = -1},
                .arguments = pointers(request.arguments),
                .environment = pointers(request.environment),
                .descriptors = &request.descriptors,
                .release_fd = release.read.get(),
                .report_fd = report.write.get()};

  int pidfd = -1;
  clone_args arguments{};
  arguments.flags = request.plan->clone_flags | CLONE_PIDFD | CLONE_INTO_CGROUP;
  arguments.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  arguments.cgroup = static_cast<std::uint64_t>(request.cgroup_fd);
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) {
    return base::fail_errno("clone3");
  }
  if (pid == 0) {
    run_child(launch);
  }
  base::OwnedPid child(static_cast<pid_t>(pid), base::UniqueFd(pidfd));
  release.read.reset();
  report.write.reset();
  BROOD_CHECK(write_maps(child.pid(), request.ids));
  BROOD_CHECK(base::write_all(release.write.get(), "g"));
  BROOD_CHECK(read_report(report.read.get()));
  return child;
}

}  // namespace isolate
