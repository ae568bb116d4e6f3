/* A function's program that lives from one invocation to the next and answers HTTP/1.1, on a port
 * of the sandbox's own loopback or on a Unix socket in it. It is asked by POST /. */
#ifndef BROOD_RUNTIMES_NATIVE_WORKER_H
#define BROOD_RUNTIMES_NATIVE_WORKER_H

#include <stdint.h>

#include "program.h"

#define BROOD_WORKER_TEXT 256

struct brood_worker {
  struct brood_program program;
  const char* listen;              /* a port in decimal, or an absolute path */
  pid_t pid;                       /* 0: it does not run */
  int socket;                      /* a connection that may be used again; -1: none */
  char problem[BROOD_WORKER_TEXT]; /* of the last call that failed */
};

/* Starts it and waits until it takes connections, for as long as it lives: whoever waits for this
 * process has a deadline. 0, or -1. */
int brood_worker_start(struct brood_worker* worker);

/* Whether it runs; one that has ended is reaped, and `problem` says how. */
int brood_worker_runs(struct brood_worker* worker);

struct brood_question {
  const char* invocation;
  const char* content_type;
  int64_t left_ms; /* until its deadline */
  const void* payload;
  size_t size;
};
struct brood_reply {
  int status;
  char content_type[128]; /* empty: it named none, or none that is printable ASCII and fits */
  struct brood_buffer body;
};
/* 0, or -1: no whole answer came. `reply->body` was begun by the caller. */
int brood_worker_ask(struct brood_worker* worker, const struct brood_question* question,
                     struct brood_reply* reply);

#endif
