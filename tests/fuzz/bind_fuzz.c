/* What the agent sends to a sandbox (bind, invoke, compile), as the interpreter's side takes it in:
 * the sources of runtimes/python themselves in a real interpreter, whose every allocation is
 * malloc's, so that the sanitizer sees its bounds. The first byte says how the stream is cut.
 * Aborts when a frame is not what its head said. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The stream that recv(2) reads. */
static const uint8_t* stream;
static size_t stream_left;
static size_t stream_cut;

static ssize_t fuzz_recv(int fd, void* into, size_t size, int flags) {
  (void)fd;
  (void)flags;
  size_t count = stream_left < size ? stream_left : size;
  count = count < stream_cut ? count : stream_cut;
  memcpy(into, stream, count);
  stream += count;
  stream_left -= count;
  return (ssize_t)count;
}

/* Included, for its buffer is to be empty before each stream. */
#define recv fuzz_recv
#include "runtimes/python/frames.c"
#undef recv

int64_t brood_now_ns(void) {
  return 1;
}

static void require(int holds) {
  if (!holds) {
    abort();
  }
}

static void check_parts(PyObject* parts) {
  require(PyTuple_Size(parts) <= BROOD_MAX_PARTS);
  for (Py_ssize_t i = 0; i < PyTuple_Size(parts); ++i) {
    char* bytes = NULL;
    Py_ssize_t size = 0;
    require(PyBytes_AsStringAndSize(PyTuple_GetItem(parts, i), &bytes, &size) == 0);
    require(bytes[size] == '\0');
  }
}

struct decoded {
  size_t frames;
  size_t bytes; /* of the stream that whole frames took */
};

/* A frame's bytes on the wire. */
static size_t frame_size(PyObject* parts) {
  size_t size = sizeof(struct brood_frame_head);
  for (Py_ssize_t i = 0; i < PyTuple_Size(parts); ++i) {
    size += sizeof(uint32_t) + (size_t)PyBytes_Size(PyTuple_GetItem(parts, i));
  }
  return size;
}

static struct decoded decode(PyObject* args, const uint8_t* bytes, size_t size, size_t cut) {
  struct decoded told = {0, 0};
  stream = bytes;
  stream_left = size;
  stream_cut = cut;
  buffer_begin = buffer_end = 0;
  for (;;) {
    PyObject* frame = brood_py_receive(NULL, args);
    if (frame == NULL) {
      require(PyErr_Occurred() != NULL);
      PyErr_Clear();
      return told;
    }
    require(PyErr_Occurred() == NULL);
    if (frame == Py_None) {
      require(told.bytes == size); /* the end of the stream is only orderly between frames */
      Py_DECREF(frame);
      return told;
    }
    PyObject* parts = PyTuple_GetItem(frame, 5);
    check_parts(parts);
    ++told.frames;
    told.bytes += frame_size(parts);
    Py_DECREF(frame);
  }
}

/* A part may claim 4 GiB: the allocation fails here, as it does under a function's limit. What an
 * interpreter keeps until its end is no leak. */
const char* __asan_default_options(void);
const char* __asan_default_options(void) {
  return "allocator_may_return_null=1:max_allocation_size_mb=64:detect_leaks=0";
}

static PyObject* start_interpreter(void) {
  setenv("PYTHONMALLOC", "malloc", 1);
  Py_InitializeEx(0);
  return Py_BuildValue("(i)", -1);
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static PyObject* args;
  if (args == NULL) {
    args = start_interpreter();
  }
  if (size == 0) {
    return 0;
  }
  const struct decoded pieces = decode(args, data + 1, size - 1, data[0] + 1U);
  const struct decoded whole = decode(args, data + 1, size - 1, size);
  require(pieces.frames == whole.frames && pieces.bytes == whole.bytes);
  return 0;
}
