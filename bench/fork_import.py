"""What a cold start costs without brood: a booted interpreter forks, imports, and calls.

Run by brood-bench in an image's root, as
    python3 -I -c THIS HANDLER_SOURCE
with a socket as fd 3. Each line that comes is an event; each is answered by a line: nanoseconds from
before the fork to the answer's first byte at the parent, a space, and the answer.
"""

import importlib
import json
import os
import py_compile
import socket
import sys
import time

HANDLER_DIR = "/tmp/function"
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


def main():
    place_handler(sys.argv[1])
    import collections  # noqa: F401: what the handler imports, a fork server has loaded

    bench = socket.socket(fileno=3)
    bench.sendall(b"ready\n")
    for event in bench.makefile("rb"):
        bench.sendall(fork_and_call(event))


main()
