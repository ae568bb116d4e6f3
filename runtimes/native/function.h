/* The life of a sandbox that serves a native function: it is bound to a program, and hands each
 * invocation to it, to a process of its own or to one that lives on (program.h, worker.h).
 *
 * It shares its user with the program, which may kill it, and ends itself by that, but not look
 * into it or speak for it: it is not dumpable. */
#ifndef BROOD_RUNTIMES_NATIVE_FUNCTION_H
#define BROOD_RUNTIMES_NATIVE_FUNCTION_H

/* `conn` speaks the frames of isolate/wire.h and is close-on-exec. Returns the process's exit
 * status: 0 when the agent has closed. */
int brood_be_function(int conn);

#endif
