/* Frames of struct brood_frame_head on the sandbox's socket. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "brood_module.h"

/* --- receiving ---------------------------------------------------------------------------------
 */

/* Static, and so written to by a rehearsal: the pages are the process's own when a bind comes. */
static char buffer[64 << 10];
static size_t buffer_begin;
static size_t buffer_end;

/* recv(2), which a signal does not end. -1 with an exception set. */
static ssize_t receive_some(int fd, void* into, size_t size) {
  for (;;) {
    ssize_t got;
    int error;
    Py_BEGIN_ALLOW_THREADS;
    got = recv(fd, into, size, 0);
    error = errno;
    Py_END_ALLOW_THREADS;
    if (got >= 0) {
      return got;
    }
    if (error != EINTR) {
      errno = error;
      PyErr_SetFromErrno(PyExc_OSError);
      return -1;
    }
    if (PyErr_CheckSignals() != 0) {
      return -1;
    }
  }
}

/* Buffers at least `size` bytes (a head's at most). 1, 0 at the stream's end, -1 with an exception.
 */
static int buffer_bytes(int fd, size_t size) {
  if (buffer_begin == buffer_end) {
    buffer_begin = buffer_end = 0;
  } else if (sizeof buffer - buffer_begin < size) {
    memmove(buffer, buffer + buffer_begin, buffer_end - buffer_begin);
    buffer_end -= buffer_begin;
    buffer_begin = 0;
  }
  while (buffer_end - buffer_begin < size) {
    ssize_t got = receive_some(fd, buffer + buffer_end, sizeof buffer - buffer_end);
    if (got < 0) {
      return -1;
    }
    if (got == 0) {
      if (buffer_begin == buffer_end) {
        return 0;
      }
      PyErr_SetString(PyExc_EOFError, "the agent's stream ends within a frame");
      return -1;
    }
    buffer_end += (size_t)got;
  }
  return 1;
}

static void take(void* into, size_t size) {
  memcpy(into, buffer + buffer_begin, size);
  buffer_begin += size;
}

/* Straight into `to` once the buffer is empty: a large payload is copied once, by the kernel. */
static int receive_exactly(int fd, char* to, size_t size) {
  size_t buffered = buffer_end - buffer_begin;
  size_t done = buffered < size ? buffered : size;
  take(to, done);
  while (done < size) {
    ssize_t got = receive_some(fd, to + done, size - done);
    if (got <= 0) {
      if (got == 0) {
        PyErr_SetString(PyExc_EOFError, "the agent's stream ends within a part");
      }
      return -1;
    }
    done += (size_t)got;
  }
  return 0;
}

static PyObject* receive_part(int fd, uint32_t* left) {
  uint32_t size = 0;
  if (*left < sizeof size) {
    PyErr_SetString(PyExc_ValueError, "a frame's parts are longer than its body");
    return NULL;
  }
  int status = buffer_bytes(fd, sizeof size);
  if (status <= 0) {
    if (status == 0) {
      PyErr_SetString(PyExc_EOFError, "the agent's stream ends within a frame");
    }
    return NULL;
  }
  take(&size, sizeof size);
  *left -= (uint32_t)sizeof size;
  if (size > *left) {
    PyErr_SetString(PyExc_ValueError, "a part is longer than its frame");
    return NULL;
  }
  *left -= size;
  PyObject* part = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
  if (part != NULL && receive_exactly(fd, PyBytes_AsString(part), size) != 0) {
    Py_DECREF(part);
    return NULL;
  }
  return part;
}

static PyObject* receive_parts(int fd, const struct brood_frame_head* head) {
  if (head->part_count > BROOD_MAX_PARTS) {
    return PyErr_Format(PyExc_ValueError, "a frame of %u parts", (unsigned)head->part_count);
  }
  PyObject* parts = PyTuple_New((Py_ssize_t)head->part_count);
  uint32_t left = head->body_size;
  for (uint32_t i = 0; parts != NULL && i < head->part_count; ++i) {
    PyObject* part = receive_part(fd, &left);
    if (part == NULL || PyTuple_SetItem(parts, (Py_ssize_t)i, part) != 0) {
      Py_DECREF(parts);
      return NULL;
    }
  }
  if (parts != NULL && left != 0) {
    Py_DECREF(parts);
    return PyErr_Format(PyExc_ValueError, "a frame with %u bytes after its parts", (unsigned)left);
  }
  return parts;
}

PyObject* brood_py_receive(PyObject* module, PyObject* args) {
  (void)module;
  int fd = -1;
  if (!PyArg_ParseTuple(args, "i", &fd)) {
    return NULL;
  }
  struct brood_frame_head head;
  int status = buffer_bytes(fd, sizeof head);
  if (status < 0) {
    return NULL;
  }
  if (status == 0) {
    Py_RETURN_NONE;
  }
  take(&head, sizeof head);
  PyObject* parts = receive_parts(fd, &head);
  if (parts == NULL) {
    return NULL;
  }
  return Py_BuildValue("(IIKLLN)", (unsigned)head.kind, (unsigned)head.flags,
                       (unsigned long long)head.invocation, (long long)head.deadline_ns,
                       (long long)brood_now_ns(), parts);
}

/* --- sending -----------------------------------------------------------------------------------
 */

struct outgoing {
  struct brood_frame_head head;
  uint32_t sizes[BROOD_MAX_PARTS];
  struct iovec pieces[1 + 2 * BROOD_MAX_PARTS];
  size_t count;
};

static int fill_stages(struct outgoing* frame, PyObject* stages) {
  Py_ssize_t count = PyTuple_Size(stages);
  if (count < 0 || count > 5) {
    PyErr_SetString(PyExc_ValueError, "stages: a tuple of at most five");
    return -1;
  }
  for (Py_ssize_t i = 0; i < count; ++i) {
    frame->head.stage_ns[i] = PyLong_AsLongLong(PyTuple_GetItem(stages, i));
  }
  if (PyErr_Occurred()) {
    return -1;
  }
  if (count == 4) {
    frame->head.stage_ns[4] = brood_now_ns();
  }
  return 0;
}

static void add_piece(struct outgoing* frame, void* bytes, size_t size) {
  frame->pieces[frame->count].iov_base = bytes;
  frame->pieces[frame->count].iov_len = size;
  ++frame->count;
}

static int fill_parts(struct outgoing* frame, PyObject* parts) {
  Py_ssize_t count = PyTuple_Size(parts);
  if (count < 0 || count > BROOD_MAX_PARTS) {
    PyErr_SetString(PyExc_ValueError, "parts: a tuple of at most eight");
    return -1;
  }
  add_piece(frame, &frame->head, sizeof frame->head);
  uint64_t body = 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    char* bytes = NULL;
    Py_ssize_t size = 0;
    if (PyBytes_AsStringAndSize(PyTuple_GetItem(parts, i), &bytes, &size) != 0) {
      return -1;
    }
    frame->sizes[i] = (uint32_t)size;
    add_piece(frame, &frame->sizes[i], sizeof frame->sizes[i]);
    add_piece(frame, bytes, (size_t)size);
    body += sizeof frame->sizes[i] + (uint64_t)size;
  }
  if (body > UINT32_MAX) {
    PyErr_SetString(PyExc_ValueError, "a frame is over 4 GiB");
    return -1;
  }
  frame->head.part_count = (uint32_t)count;
  frame->head.body_size = (uint32_t)body;
  return 0;
}

static void skip_sent(struct msghdr* message, size_t sent) {
  while (sent > 0 && sent >= message->msg_iov->iov_len) {
    sent -= message->msg_iov->iov_len;
    ++message->msg_iov;
    --message->msg_iovlen;
  }
  if (sent > 0) {
    message->msg_iov->iov_base = (char*)message->msg_iov->iov_base + sent;
    message->msg_iov->iov_len -= sent;
  }
}

static int send_pieces(int fd, struct outgoing* frame) {
  struct msghdr message = {.msg_iov = frame->pieces, .msg_iovlen = frame->count};
  size_t left = sizeof frame->head + frame->head.body_size;
  while (left > 0) {
    ssize_t sent;
    int error;
    Py_BEGIN_ALLOW_THREADS;
    sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    error = errno;
    Py_END_ALLOW_THREADS;
    if (sent < 0) {
      if (error == EINTR && PyErr_CheckSignals() == 0) {
        continue;
      }
      if (!PyErr_Occurred()) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
      }
      return -1;
    }
    left -= (size_t)sent;
    skip_sent(&message, (size_t)sent);
  }
  return 0;
}

PyObject* brood_py_send(PyObject* module, PyObject* args) {
  (void)module;
  int fd = -1;
  unsigned kind = 0;
  unsigned flags = 0;
  unsigned long long invocation = 0;
  PyObject* stages = NULL;
  PyObject* parts = NULL;
  if (!PyArg_ParseTuple(args, "iIIKOO", &fd, &kind, &flags, &invocation, &stages, &parts)) {
    return NULL;
  }
  struct outgoing frame;
  memset(&frame.head, 0, sizeof frame.head);
  frame.count = 0;
  frame.head.kind = kind;
  frame.head.flags = flags;
  frame.head.invocation = invocation;
  if (fill_stages(&frame, stages) != 0 || fill_parts(&frame, parts) != 0 ||
      send_pieces(fd, &frame) != 0) {
    return NULL;
  }
  Py_RETURN_NONE;
}
