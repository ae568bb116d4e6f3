#include "sandbox_maker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolate/child.h"

#define CLONE_INTO_CGROUP_FLAG 0x200000000ULL /* since Linux 5.7; older headers lack it */

/* Kept mapped for good: every sandbox is made by it. */
static const void* plan;
static size_t plan_size;

int brood_take_plan(int fd) {
  /* Unsealed, it could shrink under the mapping. */
  int seals = fcntl(fd, F_GET_SEALS);
  /* Not fstat: its symbol is newer (glibc 2.33) than the images that this is for. */
  off_t end = lseek(fd, 0, SEEK_END);
  if (seals < 0 || end < 0) {
    return errno;
  }
  if ((seals & F_SEAL_SHRINK) == 0 || (seals & F_SEAL_WRITE) == 0 || end == 0) {
    return EINVAL;
  }
  size_t size = (size_t)end;
  void* bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (bytes == MAP_FAILED) {
    return errno;
  }
  if (brood_clone_flags(bytes, size) == 0) {
    munmap(bytes, size);
    return EINVAL;
  }
  if (plan != NULL) {
    munmap((void*)plan, plan_size);
  }
  plan = bytes;
  plan_size = size;
  return 0;
}

int brood_use_plan(const void* bytes, size_t size) {
  if (brood_clone_flags(bytes, size) == 0) {
    return EINVAL;
  }
  plan = bytes;
  plan_size = size;
  return 0;
}

/* --- in the sandbox ----------------------------------------------------------------------------
 */

/* The descriptors of a sandbox while it is being made, in order from BROOD_CONN_FD up. */
enum { CONN = BROOD_CONN_FD, SUPERVISOR, LOG, CODE, LOWER, LAYERS, DEVICES };

static void send_report(const struct brood_setup_report* report, int listener) {
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr aligned;
  } ancillary;
  struct iovec piece = {.iov_base = (void*)report, .iov_len = sizeof *report};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
  if (listener >= 0) {
    memset(&ancillary, 0, sizeof ancillary);
    message.msg_control = &ancillary;
    message.msg_controllen = sizeof ancillary;
    struct cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof listener);
    memcpy(CMSG_DATA(part), &listener, sizeof listener);
  }
  if (sendmsg(SUPERVISOR, &message, MSG_NOSIGNAL) != (ssize_t)sizeof *report) {
    _exit(1); /* without its supervisor a sandbox has nobody to tell */
  }
}

static uint64_t microseconds(struct timeval time) {
  return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

static void send_end(int supervisor, uint32_t process, int status, const struct rusage* usage) {
  struct brood_handler_end end;
  memset(&end, 0, sizeof end);
  end.magic = BROOD_HANDLER_MAGIC;
  end.process = process;
  if (WIFEXITED(status)) {
    end.code = CLD_EXITED;
    end.status = WEXITSTATUS(status);
  } else {
    end.code = WCOREDUMP(status) ? CLD_DUMPED : CLD_KILLED;
    end.status = WTERMSIG(status);
  }
  end.user_us = microseconds(usage->ru_utime);
  end.system_us = microseconds(usage->ru_stime);
  end.max_rss_kib = (uint64_t)usage->ru_maxrss;
  (void)send(supervisor, &end, sizeof end, MSG_NOSIGNAL);
}

/* The interpreter's handlers must not run in pid 1; without any, the kernel keeps every signal from
 * inside the namespace away from it, SIGKILL too. */
static void reset_signals(void) {
  for (int number = 1; number < NSIG; ++number) {
    (void)signal(number, SIG_DFL);
  }
}

/* --- pid 1 -------------------------------------------------------------------------------------
 */

int (*brood_more_process)(int conn);

/* What the agent has asked for beside the handler's process. */
static struct {
  pid_t pid;
  uint32_t process;
} more[BROOD_MAX_PROCESSES];

static void become_more(int conn) {
  sigset_t none;
  sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, NULL); /* NOLINT(concurrency-mt-unsafe) */
  const int kept[] = {conn};
  if (brood_keep_fds(BROOD_CONN_FD, kept, 1) != 0 ||
      fcntl(BROOD_CONN_FD, F_SETFD, FD_CLOEXEC) != 0) {
    _exit(BROOD_EXIT_NOT_STARTED);
  }
  (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  _exit(brood_more_process(BROOD_CONN_FD));
}

static void start_more(int supervisor, uint32_t process, int conn) {
  for (int i = 0; i < BROOD_MAX_PROCESSES && conn >= 0; ++i) {
    if (more[i].pid != 0) {
      continue;
    }
    const pid_t pid = fork();
    if (pid == 0) {
      become_more(conn);
    }
    if (pid > 0) {
      more[i].pid = pid;
      more[i].process = process;
      return;
    }
    break;
  }
  const struct rusage nothing = {0};
  send_end(supervisor, process, BROOD_EXIT_NOT_STARTED << 8, &nothing);
}

static void take_order(int supervisor) {
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr aligned;
  } ancillary;
  struct brood_order order;
  struct iovec piece = {.iov_base = &order, .iov_len = sizeof order};
  struct msghdr message = {.msg_iov = &piece,
                           .msg_iovlen = 1,
                           .msg_control = &ancillary,
                           .msg_controllen = sizeof ancillary};
  const ssize_t got = recvmsg(supervisor, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got == 0) {
    _exit(1); /* the agent is gone, and with it whoever wants to know */
  }
  int conn = -1;
  const struct cmsghdr* part = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
  if (part != NULL && part->cmsg_type == SCM_RIGHTS && part->cmsg_len == CMSG_LEN(sizeof(int))) {
    memcpy(&conn, CMSG_DATA(part), sizeof conn);
  }
  if (got == (ssize_t)sizeof order && order.magic == BROOD_ORDER_MAGIC) {
    if (order.kind == BROOD_EXEC) {
      start_more(supervisor, order.process, conn);
    }
    for (int i = 0; i < BROOD_MAX_PROCESSES && order.kind == BROOD_SIGNAL; ++i) {
      if (more[i].pid != 0 && more[i].process == order.process) {
        (void)kill(more[i].pid, order.signal);
      }
    }
  }
  if (conn >= 0) {
    close(conn);
  }
}

static void reaped(int supervisor, pid_t handler, pid_t pid, int status,
                   const struct rusage* usage) {
  if (pid == handler) {
    send_end(supervisor, 0, status, usage);
    _exit(0);
  }
  for (int i = 0; i < BROOD_MAX_PROCESSES; ++i) {
    if (more[i].pid == pid) {
      more[i].pid = 0;
      send_end(supervisor, more[i].process, status, usage);
      return;
    }
  }
}

/* The handler's process alone: waiting is all there is to do. */
static _Noreturn void supervise_one(int supervisor, pid_t handler) {
  for (;;) {
    int status = 0;
    struct rusage usage;
    const pid_t pid = wait4(-1, &status, 0, &usage);
    if (pid > 0) {
      reaped(supervisor, handler, pid, status, &usage);
    } else if (errno != EINTR) {
      _exit(1);
    }
  }
}

static _Noreturn void supervise_many(int supervisor, pid_t handler) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) { /* NOLINT(concurrency-mt-unsafe) */
    _exit(1);
  }
  struct pollfd polled[] = {
      {.fd = supervisor, .events = POLLIN},
      {.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .events = POLLIN}};
  for (;;) {
    int status = 0;
    struct rusage usage;
    pid_t pid;
    /* Before every wait: one that ended before its signal was blocked has sent none that is left.
     */
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
      reaped(supervisor, handler, pid, status, &usage);
    }
    if ((pid < 0 && errno != EINTR) || polled[1].fd < 0 ||
        (poll(polled, 2, -1) < 0 && errno != EINTR)) {
      _exit(1);
    }
    struct signalfd_siginfo ignored[8];
    (void)!read(polled[1].fd, ignored, sizeof ignored);
    if ((polled[0].revents & (POLLIN | POLLHUP)) != 0) {
      take_order(supervisor);
    }
  }
}

/* pid 1: reaps whoever is orphaned, tells how the handler's process ended, and by leaving takes
 * with it everything that the handler has left behind. */
static _Noreturn void supervise(pid_t handler) {
  reset_signals();
  (void)dup2(STDIN_FILENO, STDOUT_FILENO); /* the log ends when the last of the handler's does */
  (void)dup2(STDIN_FILENO, STDERR_FILENO);
  const int kept[] = {SUPERVISOR};
  if (brood_keep_fds(BROOD_CONN_FD, kept, 1) != 0) {
    _exit(1);
  }
  if (brood_more_process == NULL) {
    supervise_one(BROOD_CONN_FD, handler);
  }
  supervise_many(BROOD_CONN_FD, handler);
}

/* The image's zygote opened its own; this one is the sandbox's. 0, or -1. */
static int take_null_as_stdin(void) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) {
    return -1;
  }
  const int taken = dup2(null, STDIN_FILENO);
  close(null);
  return taken < 0 ? -1 : 0;
}

static void become_handler(void) {
  if (dup2(LOG, STDOUT_FILENO) < 0 || dup2(LOG, STDERR_FILENO) < 0) {
    _exit(1);
  }
  const int kept[] = {CONN};
  if (brood_keep_fds(BROOD_CONN_FD, kept, 1) != 0 ||
      fcntl(BROOD_CONN_FD, F_SETFD, FD_CLOEXEC) != 0) {
    _exit(1);
  }
  /* pid 1 stays closed to inspection; the handler may read its own /proc/self. */
  (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static void gather_descriptors(const struct brood_launch* launch) {
  const int kept[] = {launch->fds[BROOD_FD_CONN],
                      launch->fds[BROOD_FD_SUPERVISOR],
                      launch->fds[BROOD_FD_LOG],
                      launch->fds[BROOD_FD_CODE],
                      launch->fds[BROOD_FD_LOWER],
                      launch->fds[BROOD_FD_LAYERS],
                      launch->devices};
  const int count = (int)(sizeof kept / sizeof *kept) - (launch->devices < 0 ? 1 : 0);
  if (brood_keep_fds(BROOD_CONN_FD, kept, count) != 0) {
    _exit(1);
  }
}

/* In the clone. Returns only in the process of the handler. */
static void become_sandbox(struct brood_launch* launch) {
  char go = 0;
  close(launch->release[1]);
  if (read(launch->release[0], &go, 1) != 1) {
    _exit(1); /* the zygote could not write the maps, or is gone */
  }
  gather_descriptors(launch);
  sigset_t none;
  sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, NULL); /* NOLINT(concurrency-mt-unsafe) */

  struct brood_child_values values = {.root_fd = -1,
                                      .lower_fd = LOWER,
                                      .dev_fd = launch->devices < 0 ? -1 : DEVICES,
                                      .run_fd = -1,
                                      .support_fd = -1,
                                      .code_fd = CODE,
                                      .layers_fd = LAYERS,
                                      .hostname = launch->hostname,
                                      .seccomp_listener = -1};
  struct brood_setup_report report;
  int error = brood_enter(plan, plan_size, &values, &report);
  send_report(&report, values.seccomp_listener);
  if (error != 0) {
    _exit(1);
  }
  if (take_null_as_stdin() != 0 && launch->devices >= 0) {
    _exit(1);
  }
  pid_t handler = fork();
  if (handler < 0) {
    _exit(1);
  }
  if (handler > 0) {
    supervise(handler);
  }
  become_handler();
}

/* --- in the zygote -----------------------------------------------------------------------------
 */

static pid_t clone_sandbox(const struct brood_launch* launch, int* pidfd) {
  struct clone_args clone;
  memset(&clone, 0, sizeof clone);
  clone.flags = brood_clone_flags(plan, plan_size) | CLONE_PIDFD | CLONE_INTO_CGROUP_FLAG;
  clone.pidfd = (uint64_t)(uintptr_t)pidfd;
  clone.exit_signal = SIGCHLD;
  clone.cgroup = (uint64_t)launch->fds[BROOD_FD_CGROUP];
  return (pid_t)syscall(SYS_clone3, &clone, sizeof clone);
}

/* 0 or an errno. */
static int write_map(pid_t pid, const char* name, const struct brood_launch* launch) {
  char path[64];
  char line[64];
  snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
  int length = snprintf(line, sizeof line, "0 %u %u\n", launch->uid_first, launch->uid_count);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) {
    return errno;
  }
  int error = write(fd, line, (size_t)length) == length ? 0 : errno;
  close(fd);
  return error;
}

/* What was being done when it failed; NULL when the child is on its way. */
static const char* release_child(pid_t pid, const struct brood_launch* launch, int* error) {
  if ((*error = write_map(pid, "gid_map", launch)) != 0) {
    return "write gid_map of a sandbox";
  }
  if ((*error = write_map(pid, "uid_map", launch)) != 0) {
    return "write uid_map of a sandbox";
  }
  /* A child of the initial user namespace could write this one itself, in which all are mapped. */
  if (launch->devices >= 0 && (*error = write_map(pid, "projid_map", launch)) != 0) {
    return "write projid_map of a sandbox";
  }
  if (write(launch->release[1], "g", 1) != 1) {
    *error = errno;
    return "release a sandbox";
  }
  return NULL;
}

pid_t brood_spawn_sandbox(struct brood_launch* launch, int* pidfd, const char** failed) {
  *pidfd = -1;
  *failed = NULL;
  if (plan == NULL) {
    *failed = "a sandbox without a plan";
    errno = EINVAL;
    return -1;
  }
  if (pipe2(launch->release, O_CLOEXEC) != 0) {
    *failed = "pipe2";
    return -1;
  }
  pid_t pid = clone_sandbox(launch, pidfd);
  if (pid == 0) {
    become_sandbox(launch);
    return 0;
  }
  int error = errno;
  *failed = pid < 0 ? "clone3 into the sandbox's cgroup" : release_child(pid, launch, &error);
  close(launch->release[0]);
  close(launch->release[1]); /* unreleased, the child reads its end and leaves */
  if (*failed != NULL && pid > 0) {
    waitpid(pid, NULL, 0);
    close(*pidfd);
    *pidfd = -1;
  }
  errno = error;
  return *failed != NULL ? -1 : pid;
}
