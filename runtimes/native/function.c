#include "function.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "frames.h"
#include "limits.h"
#include "program.h"
#include "worker.h"

#define MOST_BYTES (1u << 30) /* of one frame; the agent's own limits are far below */
#define MOST_TRACE (64u << 10)
#define NS_PER_MS 1000000
#define OWN_VARIABLES 4 /* of every program; and of every process of one invocation */
#define VARIABLE_ROOM 320

enum stage { WOKEN, LOADED, CALLED, RETURNED, ENCODED };

/* What was bound. Everything points into `body`, which is kept. */
static struct {
  char* body;
  struct brood_program program;
  const char* listen; /* empty: a process for each invocation */
  struct brood_bind_limits limits;
  int64_t woken; /* of the BIND; 0 once an invocation has told of it */
  int64_t loaded;
  char problem[BROOD_WORKER_TEXT]; /* why it cannot be called; empty: it can */
  const char* problem_type;
} bound;

static struct brood_worker worker = {.socket = -1};
static char own[2 * OWN_VARIABLES][VARIABLE_ROOM];
static size_t first_of_invocation; /* where in the environment those of an invocation begin */

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* --- frames --------------------------------------------------------------------------------------
 */

struct frame {
  struct brood_frame_head head;
  char* body;
  char* parts[BROOD_MAX_PARTS];
  size_t sizes[BROOD_MAX_PARTS];
};

/* 1, 0 at the end of the stream, or -1. The body is the caller's to free. */
static int receive_frame(int conn, struct frame* frame) {
  if (brood_receive_all(conn, &frame->head, sizeof frame->head) != 0) {
    return 0;
  }
  if (frame->head.part_count > BROOD_MAX_PARTS || frame->head.body_size > MOST_BYTES) {
    return -1;
  }
  size_t left = frame->head.body_size;
  frame->body = malloc(left + 1);
  if (frame->body == NULL || brood_receive_all(conn, frame->body, left) != 0) {
    return -1;
  }
  char* at = frame->body;
  for (uint32_t i = 0; i < frame->head.part_count; ++i) {
    frame->parts[i] = brood_take_part(&at, &left, &frame->sizes[i]);
    if (frame->parts[i] == NULL) {
      return -1;
    }
  }
  return 1;
}

static int send_plain(int conn, uint32_t kind) {
  struct brood_frame_head head;
  memset(&head, 0, sizeof head);
  head.kind = kind;
  return brood_send_frame(conn, &head, NULL, 0);
}

static struct brood_piece text_piece(const char* text) {
  return (struct brood_piece){.bytes = text, .size = strlen(text)};
}

/* --- binding -------------------------------------------------------------------------------------
 */

static void cannot(const char* type, const char* what, int error) {
  bound.problem_type = type;
  snprintf(bound.problem, sizeof bound.problem, "%s: %s", what, strerror(error));
}

/* A copy of a part that ends in NUL. */
static char* text_of(const struct frame* frame, int part) {
  return strndup(frame->parts[part], frame->sizes[part]);
}

/* The function's own environment, and behind it room for what is brood's. */
static int take_environment(const struct frame* frame, const char* function) {
  char** given =
      brood_as_list(frame->parts[BROOD_BIND_ENVIRONMENT], frame->sizes[BROOD_BIND_ENVIRONMENT]);
  size_t count = 0;
  while (given != NULL && given[count] != NULL) {
    ++count;
  }
  char** all = given == NULL ? NULL : realloc(given, (count + 2 * OWN_VARIABLES + 1) * sizeof *all);
  if (all == NULL) {
    return -1;
  }
  snprintf(own[0], VARIABLE_ROOM, "BROOD_FUNCTION=%s", function);
  snprintf(own[1], VARIABLE_ROOM, "BROOD_FUNCTION_VERSION=%u", bound.limits.version);
  snprintf(own[2], VARIABLE_ROOM, "BROOD_MEMORY_BYTES=%llu",
           (unsigned long long)bound.limits.memory_bytes);
  /* As Knative and its kin name the port. */
  snprintf(own[3], VARIABLE_ROOM, "%s=%s", bound.listen[0] == '/' ? "BROOD_SOCKET" : "PORT",
           bound.listen);
  for (int i = 0; i < OWN_VARIABLES - (bound.listen[0] == '\0'); ++i) {
    all[count++] = own[i];
  }
  first_of_invocation = count;
  all[count] = NULL;
  bound.program.environment = all;
  return 0;
}

/* The handler part is a list: the directory, where it listens or nothing, the program, its
 * arguments. */
static int understand(struct frame* frame) {
  if (frame->head.part_count != BROOD_BIND_PARTS ||
      frame->sizes[BROOD_BIND_LIMITS] != sizeof bound.limits) {
    return -1;
  }
  memcpy(&bound.limits, frame->parts[BROOD_BIND_LIMITS], sizeof bound.limits);
  char** handler =
      brood_as_list(frame->parts[BROOD_BIND_HANDLER], frame->sizes[BROOD_BIND_HANDLER]);
  char* function = text_of(frame, BROOD_BIND_FUNCTION);
  if (handler == NULL || function == NULL || handler[0] == NULL || handler[1] == NULL ||
      handler[2] == NULL) {
    return -1;
  }
  bound.program.directory = handler[0];
  bound.listen = handler[1];
  bound.program.arguments = handler + 2;
  const int taken = take_environment(frame, function);
  free(function);
  return taken;
}

static void start_worker(void) {
  worker.program = bound.program;
  worker.listen = bound.listen;
  bound.problem[0] = '\0';
  if (brood_worker_start(&worker) != 0) {
    bound.problem_type = "WorkerError";
    snprintf(bound.problem, sizeof bound.problem, "%s", worker.problem);
  }
}

static int bind_function(int conn, struct frame* frame) {
  bound.woken = now_ns();
  bound.body = frame->body;
  if (understand(frame) != 0) {
    return -1;
  }
  if ((frame->head.flags & BROOD_FLAG_SOFT_LIMITS) != 0 &&
      brood_soft_limits(bound.limits.memory_bytes, bound.limits.pids) != 0) {
    cannot("LimitError", "setting its limits", errno);
  } else if (bound.listen[0] != '\0') {
    start_worker();
  }
  bound.loaded = now_ns();
  return bound.problem[0] == '\0' ? send_plain(conn, BROOD_FRAME_LOADED) : 0;
}

/* --- answering -----------------------------------------------------------------------------------
 */

struct answer {
  uint32_t flags;
  struct brood_piece parts[BROOD_ERROR_PARTS];
  int count;
  char message[BROOD_WORKER_TEXT];
};

static void fail(struct answer* answer, uint32_t flags, const char* type) {
  answer->flags = BROOD_FLAG_ERROR | flags;
  answer->parts[BROOD_ERROR_TYPE] = text_piece(type);
  answer->parts[BROOD_ERROR_MESSAGE] = text_piece(answer->message);
  answer->parts[BROOD_ERROR_TRACE] = text_piece("");
  answer->count = BROOD_ERROR_PARTS;
}

static void succeed(struct answer* answer, const char* type, const struct brood_buffer* body) {
  if (body->short_of_memory) {
    snprintf(answer->message, sizeof answer->message, "its answer did not fit");
    return fail(answer, BROOD_FLAG_MEMORY, "OutOfMemory");
  }
  if (body->dropped > 0) {
    snprintf(answer->message, sizeof answer->message,
             "the answer is %zu bytes long, over the limit of %zu bytes",
             body->size + body->dropped, body->limit);
    return fail(answer, BROOD_FLAG_TOO_LARGE, "ResponseTooLarge");
  }
  answer->flags = strcmp(type, "application/json") == 0 ? BROOD_FLAG_JSON : 0;
  answer->parts[BROOD_RESULT_CONTENT_TYPE] = text_piece(type);
  answer->parts[BROOD_RESULT_BODY] = (struct brood_piece){.bytes = body->bytes, .size = body->size};
  answer->count = BROOD_RESULT_PARTS;
}

static int64_t left_ms(int64_t deadline) {
  const int64_t left = deadline - now_ns();
  return left > 0 ? left / NS_PER_MS : 0;
}

static void ask_program(const struct frame* frame, const char* id, const char* type,
                        struct answer* answer) {
  static struct brood_buffer output;
  char** environment = bound.program.environment;
  size_t count = first_of_invocation;
  snprintf(own[4], VARIABLE_ROOM, "BROOD_INVOCATION_ID=%s", id);
  snprintf(own[5], VARIABLE_ROOM, "BROOD_CONTENT_TYPE=%s", type);
  snprintf(own[6], VARIABLE_ROOM, "BROOD_REMAINING_MS=%lld",
           (long long)left_ms(frame->head.deadline_ns));
  for (int i = 4; i < 7; ++i) {
    environment[count++] = own[i];
  }
  environment[count] = NULL;
  brood_buffer_begin(&output, bound.limits.response_bytes);
  int status = 0;
  const int error = brood_run_program(&bound.program, frame->parts[BROOD_INVOKE_PAYLOAD],
                                      frame->sizes[BROOD_INVOKE_PAYLOAD], &output, &status);
  if (error != 0) {
    snprintf(answer->message, sizeof answer->message, "%s: %s", bound.program.arguments[0],
             strerror(error));
    return fail(answer, error == EAGAIN ? 0 : BROOD_FLAG_INIT,
                error == EAGAIN ? "OSError" : "HandlerNotFound");
  }
  if (status != 0) {
    char how[64];
    brood_describe_status(status, how, sizeof how);
    snprintf(answer->message, sizeof answer->message, "the program %s", how);
    return fail(answer, 0, WIFEXITED(status) ? "ExitStatus" : "Signal");
  }
  succeed(answer, "application/octet-stream", &output);
}

static void ask_worker(const struct frame* frame, const char* id, const char* type,
                       struct answer* answer) {
  static struct brood_reply reply;
  const struct brood_question question = {.invocation = id,
                                          .content_type = type,
                                          .left_ms = left_ms(frame->head.deadline_ns),
                                          .payload = frame->parts[BROOD_INVOKE_PAYLOAD],
                                          .size = frame->sizes[BROOD_INVOKE_PAYLOAD]};
  brood_buffer_begin(&reply.body, bound.limits.response_bytes);
  if (brood_worker_ask(&worker, &question, &reply) != 0) {
    memcpy(answer->message, worker.problem, sizeof answer->message);
    return fail(answer, 0, "WorkerError");
  }
  if (reply.status >= 400) {
    snprintf(answer->message, sizeof answer->message, "it answered with HTTP status %d",
             reply.status);
    fail(answer, 0, "HttpStatus");
    answer->parts[BROOD_ERROR_TRACE] =
        (struct brood_piece){.bytes = reply.body.bytes,
                             .size = reply.body.size < MOST_TRACE ? reply.body.size : MOST_TRACE};
    return;
  }
  succeed(answer, reply.content_type[0] != '\0' ? reply.content_type : "application/octet-stream",
          &reply.body);
}

static int invoke(int conn, struct frame* frame) {
  if (frame->head.part_count != BROOD_INVOKE_PARTS) {
    return -1;
  }
  struct brood_frame_head head;
  memset(&head, 0, sizeof head);
  head.kind = BROOD_FRAME_RESULT;
  head.invocation = frame->head.invocation;
  head.stage_ns[WOKEN] = bound.woken != 0 ? bound.woken : now_ns();
  /* One that has ended since the last invocation is started again. */
  if (bound.listen[0] != '\0' && !brood_worker_runs(&worker) && bound.woken == 0) {
    start_worker();
    bound.loaded = now_ns();
    head.stage_ns[LOADED] = bound.loaded;
  }
  head.stage_ns[LOADED] = bound.woken != 0 ? bound.loaded : head.stage_ns[LOADED];
  bound.woken = 0;
  struct answer answer = {.count = 0};
  char* id = text_of(frame, BROOD_INVOKE_ID);
  char* type = text_of(frame, BROOD_INVOKE_CONTENT_TYPE);
  if (id == NULL || type == NULL) {
    return -1;
  }
  head.stage_ns[CALLED] = now_ns();
  if (bound.problem[0] != '\0') {
    memcpy(answer.message, bound.problem, sizeof answer.message);
    fail(&answer, BROOD_FLAG_INIT, bound.problem_type);
  } else if (bound.listen[0] != '\0') {
    ask_worker(frame, id, type, &answer);
  } else {
    ask_program(frame, id, type, &answer);
  }
  head.stage_ns[RETURNED] = now_ns();
  head.stage_ns[ENCODED] = head.stage_ns[RETURNED];
  head.flags = answer.flags;
  free(id);
  free(type);
  return brood_send_frame(conn, &head, answer.parts, answer.count);
}

int brood_be_function(int conn) {
  (void)signal(SIGPIPE, SIG_IGN); /* a program's own are set back when it is started */
  (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  if (send_plain(conn, BROOD_FRAME_READY) != 0) {
    return 0;
  }
  for (;;) {
    struct frame frame;
    memset(&frame, 0, sizeof frame);
    const int got = receive_frame(conn, &frame);
    if (got <= 0) {
      return got == 0 ? 0 : 2;
    }
    const int is_bound = bound.body != NULL;
    int done = -1;
    if (frame.head.kind == BROOD_FRAME_BIND && !is_bound) {
      done = bind_function(conn, &frame);
    } else if (frame.head.kind == BROOD_FRAME_INVOKE && is_bound) {
      done = invoke(conn, &frame);
      free(frame.body);
    }
    if (done != 0) {
      return 2;
    }
  }
}
