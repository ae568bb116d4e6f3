#include "limits.h"

#include <sys/resource.h>

int brood_limit(int resource, uint64_t soft, uint64_t hard) {
  struct rlimit wanted;
  if (getrlimit(resource, &wanted) != 0) {
    return -1;
  }
  wanted.rlim_max = wanted.rlim_max < hard ? wanted.rlim_max : hard;
  wanted.rlim_cur = wanted.rlim_max < soft ? wanted.rlim_max : soft;
  return setrlimit(resource, &wanted);
}

int brood_soft_limits(uint64_t memory_bytes, uint32_t pids) {
  if (memory_bytes > 0 && brood_limit(RLIMIT_DATA, memory_bytes, memory_bytes) != 0) {
    return -1;
  }
  return pids > 0 ? brood_limit(RLIMIT_NPROC, pids, pids) : 0;
}
