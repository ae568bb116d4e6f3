/* The child side: carries out a plan inside a process that has just been cloned. Plain C at the
 * border, because zygotes call it too. Safe between clone and exec: no allocation, no lock, no libc
 * state but errno.
 */
#ifndef BROOD_ISOLATE_CHILD_H
#define BROOD_ISOLATE_CHILD_H

#include <stddef.h>
#include <stdint.h>

#include "isolate/wire.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The values of one sandbox that the plan, which is common to all of a runtime, leaves open.
 * Descriptors that a plan does not name may be -1. None is closed by the call. */
struct brood_child_values {
  int root_fd;  /* zygote's plan: detached mount of the image */
  int lower_fd; /* zygote's plan: another one, for /run/image; sandbox's plan: BROOD_FD_LOWER, or -1
                   for what is mounted at /run/image */
  int dev_fd;   /* detached mount of the device tmpfs; sandbox's plan: or -1 for what is mounted at
                   /dev */
  int run_fd;   /* zygote's plan: detached mount for /run */
  int support_fd; /* zygote's plan: detached mount of the runtime's programs, for /run/brood */
  int code_fd;    /* sandbox's plan: BROOD_FD_CODE */
  int layers_fd;  /* and BROOD_FD_LAYERS */
  const char* hostname;
  int seccomp_listener; /* out: the filter's notification descriptor, or -1 */
};

/* Runs every step of `plan` (a struct isolate::Plan, `size` bytes; EINVAL where it is not one) in
 * order. Returns 0, or the errno of the step that failed; `report` is filled either way. Must be
 * called in the new process, single-threaded, after its uid and gid maps have been written. */
int brood_enter(const void* plan, size_t size, struct brood_child_values* values,
                struct brood_setup_report* report);

/* The clone flags that the plan wants: CLONE_NEW* for everything but the cgroup namespace, which
 * takes its root when it is made and so is a step of its own after the child is in its cgroup. */
uint64_t brood_clone_flags(const void* plan, size_t size);

/* Moves `fds[0..count)` to the numbers `first`, `first`+1, … and closes every other descriptor from
 * `first` up. The sources may be in any order and may overlap the targets. 0 or an errno. */
int brood_keep_fds(int first, const int* fds, int count);

#ifdef __cplusplus
}
#endif
#endif
