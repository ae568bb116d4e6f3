/* The frames of isolate/wire.h as a native sandbox's process reads and writes them. Blocking; what
 * the agent sends is trusted, and still held to its form. */
#ifndef BROOD_RUNTIMES_NATIVE_FRAMES_H
#define BROOD_RUNTIMES_NATIVE_FRAMES_H

#include <stddef.h>

#include "isolate/wire.h"

/* 0, or -1 at the end of the stream or on an error. */
int brood_receive_all(int conn, void* into, size_t size);

/* The next part of a body, and moves on behind it; NULL when it does not fit. */
char* brood_take_part(char** body, size_t* left, size_t* size);

/* Entries that each end in NUL, as a list that ends in NULL and points into `block`; NULL where the
 * last is not ended or memory is short. The list is the caller's to free. */
char** brood_as_list(char* block, size_t size);

struct brood_piece {
  const void* bytes;
  size_t size;
};
/* Sends a frame with these parts; the counts in `head` are filled in. 0, or -1 when the agent is
 * gone. */
int brood_send_frame(int conn, struct brood_frame_head* head, const struct brood_piece* parts,
                     int count);

#endif
