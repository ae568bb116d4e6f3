/* The block of environment that a bind carries, as the interpreter's side puts it in place. Aborts
 * when what is put is not KEY=VALUE. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void require(int holds) {
  if (!holds) {
    abort();
  }
}

static char* block_put; /* the first entry, where the module's own copy begins */

static int fuzz_putenv(char* entry) {
  const char* equals = strchr(entry, '=');
  require(equals != NULL && equals != entry);
  if (block_put == NULL) {
    block_put = entry;
  }
  return 0;
}

#define putenv fuzz_putenv
#include "runtimes/python/module.c"
#undef putenv

/* The parts of the module that are not under test here. */
#define NOT_HERE(name)                               \
  PyObject* name(PyObject* module, PyObject* args) { \
    (void)module;                                    \
    (void)args;                                      \
    return NULL;                                     \
  }
NOT_HERE(brood_py_receive)
NOT_HERE(brood_py_send)
NOT_HERE(brood_py_receive_control)
NOT_HERE(brood_py_send_control)
NOT_HERE(brood_py_configure)
NOT_HERE(brood_py_spawn)
NOT_HERE(brood_py_child_events)

const char* __asan_default_options(void);
const char* __asan_default_options(void) {
  return "detect_leaks=0";
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (!Py_IsInitialized()) {
    setenv("PYTHONMALLOC", "malloc", 1);
    Py_InitializeEx(0);
  }
  PyObject* block = PyBytes_FromStringAndSize((const char*)data, (Py_ssize_t)size);
  block_put = NULL;
  PyObject* done = brood_py_put_environment(NULL, block);
  require((done == NULL) == (PyErr_Occurred() != NULL));
  PyErr_Clear();
  Py_XDECREF(done);
  Py_DECREF(block);
  free(block_put);
  return 0;
}
