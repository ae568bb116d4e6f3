/* The zygote's seqpacket socket to the agent: struct brood_control with descriptors. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "brood_module.h"

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

static void close_all(const int* fds, int count) {
  for (int i = 0; i < count; ++i) {
    close(fds[i]);
  }
}

static PyObject* as_tuple(const struct brood_control* control, const int* fds, int count) {
  PyObject* list = PyTuple_New(count);
  for (int i = 0; list != NULL && i < count; ++i) {
    PyObject* fd = PyLong_FromLong(fds[i]);
    if (fd == NULL || PyTuple_SetItem(list, i, fd) != 0) {
      Py_DECREF(list);
      list = NULL;
    }
  }
  if (list == NULL) {
    return NULL;
  }
  return Py_BuildValue("(IIKIIyN)", (unsigned)control->kind, (unsigned)control->value,
                       (unsigned long long)control->sandbox, (unsigned)control->uid_first,
                       (unsigned)control->uid_count, control->hostname, list);
}

PyObject* brood_py_receive_control(PyObject* module, PyObject* args) {
  (void)module;
  int fd = -1;
  if (!PyArg_ParseTuple(args, "i", &fd)) {
    return NULL;
  }
  struct brood_control control;
  union ancillary ancillary;
  struct iovec piece = {.iov_base = &control, .iov_len = sizeof control};
  struct msghdr message = {.msg_iov = &piece,
                           .msg_iovlen = 1,
                           .msg_control = &ancillary,
                           .msg_controllen = sizeof ancillary};
  ssize_t got;
  do {
    got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    return PyErr_SetFromErrno(PyExc_OSError);
  }
  int fds[MAX_FDS];
  int count = descriptors_of(&message, fds);
  PyObject* result = NULL;
  if (got == 0) {
    Py_INCREF(Py_None);
    result = Py_None;
  } else if (got != sizeof control || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
             memchr(control.hostname, '\0', sizeof control.hostname) == NULL) {
    PyErr_Format(PyExc_ValueError, "a control message of %zd bytes with %d descriptors", got,
                 count);
  } else {
    result = as_tuple(&control, fds, count);
  }
  if (result == NULL || got == 0) {
    close_all(fds, count);
  }
  return result;
}

static int attach(struct msghdr* message, union ancillary* ancillary, PyObject* list) {
  Py_ssize_t count = PyTuple_Size(list);
  if (count < 0 || count > MAX_FDS) {
    PyErr_SetString(PyExc_ValueError, "fds: a tuple of at most five");
    return -1;
  }
  if (count == 0) {
    return 0;
  }
  memset(ancillary, 0, sizeof *ancillary);
  message->msg_control = ancillary;
  message->msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
  struct cmsghdr* part = CMSG_FIRSTHDR(message);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
  for (Py_ssize_t i = 0; i < count; ++i) {
    int fd = (int)PyLong_AsLong(PyTuple_GetItem(list, i));
    memcpy(CMSG_DATA(part) + (size_t)i * sizeof fd, &fd, sizeof fd);
  }
  return PyErr_Occurred() ? -1 : 0;
}

PyObject* brood_py_send_control(PyObject* module, PyObject* args) {
  (void)module;
  int fd = -1;
  unsigned kind = 0;
  unsigned value = 0;
  unsigned long long sandbox = 0;
  const char* text = NULL;
  PyObject* fds = NULL;
  if (!PyArg_ParseTuple(args, "iIIKsO", &fd, &kind, &value, &sandbox, &text, &fds)) {
    return NULL;
  }
  struct brood_control control;
  memset(&control, 0, sizeof control);
  control.kind = kind;
  control.value = value;
  control.sandbox = sandbox;
  size_t length = strlen(text);
  memcpy(control.text, text, length < sizeof control.text ? length : sizeof control.text - 1);
  struct iovec piece = {.iov_base = &control, .iov_len = sizeof control};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
  union ancillary ancillary;
  if (attach(&message, &ancillary, fds) != 0) {
    return NULL;
  }
  ssize_t sent;
  do {
    sent = sendmsg(fd, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) {
    return PyErr_SetFromErrno(PyExc_OSError);
  }
  Py_RETURN_NONE;
}
