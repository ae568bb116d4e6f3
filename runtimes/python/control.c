/* The zygote's messages (runtimes/common/control.h) as tuples. */
#include <errno.h>
#include <unistd.h>

#include "brood_module.h"
#include "runtimes/common/control.h"

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
  int fds[BROOD_SPAWN_FD_COUNT];
  int count = 0;
  switch (brood_receive_control(fd, &control, fds, &count)) {
    case BROOD_RECEIVED_ERROR:
      return PyErr_SetFromErrno(PyExc_OSError);
    case BROOD_RECEIVED_BROKEN:
      PyErr_SetString(PyExc_ValueError, "a control message that is none");
      return NULL;
    case BROOD_RECEIVED_END:
      Py_RETURN_NONE;
    default:
      break;
  }
  PyObject* result = as_tuple(&control, fds, count);
  for (int i = 0; result == NULL && i < count; ++i) {
    close(fds[i]);
  }
  return result;
}

PyObject* brood_py_send_control(PyObject* module, PyObject* args) {
  (void)module;
  int fd = -1;
  unsigned kind = 0;
  unsigned value = 0;
  unsigned long long sandbox = 0;
  const char* text = NULL;
  PyObject* list = NULL;
  if (!PyArg_ParseTuple(args, "iIIKsO", &fd, &kind, &value, &sandbox, &text, &list)) {
    return NULL;
  }
  const Py_ssize_t count = PyTuple_Size(list);
  if (count < 0 || count > BROOD_SPAWN_FD_COUNT) {
    PyErr_SetString(PyExc_ValueError, "fds: a tuple of at most five");
    return NULL;
  }
  int fds[BROOD_SPAWN_FD_COUNT];
  for (Py_ssize_t i = 0; i < count; ++i) {
    fds[i] = (int)PyLong_AsLong(PyTuple_GetItem(list, i));
  }
  if (PyErr_Occurred()) {
    return NULL;
  }
  const struct brood_control control = brood_control_of(kind, value, sandbox, text);
  errno = brood_send_control(fd, &control, fds, (int)count);
  if (errno != 0) {
    return PyErr_SetFromErrno(PyExc_OSError);
  }
  Py_RETURN_NONE;
}
