#include "control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FDS BROOD_SPAWN_FD_COUNT

union ancillary {
  char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
  struct cmsghdr aligned;
};

/* The descriptors that came with a message; how many. */
static int descriptors_of(struct msghdr* message, int fds[MAX_FDS]) {
  int count = 0;
  for (struct cmsghdr* part = CMSG_FIRSTHDR(message); part != NULL;
       part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    size_t bytes = part->cmsg_len - CMSG_LEN(0);
    for (size_t i = 0; i < bytes / sizeof(int) && count < MAX_FDS; ++i) {
      memcpy(&fds[count++], CMSG_DATA(part) + i * sizeof(int), sizeof(int));
    }
  }
  return count;
}

enum brood_received brood_receive_control(int fd, struct brood_control* message, int fds[MAX_FDS],
                                          int* count) {
  union ancillary ancillary;
  struct iovec piece = {.iov_base = message, .iov_len = sizeof *message};
  struct msghdr header = {.msg_iov = &piece,
                          .msg_iovlen = 1,
                          .msg_control = &ancillary,
                          .msg_controllen = sizeof ancillary};
  ssize_t got;
  *count = 0;
  do {
    got = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    return BROOD_RECEIVED_ERROR;
  }
  *count = descriptors_of(&header, fds);
  const int whole = got == (ssize_t)sizeof *message &&
                    (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
                    memchr(message->hostname, '\0', sizeof message->hostname) != NULL;
  if (got > 0 && whole) {
    return BROOD_RECEIVED_ONE;
  }
  for (int i = 0; i < *count; ++i) {
    close(fds[i]);
  }
  *count = 0;
  return got == 0 ? BROOD_RECEIVED_END : BROOD_RECEIVED_BROKEN;
}

int brood_send_control(int fd, const struct brood_control* message, const int* fds, int count) {
  if (count < 0 || count > MAX_FDS) {
    return EINVAL;
  }
  struct iovec piece = {.iov_base = (void*)message, .iov_len = sizeof *message};
  struct msghdr header = {.msg_iov = &piece, .msg_iovlen = 1};
  union ancillary ancillary;
  if (count > 0) {
    const size_t bytes = (size_t)count * sizeof(int);
    memset(&ancillary, 0, sizeof ancillary);
    header.msg_control = &ancillary;
    header.msg_controllen = CMSG_SPACE(bytes);
    struct cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(part), fds, bytes);
  }
  ssize_t sent;
  do {
    sent = sendmsg(fd, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

struct brood_control brood_control_of(uint32_t kind, uint32_t value, uint64_t sandbox,
                                      const char* text) {
  struct brood_control message;
  memset(&message, 0, sizeof message);
  message.kind = kind;
  message.value = value;
  message.sandbox = sandbox;
  size_t length = strlen(text);
  memcpy(message.text, text, length < sizeof message.text ? length : sizeof message.text - 1);
  return message;
}
