/* The zygote of whatever cannot be forked when it has booted: makes sandboxes whose process waits
 * for a command; or, started as brood-zygote --functions, for a function's program; or, started as
 * brood-zygote SCRIPT PROGRAM [ARGUMENT]..., becomes that program with the script's text as its
 * last argument, which then serves functions over BROOD_CONN_FD.
 *
 * Linked statically, because an image may have no C library, or another. Started by the agent
 * inside a sandbox of its own, with its control socket as fd 3, /dev/null as fd 0 and a log pipe as
 * fd 1 and
 * 2. It never sees a byte of a tenant's.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "function.h"
#include "runtimes/common/control.h"
#include "runtimes/common/sandbox_maker.h"

struct child {
  pid_t pid; /* of pid 1 */
  uint64_t sandbox;
};
static struct child* children;
static size_t child_count;
static size_t child_room;

/* The agent is gone when it cannot be told, and so is what there was to do. */
static void tell(uint32_t kind, uint32_t value, uint64_t sandbox, const char* text, int fd) {
  const struct brood_control message = brood_control_of(kind, value, sandbox, text);
  if (brood_send_control(BROOD_CONTROL_FD, &message, &fd, fd >= 0 ? 1 : 0) != 0) {
    exit(0);
  }
}

static int remember(pid_t pid, uint64_t sandbox) {
  if (child_count == child_room) {
    const size_t room = child_room > 0 ? 2 * child_room : 64;
    struct child* more = realloc(children, room * sizeof *children);
    if (more == NULL) {
      return -1;
    }
    children = more;
    child_room = room;
  }
  children[child_count++] = (struct child){pid, sandbox};
  return 0;
}

static uint64_t forget(pid_t pid) {
  for (size_t i = 0; i < child_count; ++i) {
    if (children[i].pid == pid) {
      const uint64_t sandbox = children[i].sandbox;
      children[i] = children[--child_count];
      return sandbox;
    }
  }
  return 0;
}

/* What a sandbox's process becomes; NULL: it waits for a command, or for a function. */
static char** interpreter;
static int serves_functions;
static char* const interpreter_environment[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "TMPDIR=/tmp",
    "LANG=C.UTF-8", NULL};

/* Read here, where it can be seen: a sandbox's root has nothing of brood's. */
static char* text_of(const char* path) {
  FILE* file = fopen(path, "re");
  char* text = NULL;
  size_t room = 0;
  if (file == NULL || getdelim(&text, &room, '\0', file) < 0) {
    perror(path);
    exit(1);
  }
  fclose(file);
  return text;
}

static void take_interpreter(int argc, char** argv) {
  interpreter = calloc((size_t)argc, sizeof *interpreter);
  if (interpreter == NULL) {
    perror("calloc");
    exit(1);
  }
  memcpy(interpreter, argv + 2, (size_t)(argc - 2) * sizeof *interpreter);
  interpreter[argc - 2] = text_of(argv[1]);
}

static int be_interpreter(void) {
  if (fcntl(BROOD_CONN_FD, F_SETFD, 0) == 0) {
    (void)execve(interpreter[0], interpreter, interpreter_environment);
  }
  perror(interpreter[0]);
  return 1;
}

static void spawn(const struct brood_control* order, const int* fds) {
  struct brood_launch launch = {.uid_first = order->uid_first,
                                .uid_count = order->uid_count,
                                .hostname = order->hostname,
                                .devices = BROOD_NO_DEVICES};
  memcpy(launch.fds, fds, sizeof launch.fds);
  int pidfd = -1;
  const char* failed = NULL;
  const pid_t pid = brood_spawn_sandbox(&launch, &pidfd, &failed);
  if (pid == 0) {
    _exit(interpreter != NULL ? be_interpreter()
          : serves_functions  ? brood_be_function(BROOD_CONN_FD)
                              : brood_be_command(BROOD_CONN_FD));
  }
  if (pid < 0) {
    tell(BROOD_SPAWN_FAILED, (uint32_t)errno, order->sandbox, failed, -1);
    return;
  }
  if (remember(pid, order->sandbox) != 0) {
    (void)kill(pid, SIGKILL);
  }
  tell(BROOD_SPAWNED, 0, order->sandbox, "", pidfd);
  close(pidfd);
}

static void reap(void) {
  int status = 0;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    tell(BROOD_EXITED, (uint32_t)status, forget(pid), "", -1);
  }
}

static void configure(const int* fds, int count) {
  const int error = count == 1 ? brood_take_plan(fds[0]) : EINVAL;
  if (error != 0) {
    fprintf(stderr, "the plan is refused: %s\n", strerror(error));
    exit(1);
  }
}

/* Carries out one message of the agent's; 0 when it was the last. */
static int handle_message(void) {
  struct brood_control message;
  int fds[BROOD_SPAWN_FD_COUNT];
  int count = 0;
  if (brood_receive_control(BROOD_CONTROL_FD, &message, fds, &count) != BROOD_RECEIVED_ONE) {
    return 0;
  }
  switch (message.kind) {
    case BROOD_CONFIGURE:
      configure(fds, count);
      break;
    case BROOD_SPAWN:
      if (count == BROOD_SPAWN_FD_COUNT) {
        spawn(&message, fds);
      } else {
        tell(BROOD_SPAWN_FAILED, EINVAL, message.sandbox, "a SPAWN without its descriptors", -1);
      }
      break;
    default:
      return 0;
  }
  for (int i = 0; i < count; ++i) {
    close(fds[i]);
  }
  return 1;
}

static int child_events(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  /* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
  return sigprocmask(SIG_BLOCK, &set, NULL) != 0 ? -1
                                                 : signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char** argv) {
  if (argc > 2) {
    take_interpreter(argc, argv);
  } else if (argc == 2 && strcmp(argv[1], "--functions") == 0) {
    serves_functions = 1;
  } else {
    brood_more_process = brood_be_command;
  }
  struct pollfd polled[] = {{.fd = BROOD_CONTROL_FD, .events = POLLIN},
                            {.fd = child_events(), .events = POLLIN}};
  if (polled[1].fd < 0) {
    perror("signalfd");
    return 1;
  }
  tell(BROOD_BOOTED, BROOD_WIRE_VERSION, 0, "native", -1);
  for (;;) {
    if (poll(polled, 2, -1) < 0 && errno != EINTR) {
      perror("poll");
      return 1;
    }
    if (polled[1].revents != 0) {
      struct signalfd_siginfo ignored[8]; /* one signal may stand for several children */
      (void)!read(polled[1].fd, ignored, sizeof ignored);
      reap();
    }
    if (polled[0].revents != 0 && !handle_message()) {
      return 0;
    }
  }
}
