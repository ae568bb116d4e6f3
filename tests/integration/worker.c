/* A function's program for tests: serves HTTP on PORT or BROOD_SOCKET, one connection at a time,
 * and does what the payload says. Static: it runs in any image. */
#define _GNU_SOURCE /* strcasestr */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int listener(void) {
  const char* path = getenv("BROOD_SOCKET"); /* NOLINT(concurrency-mt-unsafe) */
  const char* port = getenv("PORT");         /* NOLINT(concurrency-mt-unsafe) */
  const int fd = socket(path != NULL ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int bound;
  if (path != NULL) {
    snprintf(local.sun_path, sizeof local.sun_path, "%s", path);
    bound = bind(fd, (struct sockaddr*)&local, sizeof local);
  } else {
    const int yes = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    inet.sin_port = htons((unsigned short)strtoul(port != NULL ? port : "0", NULL, 10));
    bound = bind(fd, (struct sockaddr*)&inet, sizeof inet);
  }
  if (bound != 0 || listen(fd, 16) != 0) {
    perror("listen");
    exit(9);
  }
  return fd;
}

static void say(int to, const char* text) {
  (void)!write(to, text, strlen(text));
}

static void answer(int to, const char* status, const char* extra, const char* body) {
  char head[512];
  snprintf(head, sizeof head,
           "HTTP/1.1 %s\r\nContent-Type: text/plain\r\n%sContent-Length: %zu\r\n\r\n", status,
           extra, strlen(body));
  say(to, head);
  say(to, body);
}

/* 0 when the connection is to be closed. */
static int act(int to, const char* payload, int served) {
  char text[128];
  if (strcmp(payload, "bad") == 0) {
    answer(to, "418 I'm a teapot", "", "short and stout");
  } else if (strcmp(payload, "die") == 0) {
    exit(3);
  } else if (strcmp(payload, "drop") == 0) {
    say(to, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all");
    return 0;
  } else if (strcmp(payload, "garbage") == 0) {
    say(to, "SSH-2.0-nothing of the kind\r\n\r\n");
  } else if (strcmp(payload, "chunked") == 0) {
    say(to, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    usleep(20000);
    say(to, "3\r\ndef\r\n0\r\n\r\n");
  } else if (strcmp(payload, "close") == 0) {
    say(to, "HTTP/1.0 200 OK\r\n\r\nuntil the end");
    return 0;
  } else if (strcmp(payload, "continue") == 0) {
    say(to, "HTTP/1.1 100 Continue\r\n\r\n");
    answer(to, "200 OK", "", "after 100");
  } else if (strcmp(payload, "hang") == 0) {
    sleep(100);
  } else if (strcmp(payload, "endless") == 0) {
    static char piece[65536];
    say(to, "HTTP/1.1 200 OK\r\n\r\n");
    for (int i = 0; i < 200; ++i) {
      (void)!write(to, piece, sizeof piece);
    }
    return 0;
  } else if (strcmp(payload, "leave later") == 0) {
    answer(to, "200 OK", "", "soon");
    exit(4);
  } else {
    snprintf(text, sizeof text, "%d %s", served, payload);
    answer(to, "200 OK", "", text);
  }
  return 1;
}

static int serve_one(int to, int served) {
  static char request[65536];
  size_t have = 0;
  char* end = NULL;
  while (end == NULL && have + 1 < sizeof request) {
    const ssize_t got = read(to, request + have, sizeof request - 1 - have);
    if (got <= 0) {
      return 0;
    }
    have += (size_t)got;
    request[have] = '\0';
    end = strstr(request, "\r\n\r\n");
  }
  if (end == NULL) {
    return 0;
  }
  const char* length = strcasestr(request, "content-length:");
  const size_t size = length != NULL ? strtoul(length + 15, NULL, 10) : 0;
  char* body = end + 4;
  while (have < (size_t)(body - request) + size && have + 1 < sizeof request) {
    const ssize_t got = read(to, request + have, sizeof request - 1 - have);
    if (got <= 0) {
      return 0;
    }
    have += (size_t)got;
  }
  body[size] = '\0';
  return act(to, body, served);
}

int main(void) {
  const int fd = listener();
  int served = 0;
  fprintf(stderr, "worker ready\n");
  for (;;) {
    const int to = accept(fd, NULL, NULL);
    while (to >= 0 && serve_one(to, served + 1)) {
      ++served;
    }
    close(to);
  }
}
