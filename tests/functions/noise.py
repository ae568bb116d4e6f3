"""Attacks one resource for as long as the event says, and answers how often it did."""
import ctypes
import os
import select
import signal
import socket
import time

LIBC = ctypes.CDLL(None, use_errno=True)
IPC_CREAT, IPC_RMID = 0o1000, 0
PIECE = b"\1" * (1 << 20)


def busy(until):
    while time.monotonic() < until:
        pass


def in_children(count, work, until):
    """Signals reap: a child that is forked while others end takes their place."""
    children = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            work(until)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    return count


def spin(until):
    return in_children(16, busy, until)


def memory(until):
    """Most of what it may have, written again and again."""
    pieces = []
    written = 0
    while time.monotonic() < until:
        if len(pieces) < 32:
            pieces.append(bytearray(PIECE))
        else:
            pieces[written % 32][:] = PIECE
        written += 1
    return written


def too_much_memory(until):
    pieces = []
    while True:
        pieces.append(bytearray(PIECE))


def fork_bomb(until):
    """Forks until it is refused, ends them all, and begins again."""
    forks = 0
    while time.monotonic() < until:
        children = []
        try:
            while time.monotonic() < until:
                pid = os.fork()
                if pid == 0:
                    busy(until)
                    os._exit(0)
                children.append(pid)
        except OSError:
            pass
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        forks += len(children)
    return forks


def files(until):
    """Fills its scratch space to half of its memory, which holds it too, empties it, fills it."""
    written = 0
    room = int(os.environ["BROOD_MEMORY_BYTES"]) // 2
    while time.monotonic() < until:
        with open("/tmp/filler", "wb", buffering=0) as file:
            try:
                while time.monotonic() < until and file.tell() < room:
                    written += file.write(PIECE)
            except OSError:
                pass
        os.unlink("/tmp/filler")
    return written


def fill(end):
    os.set_blocking(end, False)
    try:
        while True:
            os.write(end, PIECE[:65536])
    except OSError:
        pass


def buffers(until):
    """Pipes and sockets, full, as many as it can open."""
    made = 0
    while time.monotonic() < until:
        held = []
        try:
            while time.monotonic() < until:
                reader, writer = os.pipe()
                held += [reader, writer]
                fill(writer)
                left, right = socket.socketpair()
                held += [left.detach(), right.detach()]
                fill(held[-1])
        except OSError:
            pass
        for end in held:
            os.close(end)
        made += len(held)
    return made


def output(until):
    lines = b"x" * 100 + b"\n"
    written = 0
    while time.monotonic() < until:
        written += os.write(1, lines * 600)
    return written


def short_lines(until):
    """A line of the log for every byte."""
    written = 0
    while time.monotonic() < until:
        written += os.write(1, b"\n" * 65536)
    return written


def until_refused(until, make, destroy):
    made = 0
    while time.monotonic() < until:
        held = []
        while time.monotonic() < until:
            one = make(len(held))
            if one < 0:
                break
            held.append(one)
        for one in held:
            destroy(one)
        made += len(held)
    return made


def descriptors(until):
    def make(_):
        try:
            return os.open("/dev/null", os.O_RDONLY)
        except OSError:
            return -1
    return until_refused(until, make, os.close)


def watches(until):
    """inotify and epoll instances, each with something to watch."""
    def make(number):
        fd = LIBC.inotify_init1(0) if number % 2 == 0 else LIBC.epoll_create1(0)
        if fd >= 0 and number % 2 == 0:
            LIBC.inotify_add_watch(fd, b"/tmp", 0xfff)
        return fd
    return until_refused(until, make, os.close)


def ipc(until):
    """Segments of shared memory, each touched, and queues of messages."""
    LIBC.shmat.restype = ctypes.c_void_p

    def make(number):
        one = LIBC.shmget(0, 1 << 16, IPC_CREAT | 0o600)
        LIBC.msgget(0, IPC_CREAT | 0o600)
        if one >= 0:
            LIBC.shmdt(ctypes.c_void_p(LIBC.shmat(one, None, 0)))
        return one
    return until_refused(until, make, lambda one: LIBC.shmctl(one, IPC_RMID, None))


def main(event, context):
    if event["do"] == "fail":
        raise RuntimeError("as it was asked to")
    return globals()[event["do"]](time.monotonic() + event["seconds"])
