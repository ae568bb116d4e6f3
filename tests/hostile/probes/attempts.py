"""Attempts, and words for how they went: `ok`, an errno's name, or what else there was to see."""
import ctypes
import errno
import json
import os
import platform
import signal
import traceback

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long

# By name: the number on x86_64, on aarch64.
NUMBERS = {
    "acct": (163, 89), "add_key": (248, 217), "adjtimex": (159, 171), "bpf": (321, 280),
    "chroot": (161, 51), "clock_adjtime": (305, 266), "clock_settime": (227, 112),
    "clone": (56, 220), "clone3": (435, 435), "create_module": (174, -1),
    "delete_module": (176, 106), "fanotify_init": (300, 262), "fchmodat": (268, 53),
    "finit_module": (313, 273), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fsopen": (430, 430), "fspick": (433, 433), "init_module": (175, 105),
    "io_setup": (206, 0), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425), "ioperm": (173, -1), "iopl": (172, -1), "kcmp": (312, 272),
    "kexec_file_load": (320, 294), "kexec_load": (246, 104), "keyctl": (250, 219),
    "landlock_create_ruleset": (444, 444), "lookup_dcookie": (212, 18), "mbind": (237, 235),
    "memfd_secret": (447, 447), "migrate_pages": (256, 238), "mknodat": (259, 33),
    "modify_ldt": (154, -1), "mount": (165, 40), "mount_setattr": (442, 442),
    "move_mount": (429, 429), "move_pages": (279, 239), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "open_tree": (428, 428), "perf_event_open": (298, 241),
    "personality": (135, 92), "pidfd_getfd": (438, 438), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pivot_root": (155, 41), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "reboot": (169, 142), "remap_file_pages": (216, 234),
    "request_key": (249, 218), "sethostname": (170, 161), "setdomainname": (171, 162),
    "setns": (308, 268), "settimeofday": (164, 170), "setxattr": (188, 5), "swapoff": (168, 225),
    "swapon": (167, 224), "sync": (162, 81), "syncfs": (306, 267), "syslog": (103, 116),
    "sysctl": (156, -1), "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282),
    "ustat": (136, -1), "uselib": (134, -1), "vhangup": (153, 58), "vmsplice": (278, 75),
}
COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]

KEPT = []  # buffers whose addresses the kernel was given


def word_of(number):
    if number == errno.EOPNOTSUPP:
        return "EOPNOTSUPP"  # has a second name, which Python prefers
    return errno.errorcode.get(number, str(number)) if number else "ok"


def call(name, *arguments):
    """The outcome of a raw system call, and what it returned."""
    ctypes.set_errno(0)
    result = LIBC.syscall(ctypes.c_long(NUMBERS[name][COLUMN]), *map(argument_of, arguments))
    return (word_of(ctypes.get_errno()) if result == -1 else "ok"), result


def argument_of(value):
    """Numbers as they are, text as C text, {"fd": PATH} as a descriptor, {"buffer": N} as memory,
    {"pid": "self"} as a process."""
    if isinstance(value, str):
        return ctypes.c_char_p(value.encode())
    if isinstance(value, bytes):
        return ctypes.c_char_p(value)
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, ctypes.Array):
        return value
    (kind, what), = value.items()
    if kind == "fd":
        return ctypes.c_long(os.open(what, os.O_RDONLY))
    if kind == "buffer":
        KEPT.append(ctypes.create_string_buffer(what))
        return KEPT[-1]
    if kind == "pid":
        return ctypes.c_long(os.getpid())
    raise ValueError("an argument of the kind %r" % kind)


def attempt(action, *arguments):
    """How an action of Python's went."""
    try:
        action(*arguments)
    except OSError as error:
        return word_of(error.errno)
    return "ok"


def in_child(action, *arguments):
    """What `action` returns, found by a child; or the name of the signal that ended it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            os.write(writer, json.dumps(action(*arguments)).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    if not said:
        raise RuntimeError("the child that was to try ended with status %d" % status)
    return json.loads(said)


def write(path, text="1"):
    """`masked` where the null device lies over it."""
    try:
        fd = os.open(path, os.O_WRONLY)
    except OSError as error:
        return word_of(error.errno)
    try:
        outcome = attempt(os.write, fd, text.encode())
        return "masked" if os.fstat(fd).st_rdev == os.makedev(1, 3) else outcome
    finally:
        os.close(fd)


def read(path):
    """`ok` where there was something to read, else `empty` or the errno."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return word_of(error.errno)
    try:
        return "ok" if os.read(fd, 4096) else "empty"
    except OSError as error:
        return word_of(error.errno)
    finally:
        os.close(fd)


def entries(path):
    """`ok` where a directory has entries, else `empty` or the errno."""
    try:
        return "ok" if os.listdir(path) else "empty"
    except OSError as error:
        return word_of(error.errno)


def create(path):
    return attempt(lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)))
