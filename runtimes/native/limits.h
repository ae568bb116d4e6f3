/* Limits that a process sets for itself. */
#ifndef BROOD_RUNTIMES_NATIVE_LIMITS_H
#define BROOD_RUNTIMES_NATIVE_LIMITS_H

#include <stdint.h>

/* Never above the hard limit in force: raising one needs CAP_SYS_RESOURCE. 0, or -1 with errno. */
int brood_limit(int resource, uint64_t soft, uint64_t hard);

/* What stands in for the host's cgroups where they cannot (BROOD_FLAG_SOFT_LIMITS); 0: none. */
int brood_soft_limits(uint64_t memory_bytes, uint32_t pids);

#endif
