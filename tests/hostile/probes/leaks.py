"""What one invocation can leave for another, and what siblings have in common."""
import builtins
import ctypes
import fcntl
import os
import random
import socket
import ssl
import tempfile
import threading
import uuid

from attempts import LIBC, call, word_of

KEPT = []
PORT = 45454
KEY = 0x62726f6f
SMALL_QUEUE = (ctypes.c_long * 8)(0, 4, 64)  # struct mq_attr: RLIMIT_MSGQUEUE is for one of the usual size


# --- leaving and looking --------------------------------------------------------------------------


def leave(mark):
    """One trace in every place that outlives a call, each by what it is."""
    for folder in ("/tmp", "/dev/shm"):
        with open("%s/%s" % (folder, mark), "w") as file:
            file.write(mark)
    os.environ["LEFT"] = mark
    builtins.left = mark
    os.chdir("/tmp")
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0left-" + mark)
    abstract.listen()
    port = socket.socket()
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port.bind(("127.0.0.1", PORT))
    port.listen()
    KEPT.extend((abstract, port))
    shared = LIBC.shmget(KEY, ctypes.c_size_t(4096), 0o1666)
    semaphores = LIBC.semget(KEY, 1, 0o1666)
    messages = LIBC.msgget(KEY, 0o1666)
    if min(shared, semaphores, messages) < 0:
        raise OSError(ctypes.get_errno(), "leaving System V objects")
    os.umask(0)
    ctypes.set_errno(0)
    LIBC.mq_open(b"/left", os.O_CREAT | os.O_RDWR, 0o666, SMALL_QUEUE)
    queue = word_of(ctypes.get_errno())
    key, _ = call("add_key", "user", "left", "left", 4, -4 & 0xffffffffffffffff)
    child = os.fork()
    if child == 0:
        threading.Event().wait()
    return {"left": "all", "queue": queue, "key": key}


def look(mark):
    """What there is of it."""
    def found(value):
        return "found" if value else "absent"
    names = LIBC.mq_open(b"/left", os.O_RDONLY)
    return {
        "/tmp": found(os.path.exists("/tmp/" + mark)),
        "/dev/shm": found(os.path.exists("/dev/shm/" + mark)),
        "any file": found(os.listdir("/tmp") or os.listdir("/dev/shm")),
        "environment": found(os.environ.get("LEFT") == mark),
        "modules": found(getattr(builtins, "left", None) == mark),
        "folder": found(os.getcwd() != "/"),
        "abstract socket": found(answers(socket.AF_UNIX, "\0left-" + mark)),
        "port": found(answers(socket.AF_INET, ("127.0.0.1", PORT))),
        "shared memory": found(LIBC.shmget(KEY, 0, 0) != -1),
        "semaphores": found(LIBC.semget(KEY, 0, 0) != -1),
        "messages": found(LIBC.msgget(KEY, 0) != -1),
        "message queue": found(names != -1),
        "processes": found(others()),
    }


def answers(family, address):
    with socket.socket(family) as peer:
        try:
            peer.connect(address)
        except OSError:
            return False
    return True


def others():
    own = str(os.getpid())
    return [name for name in os.listdir("/proc") if name.isdigit() and name != own]


# --- the invocation before ------------------------------------------------------------------------


def remember(secret):
    """Takes a secret in, as an invocation's payload is."""
    return {"taken": "yes" if secret else "no"}


def search_memory(backwards):
    """Looks for a text in all memory of this process that can be read. It is given backwards, so
    that the search finds what others have left, and its own copy once."""
    wanted = backwards[::-1].encode()
    hits = 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            begin, end = (int(value, 16) for value in span.split("-"))
            if "r" not in rights or end - begin > 64 << 20 or begin >= 1 << 47:
                continue
            try:
                memory.seek(begin)
                hits += memory.read(end - begin).count(wanted)
            except OSError:
                continue
    return {"hits": str(hits)}


# --- siblings -------------------------------------------------------------------------------------


def draw():
    """A value of every source of random numbers that Python has."""
    return {
        "random": str(random.random()),
        "random.randbytes": random.randbytes(16).hex(),
        "SystemRandom": str(random.SystemRandom().getrandbits(64)),
        "os.urandom": os.urandom(16).hex(),
        "getrandom": os.getrandom(16).hex(),
        "ssl": ssl.RAND_bytes(16).hex(),
        "uuid1": str(uuid.uuid1()),
        "uuid4": str(uuid.uuid4()),
        "tempfile": next(tempfile._get_candidate_names()),
        "boot id": open("/proc/sys/kernel/random/uuid").read().strip(),
    }


def layout():
    """Where things are, and what strings hash to: the same in all forks of one zygote."""
    libc = ctypes.cast(LIBC.getpid, ctypes.c_void_p).value
    with open("/proc/self/maps") as maps:
        stack = next(line.split("-")[0] for line in maps if "[stack]" in line)
    return {"libc": hex(libc), "stack": stack, "builtins": hex(id(builtins)),
            "hash": str(hash("brood"))}


# --- signals between functions --------------------------------------------------------------------


def lock(path):
    fd = os.open(path, os.O_RDONLY)
    KEPT.append(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return {path: "held by another"}
    return {path: "taken"}


def watch(path):
    """Begins to watch: `seen` says what came."""
    fd = LIBC.inotify_init1(os.O_NONBLOCK)
    if fd < 0 or LIBC.inotify_add_watch(fd, path.encode(), 0x20) < 0:  # IN_OPEN
        raise OSError(ctypes.get_errno(), "inotify")
    KEPT.append(fd)
    return {path: "watched"}


def seen(path):
    try:
        os.read(KEPT[-1], 4096)
    except BlockingIOError:
        return {path: "quiet"}
    return {path: "seen"}


def touch(path):
    os.close(os.open(path, os.O_RDONLY))
    return {path: "opened"}


def counters(paths):
    """Whether each can be read."""
    found = {}
    for path in paths:
        try:
            with open(path, "rb") as file:
                found[path] = "read" if file.read(1) else "empty"
        except OSError:
            found[path] = "absent"
    return found



def variables(names):
    """Whether each is in the environment, as Python or the kernel has it."""
    with open("/proc/self/environ", "rb") as file:
        block = file.read()
    return {name: "there" if name in os.environ or name.encode() in block else "absent"
            for name in names}


def environment_is(values):
    """Whether each arrived as it was given."""
    return {name: "literal" if os.environ.get(name) == value else repr(os.environ.get(name))
            for name, value in values.items()}
