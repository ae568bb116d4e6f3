/* What the agent, a zygote and a sandbox say to each other, byte for byte. Plain C, because the
 * zygote's compiled part is C on Python's stable ABI; all integers are in the host's order (both
 * ends are one host).
 *
 *   agent <-> zygote     one SOCK_SEQPACKET pair: struct brood_control, descriptors by SCM_RIGHTS
 *   pid 1   -> agent     one SOCK_SEQPACKET pair ("supervisor"): struct brood_setup_report once,
 * then struct brood_handler_end once sandbox <-> agent    one SOCK_STREAM pair ("conn"): frames,
 * struct brood_frame_head + body
 *
 * Whatever the agent reads here comes from a place where hostile code may run: sizes, kinds and
 * enums are checked before use, and nothing in it is trusted beyond the sandbox that it came from.
 */
#ifndef BROOD_ISOLATE_WIRE_H
#define BROOD_ISOLATE_WIRE_H

#include <stdint.h>

#define BROOD_WIRE_VERSION 2u

/* --- agent <-> zygote ----------------------------------------------------------------------------
 */

enum brood_control_kind {
  /* agent -> zygote */
  BROOD_CONFIGURE =
      1,           /* + 1 descriptor: a sealed memfd holding the sandbox plan (isolate/plan.h) */
  BROOD_SPAWN = 2, /* + 7 descriptors, in the order of enum brood_spawn_fd; value: BROOD_AWAITED or
                      0 */
  BROOD_STOP = 3,  /* leave with status 0; the sandboxes live on */
  /* zygote -> agent */
  BROOD_BOOTED = 16,  /* value: BROOD_WIRE_VERSION; text: interpreter's version */
  BROOD_SPAWNED = 17, /* + 1 descriptor: a pidfd of the sandbox's pid 1 */
  BROOD_SPAWN_FAILED =
      18,            /* value: errno of the fork or of the writing of its maps; text: what failed */
  BROOD_EXITED = 19, /* pid 1 was reaped; value: its wait status as waitpid(2) gives it */
};

/* SPAWN: somebody waits for this sandbox already. It is as complete as any other, and is ready
 * without what only makes a later bind quicker. */
#define BROOD_AWAITED 1u

/* A SPAWN's descriptors. */
enum brood_spawn_fd {
  BROOD_FD_CONN = 0,       /* the sandbox's end of its stream socket */
  BROOD_FD_SUPERVISOR = 1, /* pid 1's end of its seqpacket socket */
  BROOD_FD_LOG = 2,        /* write end of the log pipe: becomes fd 1 and 2 of the handler */
  BROOD_FD_CODE = 3,       /* detached mount: the slave of the sandbox's code mount point */
  BROOD_FD_CGROUP = 4,     /* O_PATH of the sandbox's cgroup, for CLONE_INTO_CGROUP */
  BROOD_FD_LOWER = 5,      /* detached mount: the image, with the sandbox's own uids and gids */
  BROOD_FD_LAYERS = 6,     /* detached mount: as BROOD_FD_CODE, for the function's layers */
  BROOD_SPAWN_FD_COUNT = 7,
};

struct brood_control {
  uint32_t kind;
  uint32_t value;
  uint64_t sandbox;   /* the agent's number for it; 0 where there is none */
  uint32_t uid_first; /* SPAWN: first uid and gid of the sandbox's range, in the zygote's user
                         namespace */
  uint32_t uid_count;
  char hostname[64]; /* SPAWN: NUL-terminated */
  char text[168];    /* NUL-terminated, for people */
};

/* --- pid 1 -> agent ------------------------------------------------------------------------------
 */

#define BROOD_MAX_STEPS 40
#define BROOD_SETUP_MAGIC 0x62726470u   /* "brdp" */
#define BROOD_HANDLER_MAGIC 0x62726865u /* "brhe" */

struct brood_setup_report {
  uint32_t magic;
  uint32_t step; /* enum Step (isolate/step.h) that failed; 0: all done */
  int32_t error; /* its errno */
  uint32_t steps_done;
  uint32_t step_us[BROOD_MAX_STEPS]; /* how long each took, in the plan's order */
};

/* A process that pid 1 has started is gone; after the handler's, pid 1 leaves. */
struct brood_handler_end {
  uint32_t magic;
  int32_t code;     /* si_code: CLD_EXITED, CLD_KILLED, CLD_DUMPED */
  int32_t status;   /* exit status or signal */
  uint32_t process; /* 0: the handler's; else the number of a BROOD_EXEC */
  uint64_t user_us;
  uint64_t system_us;
  uint64_t max_rss_kib;
};

/* --- agent -> pid 1, on the supervisor's socket; native sandboxes only ---------------------------
 */

#define BROOD_ORDER_MAGIC 0x6272646fu /* "brdo" */

enum brood_order_kind {
  BROOD_EXEC =
      1, /* + 1 descriptor: the conn of one more process, which says READY and gets a RUN */
  BROOD_SIGNAL = 2, /* to that process */
};

struct brood_order {
  uint32_t magic;
  uint32_t kind;
  uint32_t process; /* the agent's number for it, not 0 */
  int32_t signal;
};

/* In one sandbox at once; one more ends with BROOD_EXIT_NOT_STARTED. */
#define BROOD_MAX_PROCESSES 64

/* --- sandbox <-> agent ---------------------------------------------------------------------------
 */

enum brood_frame_kind {
  /* agent -> sandbox */
  BROOD_FRAME_BIND = 1,    /* parts: enum brood_bind_part */
  BROOD_FRAME_INVOKE = 2,  /* parts: enum brood_invoke_part */
  BROOD_FRAME_COMPILE = 3, /* parts: path of the handler's file below the code mount; Python: with
                              FLAG_IMPORTS the answer's part is what it imports instead, a name a
                              line */
  BROOD_FRAME_RUN = 4, /* native zygotes: parts: enum brood_run_part; + 3 descriptors, the standard
                          streams of the command that takes the process's place. No frame follows:
                          pid 1 tells how it ended */
  /* sandbox -> agent */
  BROOD_FRAME_READY = 16,  /* rehearsed, waiting to be bound; no parts */
  BROOD_FRAME_LOADED = 17, /* the handler is loaded, the first call begins; no parts */
  BROOD_FRAME_RESULT =
      18, /* parts: content type, body; or: enum brood_error_part when flags say so */
  BROOD_FRAME_COMPILED = 19, /* parts: the marshalled code object; or, with FLAG_ERROR, an error */
};

/* flags */
#define BROOD_FLAG_JSON 1u   /* INVOKE: the payload is JSON. RESULT: the body is JSON */
#define BROOD_FLAG_ERROR 2u  /* RESULT, COMPILED: parts are enum brood_error_part */
#define BROOD_FLAG_INIT 4u   /* with ERROR: while loading, not in the handler */
#define BROOD_FLAG_MEMORY 8u /* with ERROR: it was a MemoryError */
#define BROOD_FLAG_TOO_LARGE \
  16u /* with ERROR: the answer is over the limit in `deadline_ns`'s place */
#define BROOD_FLAG_SOFT_LIMITS                                              \
  32u /* BIND: also set RLIMIT_DATA and RLIMIT_NPROC from the bind header's \
         values, because the host's cgroups cannot (best effort) */

#define BROOD_FLAG_IMPORTS 256u /* COMPILE */
#define BROOD_FLAG_LAYERS 128u  /* BIND: something is at BROOD_LAYERS_DIR */

#define BROOD_FLAG_TERMINAL \
  64u /* RUN: the streams are one terminal, which becomes the command's own */

struct brood_frame_head {
  uint32_t kind;
  uint32_t flags;
  uint64_t invocation; /* the agent's number for it; RESULT repeats INVOKE's */
  int64_t deadline_ns; /* INVOKE: CLOCK_MONOTONIC; BIND: the response limit in bytes; else 0 */
  int64_t
      stage_ns[5]; /* RESULT: woken, loaded, called, returned, encoded (agent/types.h); else 0 */
  uint32_t part_count; /* each part is a uint32_t length, then its bytes; at most BROOD_MAX_PARTS */
  uint32_t body_size;  /* bytes after this head: all parts with their lengths */
};

#define BROOD_MAX_PARTS 8

enum brood_bind_part {
  BROOD_BIND_FUNCTION = 0,    /* name */
  BROOD_BIND_HANDLER = 1,     /* "module.function"; native: a list, each ended by NUL: directory,
                                 port or path it listens on or "", program, arguments */
  BROOD_BIND_ENVIRONMENT = 2, /* KEY=VALUE, each ended by NUL */
  BROOD_BIND_CODE = 3,        /* marshalled code object of the handler's module; may be empty */
  BROOD_BIND_LIMITS = 4,      /* struct brood_bind_limits */
  BROOD_BIND_PARTS = 5,
};

struct brood_bind_limits {
  uint64_t memory_bytes;
  uint64_t response_bytes;
  uint32_t pids;
  uint32_t version; /* the function's */
};

enum brood_run_part {
  BROOD_RUN_ARGUMENTS = 0,   /* each ended by NUL; at least one */
  BROOD_RUN_ENVIRONMENT = 1, /* KEY=VALUE, each ended by NUL */
  BROOD_RUN_DIRECTORY = 2,   /* where it starts; an absolute path inside */
  BROOD_RUN_LIMITS = 3,      /* struct brood_run_limits */
  BROOD_RUN_PARTS = 4,
};

struct brood_run_limits {
  uint64_t memory_bytes; /* with FLAG_SOFT_LIMITS, as is pids */
  uint64_t file_bytes;   /* RLIMIT_FSIZE; 0: none */
  uint32_t cpu_seconds;  /* RLIMIT_CPU; 0: none */
  uint32_t pids;
};

/* How a command ends that could not be started; as docker and the shells have it. */
#define BROOD_EXIT_NOT_STARTED 125 /* the RUN made no sense */
#define BROOD_EXIT_NOT_RUNNABLE 126
#define BROOD_EXIT_NOT_FOUND 127

enum brood_invoke_part {
  BROOD_INVOKE_ID = 0, /* the invocation's id, as text */
  BROOD_INVOKE_CONTENT_TYPE = 1,
  BROOD_INVOKE_PAYLOAD = 2,
  BROOD_INVOKE_PARTS = 3,
};

enum brood_result_part {
  BROOD_RESULT_CONTENT_TYPE = 0,
  BROOD_RESULT_BODY = 1,
  BROOD_RESULT_PARTS = 2,
};

enum brood_error_part {
  BROOD_ERROR_TYPE = 0,
  BROOD_ERROR_MESSAGE = 1,
  BROOD_ERROR_TRACE = 2,
  BROOD_ERROR_PARTS = 3,
};

/* Where things are inside every sandbox. */
#define BROOD_CODE_DIR "/function"
#define BROOD_LAYERS_DIR "/opt"
#define BROOD_CONN_FD 3

#endif
