#include "buffer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_ROOM 4096u
#define PIECE (64u << 10)

void brood_buffer_begin(struct brood_buffer* buffer, size_t limit) {
  buffer->size = 0;
  buffer->limit = limit;
  buffer->dropped = 0;
  buffer->short_of_memory = 0;
}

void brood_buffer_add(struct brood_buffer* buffer, const void* bytes, size_t size) {
  const size_t left = buffer->limit - buffer->size;
  if (size > left) {
    buffer->dropped += size - left;
    size = left;
  }
  if (size > buffer->room - buffer->size) {
    size_t room = buffer->room > 0 ? buffer->room : FIRST_ROOM;
    while (room - buffer->size < size) {
      room *= 2;
    }
    char* more = realloc(buffer->bytes, room);
    if (more == NULL) {
      buffer->short_of_memory = 1;
      return;
    }
    buffer->bytes = more;
    buffer->room = room;
  }
  if (size > 0) {
    memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
  }
}

long brood_buffer_read(struct brood_buffer* buffer, int fd) {
  static char piece[PIECE]; /* one thread */
  const ssize_t got = read(fd, piece, sizeof piece);
  if (got > 0) {
    brood_buffer_add(buffer, piece, (size_t)got);
  }
  return got;
}
