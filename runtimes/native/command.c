#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frames.h"
#include "limits.h"

#define MOST_BYTES (1u << 20) /* of a RUN; the agent allows far less */

struct order {
  char** arguments;
  char** environment;
  const char* directory;
  struct brood_run_limits limits;
  uint32_t flags;
  int streams[3];
};

static int complain(int status, const char* what, const char* whom) {
  const int error = errno;
  dprintf(STDERR_FILENO, "brood: %s %s: %s\n", what, whom, strerror(error));
  return status;
}

/* --- reading the RUN ---------------------------------------------------------------------------
 */

static int say_ready(int conn) {
  struct brood_frame_head head;
  memset(&head, 0, sizeof head);
  head.kind = BROOD_FRAME_READY;
  return send(conn, &head, sizeof head, MSG_NOSIGNAL) == (ssize_t)sizeof head ? 0 : -1;
}

/* The first bytes, and the descriptors that came with them. 1, or 0 at the end of the stream. */
static int receive_head(int conn, struct brood_frame_head* head, int streams[3]) {
  union {
    char bytes[CMSG_SPACE(3 * sizeof(int))];
    struct cmsghdr aligned;
  } ancillary;
  struct iovec piece = {.iov_base = head, .iov_len = sizeof *head};
  struct msghdr message = {.msg_iov = &piece,
                           .msg_iovlen = 1,
                           .msg_control = &ancillary,
                           .msg_controllen = sizeof ancillary};
  ssize_t got;
  do {
    got = recvmsg(conn, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) {
    return 0;
  }
  const struct cmsghdr* part = CMSG_FIRSTHDR(&message);
  if (got != (ssize_t)sizeof *head || part == NULL || part->cmsg_type != SCM_RIGHTS ||
      part->cmsg_len != CMSG_LEN(3 * sizeof(int))) {
    return -1;
  }
  memcpy(streams, CMSG_DATA(part), 3 * sizeof(int));
  return 1;
}

static int understand(struct order* order, char* body, size_t left) {
  char* parts[BROOD_RUN_PARTS];
  size_t sizes[BROOD_RUN_PARTS];
  for (int i = 0; i < BROOD_RUN_PARTS; ++i) {
    parts[i] = brood_take_part(&body, &left, &sizes[i]);
    if (parts[i] == NULL) {
      return -1;
    }
  }
  if (sizes[BROOD_RUN_LIMITS] != sizeof order->limits) {
    return -1;
  }
  memcpy(&order->limits, parts[BROOD_RUN_LIMITS], sizeof order->limits);
  order->arguments = brood_as_list(parts[BROOD_RUN_ARGUMENTS], sizes[BROOD_RUN_ARGUMENTS]);
  order->environment = brood_as_list(parts[BROOD_RUN_ENVIRONMENT], sizes[BROOD_RUN_ENVIRONMENT]);
  order->directory = strndup(parts[BROOD_RUN_DIRECTORY], sizes[BROOD_RUN_DIRECTORY]);
  return order->arguments != NULL && order->arguments[0] != NULL && order->environment != NULL &&
                 order->directory != NULL
             ? 0
             : -1;
}

/* 1, 0 at the end of the stream, or -1. */
static int receive_order(int conn, struct order* order) {
  struct brood_frame_head head;
  const int got = receive_head(conn, &head, order->streams);
  if (got <= 0) {
    return got;
  }
  if (head.kind != BROOD_FRAME_RUN || head.part_count != BROOD_RUN_PARTS ||
      head.body_size > MOST_BYTES) {
    return -1;
  }
  order->flags = head.flags;
  char* body = malloc(head.body_size);
  if (body == NULL || brood_receive_all(conn, body, head.body_size) != 0) {
    return -1;
  }
  return understand(order, body, head.body_size) == 0 ? 1 : -1;
}

/* --- becoming the command ----------------------------------------------------------------------
 */

static int set_limits(const struct order* order) {
  const struct brood_run_limits* limits = &order->limits;
  if (limits->file_bytes > 0 &&
      brood_limit(RLIMIT_FSIZE, limits->file_bytes, limits->file_bytes) != 0) {
    return -1;
  }
  /* At the soft limit a SIGXCPU, which may be caught; a second later SIGKILL. */
  if (limits->cpu_seconds > 0 &&
      brood_limit(RLIMIT_CPU, limits->cpu_seconds, (uint64_t)limits->cpu_seconds + 1) != 0) {
    return -1;
  }
  return (order->flags & BROOD_FLAG_SOFT_LIMITS) != 0
             ? brood_soft_limits(limits->memory_bytes, limits->pids)
             : 0;
}

static int take_streams(const struct order* order) {
  for (int i = 0; i < 3; ++i) {
    if (dup2(order->streams[i], i) < 0) {
      return -1;
    }
  }
  if ((order->flags & BROOD_FLAG_TERMINAL) == 0) {
    return 0;
  }
  return setsid() < 0 || ioctl(STDIN_FILENO, TIOCSCTTY, 0) != 0 ? -1 : 0;
}

int brood_be_command(int conn) {
  struct order order;
  memset(&order, 0, sizeof order);
  if (say_ready(conn) != 0) {
    return 0;
  }
  const int got = receive_order(conn, &order);
  if (got <= 0) {
    return got == 0 ? 0 : BROOD_EXIT_NOT_STARTED;
  }
  if (take_streams(&order) != 0) {
    return complain(BROOD_EXIT_NOT_STARTED, "taking", "the standard streams");
  }
  if (set_limits(&order) != 0) {
    return complain(BROOD_EXIT_NOT_STARTED, "setting", "limits");
  }
  if (chdir(order.directory) != 0) {
    return complain(BROOD_EXIT_NOT_STARTED, "entering the directory", order.directory);
  }
  extern char** environ;
  environ = order.environment; /* PATH is the command's */
  (void)execvp(order.arguments[0], order.arguments);
  const int status =
      errno == ENOENT || errno == ENOTDIR ? BROOD_EXIT_NOT_FOUND : BROOD_EXIT_NOT_RUNNABLE;
  return complain(status, "running", order.arguments[0]);
}
