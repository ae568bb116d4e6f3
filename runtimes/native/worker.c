#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <http_parser.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_PAUSE_MS 1
#define LONGEST_PAUSE_MS 20

static int fail(struct brood_worker* worker, const char* what, int error) {
  snprintf(worker->problem, sizeof worker->problem, "%s: %s", what, strerror(error));
  return -1;
}

/* --- its life ------------------------------------------------------------------------------------
 */

static int connect_to(const char* listen) {
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  struct sockaddr_in port = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  const int is_path = listen[0] == '/';
  const int fd = socket(is_path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return -1;
  }
  int done;
  if (is_path) {
    snprintf(local.sun_path, sizeof local.sun_path, "%s", listen);
    done = connect(fd, (struct sockaddr*)&local, sizeof local);
  } else {
    const int at_once = 1;
    port.sin_port = htons((uint16_t)strtoul(listen, NULL, 10));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    done = connect(fd, (struct sockaddr*)&port, sizeof port);
  }
  if (done != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

static void hang_up(struct brood_worker* worker) {
  if (worker->socket >= 0) {
    close(worker->socket);
    worker->socket = -1;
  }
}

int brood_worker_runs(struct brood_worker* worker) {
  int status = 0;
  if (worker->pid == 0 || waitpid(worker->pid, &status, WNOHANG) == 0) {
    return worker->pid != 0;
  }
  char how[64];
  brood_describe_status(status, how, sizeof how);
  snprintf(worker->problem, sizeof worker->problem, "the program %s", how);
  worker->pid = 0;
  hang_up(worker);
  return 0;
}

int brood_worker_start(struct brood_worker* worker) {
  hang_up(worker);
  if (worker->listen[0] == '/') {
    (void)unlink(worker->listen); /* of one that has ended */
  }
  const int error = brood_start_program(&worker->program, -1, -1, &worker->pid);
  if (error != 0) {
    worker->pid = 0;
    return fail(worker, worker->program.arguments[0], error);
  }
  for (int pause = FIRST_PAUSE_MS; (worker->socket = connect_to(worker->listen)) < 0;) {
    if (!brood_worker_runs(worker)) {
      return -1;
    }
    (void)poll(NULL, 0, pause);
    pause = pause < LONGEST_PAUSE_MS ? 2 * pause : LONGEST_PAUSE_MS;
  }
  return 0;
}

/* --- one answer ----------------------------------------------------------------------------------
 */

struct listener {
  struct brood_reply* reply;
  int in_content_type;
  int done;
  int any; /* a byte of it has come */
};

static struct listener* of(http_parser* parser) {
  return parser->data;
}

static int on_begin(http_parser* parser) {
  of(parser)->reply->content_type[0] = '\0';
  of(parser)->in_content_type = 0;
  return 0;
}

/* A name that comes in two pieces is no name that is looked for: one read brings the head. */
static int on_field(http_parser* parser, const char* at, size_t length) {
  of(parser)->in_content_type =
      length == strlen("content-type") && strncasecmp(at, "content-type", length) == 0;
  return 0;
}

static int on_value(http_parser* parser, const char* at, size_t length) {
  struct brood_reply* reply = of(parser)->reply;
  if (!of(parser)->in_content_type || length >= sizeof reply->content_type) {
    return 0;
  }
  for (size_t i = 0; i < length; ++i) {
    if (at[i] < ' ' || at[i] > '~') {
      return 0;
    }
  }
  memcpy(reply->content_type, at, length);
  reply->content_type[length] = '\0';
  return 0;
}

static int on_body(http_parser* parser, const char* at, size_t length) {
  brood_buffer_add(&of(parser)->reply->body, at, length);
  return 0;
}

static int on_complete(http_parser* parser) {
  of(parser)->done = parser->status_code >= 200; /* else: 100 Continue, and the like */
  of(parser)->reply->status = parser->status_code;
  if (of(parser)->done) {
    http_parser_pause(parser, 1);
  }
  return 0;
}

static const http_parser_settings settings = {.on_message_begin = on_begin,
                                              .on_header_field = on_field,
                                              .on_header_value = on_value,
                                              .on_body = on_body,
                                              .on_message_complete = on_complete};

static size_t head_of(const struct brood_question* question, char* head, size_t room) {
  char type[256];
  size_t length = 0;
  for (const char* at = question->content_type; *at != '\0' && length + 1 < sizeof type; ++at) {
    if (*at >= ' ' && *at <= '~') {
      type[length++] = *at;
    }
  }
  type[length] = '\0';
  return (size_t)snprintf(head, room,
                          "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n"
                          "Content-Length: %zu\r\nBrood-Invocation-Id: %s\r\n"
                          "Brood-Remaining-Ms: %lld\r\n\r\n",
                          type, question->size, question->invocation, (long long)question->left_ms);
}

enum exchanged { ANSWERED, HUNG_UP, BROKEN };

/* Sends and listens at once: an answer may begin before the question is read. */
static enum exchanged exchange(struct brood_worker* worker, const char* head, size_t head_size,
                               const struct brood_question* question, http_parser* parser) {
  static char piece[64 << 10]; /* one thread */
  struct listener* listener = parser->data;
  size_t sent = 0;
  const size_t all = head_size + question->size;
  while (!listener->done) {
    struct pollfd polled = {.fd = worker->socket,
                            .events = (short)(POLLIN | (sent < all ? POLLOUT : 0))};
    if (poll(&polled, 1, -1) < 0) {
      continue;
    }
    if ((polled.revents & POLLOUT) != 0 && sent < all) {
      const char* from =
          sent < head_size ? head + sent : (const char*)question->payload + (sent - head_size);
      const size_t size = sent < head_size ? head_size - sent : all - sent;
      const int more = sent + size < all ? MSG_MORE : 0;
      const ssize_t put = send(worker->socket, from, size, MSG_NOSIGNAL | more);
      if (put < 0 && errno != EAGAIN && errno != EINTR) {
        sent = all; /* it may have answered without reading all */
      }
      sent += put > 0 ? (size_t)put : 0;
    }
    if ((polled.revents & (POLLIN | POLLHUP | POLLERR)) == 0) {
      continue;
    }
    const ssize_t got = recv(worker->socket, piece, sizeof piece, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
      continue;
    }
    listener->any |= got > 0;
    (void)http_parser_execute(parser, &settings, piece, got > 0 ? (size_t)got : 0);
    const enum http_errno error = HTTP_PARSER_ERRNO(parser);
    if (listener->done) {
      break;
    }
    if (got <= 0) {
      return HUNG_UP;
    }
    if (error != HPE_OK) {
      snprintf(worker->problem, sizeof worker->problem, "its answer is not HTTP: %s",
               http_errno_description(error));
      return BROKEN;
    }
  }
  return ANSWERED;
}

int brood_worker_ask(struct brood_worker* worker, const struct brood_question* question,
                     struct brood_reply* reply) {
  char head[768];
  const size_t head_size = head_of(question, head, sizeof head);
  const size_t limit = reply->body.limit;
  /* A connection that was kept may have been closed meanwhile: then it is asked once more, as long
   * as no byte of an answer has come. */
  for (int attempt = 0; attempt < 2; ++attempt) {
    const int kept = worker->socket >= 0;
    if (!kept && (worker->socket = connect_to(worker->listen)) < 0) {
      return brood_worker_runs(worker) ? fail(worker, "connecting to it", errno) : -1;
    }
    struct listener listener = {.reply = reply};
    http_parser parser;
    http_parser_init(&parser, HTTP_RESPONSE);
    parser.data = &listener;
    brood_buffer_begin(&reply->body, limit);
    const enum exchanged how = exchange(worker, head, head_size, question, &parser);
    if (how == ANSWERED) {
      http_parser_pause(&parser, 0);
      if (!http_should_keep_alive(&parser)) {
        hang_up(worker);
      }
      return 0;
    }
    hang_up(worker);
    if (how == BROKEN) {
      return -1;
    }
    if (!kept || listener.any) {
      break;
    }
  }
  if (brood_worker_runs(worker)) {
    snprintf(worker->problem, sizeof worker->problem, "it hung up before its answer was complete");
  }
  return -1;
}
