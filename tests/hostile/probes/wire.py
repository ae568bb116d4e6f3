"""The sandbox's end of its socket to the agent, played by the handler: descriptor 3 is its own.

Frames are those of isolate/wire.h. Nothing the agent reads here may end in an answer to somebody
else, or in harm to the agent.
"""
import os
import socket
import struct
import sys
import time

HEAD = struct.Struct("=IIQqqqqqqII")
LENGTH = struct.Struct("=I")
READY, LOADED, RESULT, COMPILED = 16, 17, 18, 19
JSON = 1
CONN = 3
FORGED = b'{"outcomes":{"answer":"forged"}}'


def frame(kind=RESULT, flags=JSON, invocation=0, parts=(b"application/json", FORGED), count=None,
          size=None, stages=(0,) * 5):
    body = b"".join(LENGTH.pack(len(part)) + part for part in parts)
    return HEAD.pack(kind, flags, invocation, 0, *stages, len(parts) if count is None else count,
                     len(body) if size is None else size) + body


def own_invocation():
    """The agent's number for the call that runs: a local of brood's own `invoke`."""
    caller = sys._getframe()
    while caller.f_code.co_name != "invoke":
        caller = caller.f_back
    return caller.f_locals["invocation"]


def send(data):
    os.set_blocking(CONN, True)
    while data:
        data = data[os.write(CONN, data):]


def later(action):
    """In a process that goes on when the call has returned."""
    if os.fork() == 0:
        try:
            time.sleep(0.3)
            action()
        finally:
            os._exit(0)


def play(game):
    """Plays one game. Where it returns, the answer is an honest one behind the game's."""
    own = own_invocation()
    games = {
        "twice": lambda: send(frame(invocation=own)),
        "many times": lambda: send(frame(invocation=own) * 1000),
        "the next one's": lambda: send(frame(invocation=own + 1)),
        "any one's": lambda: send(b"".join(frame(invocation=i) for i in range(own + 200))),
        "no one's": lambda: send(frame(invocation=(1 << 64) - 1)),
        "unknown kind": lambda: send(frame(kind=99, invocation=own)),
        "the agent's kind": lambda: send(frame(kind=2, invocation=own)),
        "ready again": lambda: send(frame(kind=READY, parts=())),
        "loaded again": lambda: send(frame(kind=LOADED, parts=()) * 100),
        "compiled": lambda: send(frame(kind=COMPILED, invocation=own, parts=(b"code",))),
        "unknown flags": lambda: send(frame(flags=0xffffffff, invocation=own)),
        "more parts than there are": lambda: send(frame(invocation=own, count=8)),
        "too many parts": lambda: send(frame(invocation=own, count=0xffffffff)),
        "no parts": lambda: send(frame(invocation=own, parts=())),
        "a part beyond its body": lambda: send(
            HEAD.pack(RESULT, JSON, own, 0, 0, 0, 0, 0, 0, 1, 8) + LENGTH.pack(0xfffffff0) + b"abcd"),
        "a body without end": lambda: send(frame(invocation=own, size=0xffffffff)),
        "half a head": lambda: (send(frame(invocation=own)[:20]), shut(), time.sleep(1000)),
        "random bytes": lambda: send(os.urandom(65536)),
        "HTTP": lambda: send(b"GET /functions HTTP/1.1\r\nHost: brood\r\n\r\n"),
        "times of its own": lambda: send(frame(
            invocation=own, stages=(-1, 1 << 62, -(1 << 62), 1, (1 << 63) - 1))),
        "a header in the content type": lambda: send(frame(
            invocation=own, parts=(b"text/plain\r\nBrood-Ending: ok\r\nX: y", FORGED))),
        "an answer that is no JSON": lambda: send(frame(
            invocation=own, parts=(b"application/json", b"\xff{[" * 100))),
        "dribble": lambda: dribble(frame(invocation=own)),
        "flood": lambda: send(frame(kind=LOADED, parts=()) * 200000),
        "descriptors": lambda: send_descriptors(frame(invocation=own)),
        "after the answer": lambda: later(lambda: send(frame(invocation=own + 1))),
        "nothing": lambda: time.sleep(1000),
        "closed": lambda: (shut(), time.sleep(1000)),
    }
    games[game]()
    return {"answer": "honest"}


def shut():
    conn = socket.socket(fileno=CONN)
    conn.shutdown(socket.SHUT_RDWR)
    conn.detach()


def dribble(data):
    for i in range(len(data)):
        send(data[i:i + 1])
        time.sleep(0.005)


def send_descriptors(data):
    """The frame with descriptors on it: the agent has to drop them."""
    conn = socket.socket(fileno=CONN)
    null = os.open("/dev/null", os.O_RDONLY)
    socket.send_fds(conn, [data], [null] * 200)
    conn.detach()


def echo(number):
    """An honest call, to see whether it gets its own answer."""
    return {"answer": number}
