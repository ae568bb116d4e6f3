/* `_brood`: what a Python zygote and its sandboxes cannot do, or not fast enough, in Python. Built
 * once on the host against the stable ABI of CPython 3.8, and loaded by whatever newer CPython an
 * image has. Everything here runs with the GIL held, in a process of one thread, but for `receive`
 * and `send`, which let go of the GIL while they wait: a handler may have left threads behind.
 */
#ifndef BROOD_RUNTIMES_PYTHON_MODULE_H
#define BROOD_RUNTIMES_PYTHON_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#include "isolate/wire.h"

int64_t brood_now_ns(void); /* CLOCK_MONOTONIC */

/* frames.c */

/* receive(fd) -> (kind, flags, invocation, deadline_ns, woken_ns, parts) or None at the end of the
 * stream. Bytes read past the frame are kept for the next call, so there is one fd per process
 * (two while rehearsing, and then every frame is taken to its end). */
PyObject* brood_py_receive(PyObject* module, PyObject* args);
/* send(fd, kind, flags, invocation, stages, parts): `stages` are the first of stage_ns; when there
 * are four, the fifth (encoded) is the time of the call. `parts` are bytes objects. */
PyObject* brood_py_send(PyObject* module, PyObject* args);

/* control.c */

/* receive_control(fd) -> (kind, value, sandbox, uid_first, uid_count, hostname, fds) or None at the
 * end. The descriptors are the caller's. */
PyObject* brood_py_receive_control(PyObject* module, PyObject* args);
/* send_control(fd, kind, value, sandbox, text, fds): text is cut to its field. */
PyObject* brood_py_send_control(PyObject* module, PyObject* args);

/* spawn.c */

/* configure(fd): maps the plan in a sealed memfd; ValueError where it is none. */
PyObject* brood_py_configure(PyObject* module, PyObject* args);
/* spawn(uid_first, uid_count, hostname, fds) -> (pid, pidfd) in the zygote, (0, -1) in the process
 * of the handler, which then is complete, locked down and holds BROOD_CONN_FD. OSError in the
 * zygote when no sandbox was made. The caller must have one thread only. Closes nothing. */
PyObject* brood_py_spawn(PyObject* module, PyObject* args);
/* child_events() -> a descriptor that is readable after a child has ended. Call once. */
PyObject* brood_py_child_events(PyObject* module, PyObject* unused);
/* set_limits(data_bytes, processes): RLIMIT_DATA and RLIMIT_NPROC, for hosts whose cgroups cannot
 * hold a function to them. */
PyObject* brood_py_set_limits(PyObject* module, PyObject* args);
/* put_environment(block): KEY=VALUE entries, each ended by NUL, into the process's environment.
 * os.environ does not learn of it. ValueError for an entry that is none. */
PyObject* brood_py_put_environment(PyObject* module, PyObject* block);

#endif
