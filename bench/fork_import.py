"""What a cold start costs without brood: a booted interpreter forks, imports, and calls.

Run by brood-bench in an image's root, as
    python3 -I -c THIS HANDLER_SOURCE
with a socket as fd 3. Each line that comes is an event; each is answered by a line: nanoseconds from
before the fork to the answer's first byte at the parent, a space, and the answer.

A line "churn SECONDS AT_ONCE" is answered by a rate: processes a second, each forked, put into new namespaces of
every kind, calling the handler with the last event, and ended, with at most AT_ONCE of them alive.
"""

import ctypes
import importlib
import json
import os
import py_compile
import socket
import sys
import time

HANDLER_DIR = "/tmp/function"
EVERY_NAMESPACE = (0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 |
                   0x40000000)  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET
libc = ctypes.CDLL(None, use_errno=True)
encode = json.JSONEncoder(separators=(",", ":")).encode


def place_handler(source):
    """With its byte code beside it, as code that was imported before has it."""
    os.mkdir(HANDLER_DIR)
    path = os.path.join(HANDLER_DIR, "handler.py")
    with open(path, "w") as file:
        file.write(source)
    py_compile.compile(path, doraise=True)
    sys.path.insert(0, HANDLER_DIR)


def call(event, to):
    handler = importlib.import_module("handler")
    to.sendall(encode(handler.main(json.loads(event), None)).encode())


def fork_and_call(event):
    ours, theirs = socket.socketpair()
    began = time.monotonic_ns()
    pid = os.fork()
    if pid == 0:
        try:
            call(event, theirs)
        finally:
            os._exit(0)
    theirs.close()
    answer = ours.recv(1)
    took = time.monotonic_ns() - began
    while True:
        more = ours.recv(65536)
        if not more:
            break
        answer += more
    ours.close()
    os.waitpid(pid, 0)
    return b"%d %s\n" % (took, answer)


def isolated_process(event):
    pid = os.fork()
    if pid != 0:
        return
    status = 1
    try:
        if libc.unshare(EVERY_NAMESPACE) != 0:
            status = ctypes.get_errno()
        else:
            handler = importlib.import_module("handler")
            encode(handler.main(json.loads(event), None))
            status = 0
    finally:
        os._exit(status)


def churn(event, seconds, at_once):
    """Processes a second; or why there are none."""
    alive = ended = 0
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        isolated_process(event)
        alive += 1
        if alive == at_once:
            _, status = os.wait()
            if status != 0:
                return b"a process ended with status %d (an errno)\n" % os.waitstatus_to_exitcode(status)
            alive -= 1
            ended += 1
    took = time.monotonic() - began
    for _ in range(alive):
        os.wait()
    return b"%.3f\n" % (ended / took)


def main():
    place_handler(sys.argv[1])
    import collections  # noqa: F401: what the handler imports, a fork server has loaded

    bench = socket.socket(fileno=3)
    bench.sendall(b"ready\n")
    event = b'{"number":1000000,"text":""}'
    for line in bench.makefile("rb"):
        if line.startswith(b"churn "):
            bench.sendall(churn(event, *map(int, line.split()[1:])))
        else:
            event = line
            bench.sendall(fork_and_call(event))


main()
