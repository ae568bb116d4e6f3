#include "frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

int brood_receive_all(int conn, void* into, size_t size) {
  char* at = into;
  while (size > 0) {
    const ssize_t got = recv(conn, at, size, MSG_WAITALL);
    if (got <= 0 && (got == 0 || errno != EINTR)) {
      return -1;
    }
    if (got > 0) {
      at += got;
      size -= (size_t)got;
    }
  }
  return 0;
}

char* brood_take_part(char** body, size_t* left, size_t* size) {
  uint32_t length = 0;
  if (*left < sizeof length) {
    return NULL;
  }
  memcpy(&length, *body, sizeof length);
  *body += sizeof length;
  *left -= sizeof length;
  if (length > *left) {
    return NULL;
  }
  char* part = *body;
  *body += length;
  *left -= length;
  *size = length;
  return part;
}

char** brood_as_list(char* block, size_t size) {
  size_t count = 0;
  if (size > 0 && block[size - 1] != '\0') {
    return NULL;
  }
  for (size_t i = 0; i < size; ++i) {
    count += block[i] == '\0';
  }
  char** list = calloc(count + 1, sizeof *list);
  for (size_t i = 0, at = 0; list != NULL && i < count; ++i, at += strlen(block + at) + 1) {
    list[i] = block + at;
  }
  return list;
}

static int send_pieces(int conn, struct iovec* pieces, int count) {
  struct msghdr message;
  memset(&message, 0, sizeof message);
  while (count > 0) {
    message.msg_iov = pieces;
    message.msg_iovlen = (size_t)count;
    ssize_t put = sendmsg(conn, &message, MSG_NOSIGNAL);
    if (put < 0 && errno != EINTR) {
      return -1;
    }
    for (; put > 0 && count > 0; ++pieces, --count) {
      if ((size_t)put < pieces->iov_len) {
        pieces->iov_base = (char*)pieces->iov_base + put;
        pieces->iov_len -= (size_t)put;
        break;
      }
      put -= (ssize_t)pieces->iov_len;
    }
    while (count > 0 && pieces->iov_len == 0) { /* an empty part */
      ++pieces;
      --count;
    }
  }
  return 0;
}

int brood_send_frame(int conn, struct brood_frame_head* head, const struct brood_piece* parts,
                     int count) {
  struct iovec pieces[1 + 2 * BROOD_MAX_PARTS];
  uint32_t lengths[BROOD_MAX_PARTS];
  int used = 1;
  if (count > BROOD_MAX_PARTS) {
    return -1;
  }
  head->part_count = (uint32_t)count;
  head->body_size = 0;
  pieces[0] = (struct iovec){.iov_base = head, .iov_len = sizeof *head};
  for (int i = 0; i < count; ++i) {
    lengths[i] = (uint32_t)parts[i].size;
    head->body_size += (uint32_t)(sizeof lengths[i] + parts[i].size);
    pieces[used++] = (struct iovec){.iov_base = &lengths[i], .iov_len = sizeof lengths[i]};
    pieces[used++] = (struct iovec){.iov_base = (void*)parts[i].bytes, .iov_len = parts[i].size};
  }
  return send_pieces(conn, pieces, used);
}
