"""Takes of each resource until it is refused, or until `limit`: that would be `no bound`.

What is taken is kept until the process ends, so that it can be looked at from outside.
"""
import ctypes
import mmap
import os
import signal
import socket
import sys
import threading
import time

from attempts import LIBC, word_of

MIB = 1 << 20
PAGE = 4096
KEPT = []


def take(what, one, limit):
    """Calls `one` until it is refused."""
    taken = 0
    try:
        while taken < limit:
            taken += one() or 1
    except OSError as error:
        return {what: word_of(error.errno)}
    except (MemoryError, RuntimeError):  # what Python makes of ENOMEM, and of EAGAIN for a thread
        return {what: "refused"}
    return {what: "no bound"}


def checked(result, what):
    if result == -1:
        raise OSError(ctypes.get_errno(), what)
    return result


# --- memory, by each route ------------------------------------------------------------------------


def anonymous():
    memory = mmap.mmap(-1, 4 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, len(memory), PAGE):
        memory[offset] = 1
    KEPT.append(memory)
    return len(memory)


def shared():
    memory = mmap.mmap(-1, 4 * MIB, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    for offset in range(0, len(memory), PAGE):
        memory[offset] = 1
    KEPT.append(memory)
    return len(memory)


def memfd():
    fd = os.memfd_create("hostile")
    KEPT.append(fd)
    return os.write(fd, b"\0" * (4 * MIB))


def tmpfs():
    fd = os.open("/tmp/filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return os.write(fd, b"\0" * MIB)
    finally:
        os.close(fd)


def pipe():
    reader, writer = os.pipe()
    KEPT.append((reader, writer))
    os.set_blocking(writer, False)
    try:
        import fcntl

        fcntl.fcntl(writer, 1031, MIB)  # F_SETPIPE_SZ
    except OSError:
        pass
    return os.write(writer, b"\0" * MIB)


def socket_buffer():
    ours, other = socket.socketpair()
    KEPT.append((ours, other))
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)
    taken = 0
    try:
        while taken < 4 * MIB:
            taken += ours.send(b"\0" * 65536)
    except BlockingIOError:
        pass
    return taken


def system_v():
    LIBC.shmat.restype = ctypes.c_void_p
    segment = checked(LIBC.shmget(0, ctypes.c_size_t(4 * MIB), 0o1600), "shmget")
    address = LIBC.shmat(segment, None, 0)
    ctypes.memset(address, 1, 4 * MIB)
    LIBC.shmdt(ctypes.c_void_p(address))
    return 4 * MIB


def page_tables():
    """One page in each 2 MiB: as much again for the tables as for the pages."""
    memory = mmap.mmap(-1, 512 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(15)  # MADV_NOHUGEPAGE
    KEPT.append(memory)
    for offset in range(0, len(memory), 2 * MIB):
        memory[offset] = 1
    return len(memory) // (2 * MIB) * PAGE * 2


def semaphores():
    checked(LIBC.semget(0, 16000, 0o1600), "semget")
    return 16000 * 64


def messages():
    queue = checked(LIBC.msgget(0, 0o1600), "msgget")
    message = ctypes.create_string_buffer(b"\1" + b"\0" * 8200)
    for _ in range(2):
        if LIBC.msgsnd(queue, message, ctypes.c_size_t(8000), 0o4000) == -1:
            break
    return 16000


MEMORY = {"anonymous": anonymous, "shared": shared, "memfd": memfd, "tmpfs": tmpfs, "pipe": pipe,
          "socket": socket_buffer, "system v": system_v, "page tables": page_tables,
          "semaphores": semaphores, "messages": messages}


def memory(route, limit):
    return take(route, MEMORY[route], limit)


# --- objects --------------------------------------------------------------------------------------


def children(limit):
    """Processes that wait to be killed."""
    def one():
        pid = os.fork()
        if pid == 0:
            signal.pause()
        KEPT.append(pid)
    outcomes = take("fork", one, limit)
    for pid in KEPT:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return outcomes


def bomb(seconds):
    """Forks in every process that there is, until none may be made; then waits."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.fork()
        except OSError:
            time.sleep(0.05)
    os._exit(0)


def threads(limit):
    stop = threading.Event()
    threading.stack_size(65536)

    def one():
        thread = threading.Thread(target=stop.wait, daemon=True)
        thread.start()
    outcomes = take("thread", one, limit)
    stop.set()
    return outcomes


def descriptors(limit):
    return take("open", lambda: KEPT.append(os.open("/dev/null", os.O_RDONLY)), limit)


def inotify(limit):
    return take("inotify_init", lambda: KEPT.append(checked(LIBC.inotify_init1(0), "inotify")), limit)


def epoll(limit):
    import select

    return take("epoll_create", lambda: KEPT.append(select.epoll()), limit)


def queues(limit):
    LIBC.mq_open.restype = ctypes.c_int
    names = iter(range(1 << 20))

    def one():
        name = b"/hostile-%d" % next(names)
        KEPT.append(checked(LIBC.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None), "mq_open"))
    return take("mq_open", one, limit)


def timers(limit):
    def one():
        timer = ctypes.c_void_p()
        checked(LIBC.timer_create(1, None, ctypes.byref(timer)), "timer_create")
    return take("timer_create", one, limit)


def queued_signals(limit):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    value = ctypes.c_void_p(0)
    return take("sigqueue", lambda: checked(
        LIBC.sigqueue(os.getpid(), signal.SIGRTMIN, value), "sigqueue") and 1, limit)


def descriptors_in_flight(limit):
    """Sockets in messages that nobody receives: they count, though nobody has them open."""
    def one():
        ours, other = socket.socketpair()
        inner = socket.socketpair()
        socket.send_fds(ours, [b"x"], [inner[0].fileno(), inner[1].fileno()] * 100)
        inner[0].close()
        inner[1].close()
        KEPT.append((ours, other))
        return 200
    return take("send", one, limit)


def deep_folders(depth):
    """A tree that whoever walks it by recursion would not come back from."""
    os.chdir("/tmp")
    made = 0
    try:
        while made < depth:
            os.mkdir("d")
            os.chdir("d")
            made += 1
    except OSError as error:
        return {"mkdir": word_of(error.errno)}
    finally:
        os.chdir("/")
    return {"mkdir": "as deep as wanted"}


def long_lists(size):
    """A program started with more arguments than fit."""
    try:
        os.posix_spawn("/bin/true", ["true", "x" * size], {})
    except OSError as error:
        return {"exec": word_of(error.errno)}
    return {"exec": "ok"}


# --- time and output ------------------------------------------------------------------------------


def spin(threads, seconds):
    """Processes that only compute, for `seconds` of wall time."""
    end = time.monotonic() + seconds
    pids = []
    for _ in range(threads):
        pid = os.fork()
        if pid == 0:
            while time.monotonic() < end:
                pass
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    return {"spun": str(threads)}


def hang(how):
    if how == "sleep":
        while True:
            time.sleep(1000)
    while True:
        pass


def flood(size, line):
    """Prints `size` bytes in lines of `line` bytes; 0: in none."""
    piece = (b"x" * (line - 1) + b"\n") * max(1, 65536 // line) if line else b"x" * 65536
    for _ in range(size // len(piece)):
        os.write(1, piece)
    return {"printed": "all"}


def answer(size):
    """As the handler's own answer, not as an outcome: the drive looks at how it ended."""
    return {"a": "x" * size}


def deep_answer(depth):
    value = []
    for _ in range(depth):
        value = [value]
    sys.setrecursionlimit(100)
    return {"deep": value}


def file_sizes(limit):
    """One file, as large as it gets."""
    fd = os.open("/tmp/one", os.O_WRONLY | os.O_CREAT, 0o600)
    return take("write", lambda: os.write(fd, b"\0" * MIB), limit)
