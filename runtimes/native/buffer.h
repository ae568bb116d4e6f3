/* Bytes that come piece by piece, up to a limit. */
#ifndef BROOD_RUNTIMES_NATIVE_BUFFER_H
#define BROOD_RUNTIMES_NATIVE_BUFFER_H

#include <stddef.h>

struct brood_buffer {
  char* bytes;
  size_t size;
  size_t room;
  size_t limit;
  size_t dropped; /* came beyond the limit, and are not kept */
  int short_of_memory;
};

/* Empties it; its memory is kept for the next time. */
void brood_buffer_begin(struct brood_buffer* buffer, size_t limit);
void brood_buffer_add(struct brood_buffer* buffer, const void* bytes, size_t size);
/* Reads once what a descriptor has. As read(2). */
long brood_buffer_read(struct brood_buffer* buffer, int fd);

#endif
