/* A function's program as a process: one that lives as long as an invocation, its payload on
 * standard input and its answer on standard output, or one that is started and lives on. */
#ifndef BROOD_RUNTIMES_NATIVE_PROGRAM_H
#define BROOD_RUNTIMES_NATIVE_PROGRAM_H

#include <stddef.h>
#include <sys/types.h>

#include "buffer.h"

struct brood_program {
  char** arguments;   /* the first is looked for in the environment's PATH; ends in NULL */
  char** environment; /* ends in NULL */
  const char* directory;
};

/* Starts it in a session of its own; standard error is the caller's, and so is what of `input` and
 * `output` is -1. 0, or the errno of what failed, execve(2) too. */
int brood_start_program(const struct brood_program* program, int input, int output, pid_t* pid);

/* Runs it to its end, which `status` tells as waitpid(2) does. Whatever it leaves behind is killed.
 * `answer` was begun by the caller. 0, or an errno: it did not start. */
int brood_run_program(const struct brood_program* program, const void* payload, size_t size,
                      struct brood_buffer* answer, int* status);

/* How a status reads: "left with status 3", "was killed by signal 11 (SIGSEGV)". */
void brood_describe_status(int status, char* text, size_t room);

#endif
