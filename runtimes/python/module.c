#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/slice.h"
#include "brood_module.h"

int64_t brood_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static PyObject* monotonic_ns(PyObject* module, PyObject* unused) {
  (void)module;
  (void)unused;
  return PyLong_FromLongLong(brood_now_ns());
}

/* Never above the hard limit: raising one needs CAP_SYS_RESOURCE. */
static int lower_limit(int resource, unsigned long long wanted) {
  struct rlimit limit;
  if (getrlimit(resource, &limit) != 0) {
    return -1;
  }
  if (limit.rlim_max > wanted) {
    limit.rlim_max = wanted;
  }
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(resource, &limit);
}

PyObject* brood_py_set_limits(PyObject* module, PyObject* args) {
  (void)module;
  unsigned long long data = 0;
  unsigned long long processes = 0;
  if (!PyArg_ParseTuple(args, "KK", &data, &processes)) {
    return NULL;
  }
  if (lower_limit(RLIMIT_DATA, data) != 0 || lower_limit(RLIMIT_NPROC, processes) != 0) {
    return PyErr_SetFromErrno(PyExc_OSError);
  }
  Py_RETURN_NONE;
}

/* putenv(3) where os.environ uses setenv(3), which looks for every value in a tree of all values
 * that were ever set, and writes to it: pages that a fork would have to copy. */
PyObject* brood_py_put_environment(PyObject* module, PyObject* block) {
  (void)module;
  char* bytes = NULL;
  Py_ssize_t size = 0;
  if (PyBytes_AsStringAndSize(block, &bytes, &size) != 0) {
    return NULL;
  }
  /* The environment's own from here on: what is in it is never given back. */
  static char* kept;
  kept = malloc((size_t)size + 1);
  if (kept == NULL) {
    return PyErr_SetFromErrno(PyExc_OSError);
  }
  memcpy(kept, bytes, (size_t)size + 1); /* a bytes object ends in NUL */
  for (char* entry = kept; entry < kept + size; entry += strlen(entry) + 1) {
    const char* equals = strchr(entry, '=');
    if (equals == NULL || equals == entry) {
      PyErr_SetString(PyExc_ValueError, "an entry of the environment is not KEY=VALUE");
      return NULL;
    }
    /* One thread, still. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    if (putenv(entry) != 0) {
      return PyErr_SetFromErrno(PyExc_OSError);
    }
  }
  Py_RETURN_NONE;
}

/* Where it is refused, all that is lost is time. */
static PyObject* wake_soon(PyObject* module, PyObject* unused) {
  (void)module;
  (void)unused;
  (void)brood_set_slice(BROOD_HANDLER_SLICE_NS, 0, 0);
  Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"wake_soon", wake_soon, METH_NOARGS, NULL},
    {"monotonic_ns", monotonic_ns, METH_NOARGS, NULL},
    {"receive", brood_py_receive, METH_VARARGS, NULL},
    {"send", brood_py_send, METH_VARARGS, NULL},
    {"receive_control", brood_py_receive_control, METH_VARARGS, NULL},
    {"send_control", brood_py_send_control, METH_VARARGS, NULL},
    {"configure", brood_py_configure, METH_VARARGS, NULL},
    {"spawn", brood_py_spawn, METH_VARARGS, NULL},
    {"child_events", brood_py_child_events, METH_NOARGS, NULL},
    {"set_limits", brood_py_set_limits, METH_VARARGS, NULL},
    {"put_environment", brood_py_put_environment, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_brood",
    .m_doc = "What a zygote and its sandboxes need of the kernel.",
    .m_size = -1, /* one buffer, one plan: one interpreter */
    .m_methods = functions,
};

static const struct {
  const char* name;
  long value;
} constants[] = {
    {"WIRE_VERSION", BROOD_WIRE_VERSION},
    {"CONFIGURE", BROOD_CONFIGURE},
    {"SPAWN", BROOD_SPAWN},
    {"STOP", BROOD_STOP},
    {"BOOTED", BROOD_BOOTED},
    {"SPAWNED", BROOD_SPAWNED},
    {"SPAWN_FAILED", BROOD_SPAWN_FAILED},
    {"EXITED", BROOD_EXITED},
    {"BIND", BROOD_FRAME_BIND},
    {"INVOKE", BROOD_FRAME_INVOKE},
    {"COMPILE", BROOD_FRAME_COMPILE},
    {"READY", BROOD_FRAME_READY},
    {"LOADED", BROOD_FRAME_LOADED},
    {"RESULT", BROOD_FRAME_RESULT},
    {"COMPILED", BROOD_FRAME_COMPILED},
    {"FLAG_JSON", BROOD_FLAG_JSON},
    {"FLAG_ERROR", BROOD_FLAG_ERROR},
    {"FLAG_INIT", BROOD_FLAG_INIT},
    {"FLAG_MEMORY", BROOD_FLAG_MEMORY},
    {"FLAG_TOO_LARGE", BROOD_FLAG_TOO_LARGE},
    {"FLAG_SOFT_LIMITS", BROOD_FLAG_SOFT_LIMITS},
    {"FLAG_LAYERS", BROOD_FLAG_LAYERS},
    {"FLAG_IMPORTS", BROOD_FLAG_IMPORTS},
    {"AWAITED", BROOD_AWAITED},
    {"CONN_FD", BROOD_CONN_FD},
    {"SPAWN_FD_COUNT", BROOD_SPAWN_FD_COUNT},
};

PyMODINIT_FUNC PyInit__brood(void) {
  PyObject* module = PyModule_Create(&definition);
  if (module == NULL) {
    return NULL;
  }
  for (size_t i = 0; i < sizeof constants / sizeof *constants; ++i) {
    if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) != 0) {
      Py_DECREF(module);
      return NULL;
    }
  }
  if (PyModule_AddStringConstant(module, "CODE_DIR", BROOD_CODE_DIR) != 0 ||
      PyModule_AddStringConstant(module, "LAYERS_DIR", BROOD_LAYERS_DIR) != 0) {
    Py_DECREF(module);
    return NULL;
  }
  return module;
}
