/* How long the scheduler lets a thread run before others get their turn. C and C++; child-safe:
 * system calls only.
 *
 * Since Linux 6.6 a thread that wakes up waits for the rest of the slice of the one that runs, some
 * 3 ms, unless (since 6.12) its own slice is the shorter one. What answers requests therefore asks
 * for short slices; it gets no more of the processor by that, only sooner. Older kernels take the
 * call and let who has slept go first anyway.
 */
#ifndef BROOD_BASE_SLICE_H
#define BROOD_BASE_SLICE_H

#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BROOD_RESET_ON_FORK 1u /* SCHED_FLAG_RESET_ON_FORK: children begin as everybody does */

/* The first version of the kernel's struct sched_attr (Linux 3.14), whose header does not go
 * together with the C library's. */
struct brood_sched_attr {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime;
  uint64_t deadline;
  uint64_t period;
};

/* The least and the most that the kernel takes are 100 us and 100 ms. */
#define BROOD_AGENT_SLICE_NS 100000u
#define BROOD_HANDLER_SLICE_NS 300000u

/* For the calling thread. `flags`: 0 or BROOD_RESET_ON_FORK. 0, or -1 with errno: EPERM where
 * `nice` would be raised without CAP_SYS_NICE. */
static inline int brood_set_slice(uint64_t slice_ns, int32_t nice, uint64_t flags) {
  struct brood_sched_attr attributes;
  memset(&attributes, 0, sizeof attributes); /* policy 0 is SCHED_OTHER */
  attributes.size = sizeof attributes;
  attributes.flags = flags;
  attributes.nice = nice;
  attributes.runtime = slice_ns;
  return (int)syscall(SYS_sched_setattr, 0, &attributes, 0);
}

#endif
