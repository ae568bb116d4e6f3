/* Making a sandbox from a booted interpreter (runtimes/common/sandbox_maker.h).
 *
 * CPython does not know of the clone. It is told as os.fork tells it: BeforeFork in the zygote, and
 * After… once in each of the two processes that run Python again, the zygote and the handler's. pid
 * 1 runs none.
 */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "brood_module.h"
#include "runtimes/common/sandbox_maker.h"

PyObject* brood_py_configure(PyObject* module, PyObject* args) {
  (void)module;
  int fd = -1;
  if (!PyArg_ParseTuple(args, "i", &fd)) {
    return NULL;
  }
  int error = brood_take_plan(fd);
  if (error == EINVAL) {
    PyErr_SetString(
        PyExc_ValueError,
        "configure: it is empty, not sealed, or not a plan of this version with namespaces");
    return NULL;
  }
  if (error != 0) {
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
  }
  Py_RETURN_NONE;
}

PyObject* brood_py_child_events(PyObject* module, PyObject* unused) {
  (void)module;
  (void)unused;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  int fd = -1;
  /* Not pthread_sigmask, which wants glibc 2.32; there is one thread.
   * NOLINTNEXTLINE(concurrency-mt-unsafe) */
  if (sigprocmask(SIG_BLOCK, &set, NULL) == 0) {
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  return fd < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(fd);
}

static PyObject* raise_os_error(int error, const char* what) {
  PyObject* value = Py_BuildValue("(is)", error, what);
  if (value != NULL) {
    PyErr_SetObject(PyExc_OSError, value);
    Py_DECREF(value);
  }
  return NULL;
}

static int parse_launch(PyObject* args, struct brood_launch* launch) {
  PyObject* fds = NULL;
  launch->devices = BROOD_NO_DEVICES;
  if (!PyArg_ParseTuple(args, "IIyO", &launch->uid_first, &launch->uid_count, &launch->hostname,
                        &fds)) {
    return -1;
  }
  if (PyTuple_Size(fds) != BROOD_SPAWN_FD_COUNT) {
    PyErr_SetString(PyExc_ValueError, "spawn: needs seven descriptors");
    return -1;
  }
  for (int i = 0; i < BROOD_SPAWN_FD_COUNT; ++i) {
    launch->fds[i] = (int)PyLong_AsLong(PyTuple_GetItem(fds, i));
  }
  return PyErr_Occurred() ? -1 : 0;
}

PyObject* brood_py_spawn(PyObject* module, PyObject* args) {
  (void)module;
  struct brood_launch launch;
  if (parse_launch(args, &launch) != 0) {
    return NULL;
  }
  int pidfd = -1;
  const char* failed = NULL;
  PyOS_BeforeFork();
  pid_t pid = brood_spawn_sandbox(&launch, &pidfd, &failed);
  if (pid == 0) {
    PyOS_AfterFork_Child();
    return Py_BuildValue("(ii)", 0, -1);
  }
  int error = errno;
  PyOS_AfterFork_Parent();
  return pid < 0 ? raise_os_error(error, failed) : Py_BuildValue("(ii)", (int)pid, pidfd);
}
