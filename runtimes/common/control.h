/* A zygote's seqpacket socket to the agent: struct brood_control with descriptors. */
#ifndef BROOD_RUNTIMES_COMMON_CONTROL_H
#define BROOD_RUNTIMES_COMMON_CONTROL_H

#include "isolate/wire.h"

#define BROOD_CONTROL_FD 3 /* where the agent puts it */

enum brood_received {
  BROOD_RECEIVED_END = 0,
  BROOD_RECEIVED_ONE = 1,
  BROOD_RECEIVED_BROKEN = -1, /* not a message of this form; its descriptors are closed */
  BROOD_RECEIVED_ERROR = -2,  /* errno says why */
};
/* Takes one message. The first `*count` of `fds` came with it and are the caller's. */
enum brood_received brood_receive_control(int fd, struct brood_control* message,
                                          int fds[BROOD_SPAWN_FD_COUNT], int* count);

/* 0 or an errno. At most BROOD_SPAWN_FD_COUNT descriptors, which stay the caller's. */
int brood_send_control(int fd, const struct brood_control* message, const int* fds, int count);

/* A message with this text, cut to its field. */
struct brood_control brood_control_of(uint32_t kind, uint32_t value, uint64_t sandbox,
                                      const char* text);

#endif
