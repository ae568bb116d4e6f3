/* From a zygote to a sandbox, whatever the zygote's language: a clone with every namespace, the
 * plan carried out in the clone, which stays as pid 1, and a fork of it that is the handler's
 * process.
 *
 * glibc does not know of the clone. Its fork gives the handler's process its right thread id; pid 1
 * keeps the zygote's in its thread descriptor, and so keeps to system calls. Single-threaded.
 */
#ifndef BROOD_RUNTIMES_COMMON_SANDBOX_MAKER_H
#define BROOD_RUNTIMES_COMMON_SANDBOX_MAKER_H

#include <stddef.h>
#include <sys/types.h>

#include "isolate/wire.h"

/* Maps the plan of all sandboxes to come from a sealed memfd, which the caller closes. 0, or an
 * errno: EINVAL where it is empty, not sealed, or no plan of this version with namespaces. */
int brood_take_plan(int fd);

/* The same for one that lies in memory, where it stays as it is. */
int brood_use_plan(const void* bytes, size_t size);

#define BROOD_NO_DEVICES (-1)

struct brood_launch {
  unsigned uid_first; /* in the zygote's user namespace */
  unsigned uid_count;
  const char* hostname;
  int fds[BROOD_SPAWN_FD_COUNT]; /* borrowed */
  int release[2];                /* its own: the child reads one byte once its maps are written */
  /* Of a process that is no zygote, and has neither its /dev nor its standard streams: a detached
   * mount of the device tmpfs (borrowed); and no process of the sandbox goes on with 0, 1 and 2.
   * BROOD_NO_DEVICES: it is a zygote. */
  int devices;
};

/* What one more process of a sandbox becomes, which the agent has asked pid 1 for (BROOD_EXEC): its
 * exit status, where it returns. NULL: this runtime's sandboxes have no more than their handler's.
 */
extern int (*brood_more_process)(int conn);

/* Makes one. In the zygote: pid 1's pid and a pidfd that is the caller's; or -1 with errno, and
 * what was being done. 0 in the process of the handler, which then is complete, locked down, and
 * holds BROOD_CONN_FD and standard streams alone. */
pid_t brood_spawn_sandbox(struct brood_launch* launch, int* pidfd, const char** failed);

#endif
