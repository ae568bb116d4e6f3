"""Tries what no sandbox may do. Runs in a sandbox only: outside of one, as root, it would do harm.

Each attempt answers with the errno that it was refused with, or 0 where it was not refused.
"""
import ctypes
import errno
import fcntl
import os
import platform
import resource
import signal
import socket
import stat
import struct

if os.getpid() == 1 or os.geteuid() == 0:
    raise SystemExit("this is for the inside of a sandbox")

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100

# By name: the number on x86_64, on aarch64.
NUMBERS = {
    "unshare": (272, 97), "clone": (56, 220), "clone3": (435, 435), "setns": (308, 268),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsmount": (432, 432), "mount_setattr": (442, 442),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "io_uring_setup": (425, 425), "io_setup": (206, 0), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "name_to_handle_at": (303, 264), "fanotify_init": (300, 262),
    "sethostname": (170, 161), "setdomainname": (171, 162), "clock_settime": (227, 112),
    "settimeofday": (164, 170), "adjtimex": (159, 171), "syslog": (103, 116),
    "quotactl": (179, 60), "memfd_secret": (447, 447), "vmsplice": (278, 75),
    "mbind": (237, 235), "move_pages": (279, 239), "personality": (135, 92),
    "mknodat": (259, 33), "vhangup": (153, 58), "unknown": (1000, 1000),
}
COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
NAMESPACES = {"user": 0x10000000, "mnt": 0x20000, "pid": 0x20000000, "net": 0x40000000,
              "ipc": 0x8000000, "uts": 0x4000000, "cgroup": 0x2000000}


def call(name, *arguments):
    ctypes.set_errno(0)
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = LIBC.syscall(ctypes.c_long(NUMBERS[name][COLUMN]), *wide)
    return ctypes.get_errno() if result == -1 else 0


def attempt(action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        return error.errno
    except ValueError:  # setrlimit: over the hard limit
        return errno.EPERM
    return 0


def write(path, text="1"):
    def action():
        fd = os.open(path, os.O_WRONLY)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    return attempt(action)


def create(path):
    return attempt(lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)))


def read(path):
    """ENODATA where there is nothing to read, as behind a mask."""
    def action():
        with open(path, "rb") as file:
            if not file.read(16):
                raise OSError(errno.ENODATA, path)
    return attempt(action)


def new_socket(family, kind, protocol=0):
    return attempt(lambda: socket.socket(family, kind, protocol).close())


def connect_abstract(name):
    def action():
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect("\0" + name)
    return attempt(action)


def connect_host(port):
    def action():
        with socket.socket() as peer:
            peer.settimeout(2)
            peer.connect(("127.0.0.1", port))
    return attempt(action)


def connect_outside():
    def action():
        with socket.socket() as peer:
            peer.settimeout(2)
            peer.connect(("192.0.2.1", 80))
    return attempt(action)


def calls():
    found = {"unshare " + name: call("unshare", flag) for name, flag in NAMESPACES.items()}
    found.update({"clone " + name: call("clone", flag | signal.SIGCHLD, 0, 0, 0, 0)
                  for name, flag in NAMESPACES.items()})
    found.update({
        "clone3": call("clone3", None, 0),
        "setns": call("setns", os.open("/proc/self/ns/user", os.O_RDONLY), 0),
        "mount": call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "remount": call("mount", None, b"/function", None, 0x1020, None),
        "bind": call("mount", b"/tmp", b"/dev/shm", None, 0x1000, None),
        "umount /function": call("umount2", b"/function", 2),
        "umount /proc/sys": call("umount2", b"/proc/sys", 2),
        "pivot_root": call("pivot_root", b"/tmp", b"/tmp"),
        "chroot": call("chroot", b"/tmp"),
        "open_tree": call("open_tree", AT_FDCWD, b"/", 1),
        "move_mount": call("move_mount", AT_FDCWD, b"/tmp", AT_FDCWD, b"/dev/shm", 0),
        "fsopen": call("fsopen", b"tmpfs", 0),
        "fsmount": call("fsmount", 0, 0, 0),
        "mount_setattr": call("mount_setattr", AT_FDCWD, b"/function", 0, None, 0),
        "ptrace": call("ptrace", 16, 1, 0, 0),
        "process_vm_readv": call("process_vm_readv", 1, None, 0, None, 0, 0),
        "process_vm_writev": call("process_vm_writev", 1, None, 0, None, 0, 0),
        "kcmp": call("kcmp", 1, 2, 0, 0, 0),
        "pidfd_getfd": call("pidfd_getfd", 0, 0, 0),
        "keyctl": call("keyctl", 0, -3, 0, 0, 0),
        "add_key": call("add_key", b"user", b"x", b"y", 1, -3),
        "request_key": call("request_key", b"user", b"x", None, -3),
        "io_uring_setup": call("io_uring_setup", 1, None),
        "io_setup": call("io_setup", 1, None),
        "bpf": call("bpf", 0, None, 0),
        "perf_event_open": call("perf_event_open", None, 0, -1, -1, 0),
        "userfaultfd": call("userfaultfd", 0),
        "name_to_handle_at": call("name_to_handle_at", AT_FDCWD, b"/", None, None, 0),
        "fanotify_init": call("fanotify_init", 0, 0),
        "sethostname": call("sethostname", b"other", 5),
        "setdomainname": call("setdomainname", b"other", 5),
        "clock_settime": call("clock_settime", 0, None),
        "settimeofday": call("settimeofday", None, None),
        "adjtimex": call("adjtimex", None),
        "syslog": call("syslog", 3, None, 0),
        "quotactl": call("quotactl", 0, None, 0, None),
        "memfd_secret": call("memfd_secret", 0),
        "vmsplice": call("vmsplice", 1, None, 0, 0),
        "mbind": call("mbind", None, 0, 0, None, 0, 0),
        "move_pages": call("move_pages", 0, 0, None, None, None, 0),
        "vhangup": call("vhangup"),
        "personality": call("personality", 0x0040000),
        "mknod null": call("mknodat", AT_FDCWD, b"/tmp/null", stat.S_IFCHR | 0o666, 0x103),
        "mknod disk": call("mknodat", AT_FDCWD, b"/tmp/disk", stat.S_IFBLK | 0o666, 0x800),
        "unknown": call("unknown"),
        "prctl securebits": prctl(28, 0),
        "prctl ambient": prctl(47, 2, 0),
        "prctl mm": prctl(35, 13, 0),
        "prctl bounding set": prctl(24, 0),
        "TIOCSTI": attempt(fcntl.ioctl, 0, 0x5412, b"x"),
        "TIOCLINUX": attempt(fcntl.ioctl, 0, 0x541c, b"\x03"),
    })
    return found


def prctl(*arguments):
    ctypes.set_errno(0)
    result = LIBC.prctl(*(list(arguments) + [0] * (5 - len(arguments))))
    return ctypes.get_errno() if result == -1 else 0


def identity():
    full = struct.pack("=IIIIII", *([0xffffffff] * 6))
    return {
        "setuid": attempt(os.setuid, 0),
        "setgid": attempt(os.setgid, 0),
        "setresuid": attempt(os.setresuid, 0, 0, 0),
        "another's uid": attempt(os.setuid, 1001),
        "setgroups": attempt(os.setgroups, [0]),
        "capset": -LIBC.capset(struct.pack("=II", 0x20080522, 0), full) * ctypes.get_errno(),
        "uid_map": write("/proc/self/uid_map", "0 0 1"),
        "gid_map": write("/proc/self/gid_map", "0 0 1"),
        "nice": attempt(os.nice, -5),
        "real time": attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1)),
        "open files": attempt(resource.setrlimit, resource.RLIMIT_NOFILE, (4096, 4096)),
        "core": attempt(resource.setrlimit, resource.RLIMIT_CORE, (4096, 4096)),
        "chown": attempt(os.chown, "/tmp", 1000, 1000),
        "setuid of a file of root's": attempt(os.chmod, "/usr/bin/env", 0o4755),
        "lock memory": attempt(lock_memory, 1 << 20),
        "oom score": write("/proc/self/oom_score_adj", "-1000"),
    }


def lock_memory(size):
    memory = ctypes.create_string_buffer(size)
    if LIBC.mlock(memory, size) != 0:
        raise OSError(ctypes.get_errno(), "mlock")


def files():
    found = {"create in " + folder: create(folder + "/brood-probe")
             for folder in ("", "/etc", "/usr/bin", "/root", "/run", "/var/tmp", "/dev",
                            "/function", "/proc", "/sys", "/home")}
    found.update({
        "write the handler": write("/function/handler.py", "#"),
        "remove the handler": attempt(os.unlink, "/function/handler.py"),
        "chmod the handler": attempt(os.chmod, "/function/handler.py", 0o777),
        "move /function": attempt(os.rename, "/function", "/tmp/function"),
        "write a program": write("/usr/bin/env", "#"),
        "list /root": attempt(os.listdir, "/root"),
        "sysctl hostname": write("/proc/sys/kernel/hostname", "other"),
        "sysctl core_pattern": write("/proc/sys/kernel/core_pattern", "|/tmp/x"),
        "sysctl ip_forward": write("/proc/sys/net/ipv4/ip_forward", "1"),
        "pid 1 memory": read("/proc/1/mem"),
        "pid 1 environment": read("/proc/1/environ"),
        "pid 1 root": attempt(os.listdir, "/proc/1/root"),
        "terminal": attempt(os.open, "/dev/tty", os.O_RDWR),
        "physical memory": read("/dev/mem"),
        "kernel memory": read("/proc/kcore"),
        "disk": read("/dev/vda"),
        "cgroups": attempt(os.listdir, "/sys/fs/cgroup"),
        "debugfs": attempt(os.listdir, "/sys/kernel"),
    })
    return found


def sockets(abstract, port):
    return {
        "unix": new_socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "inet": new_socket(socket.AF_INET, socket.SOCK_STREAM),
        "route netlink": new_socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "raw": new_socket(socket.AF_INET, socket.SOCK_RAW, 1),
        "packet": new_socket(socket.AF_PACKET, socket.SOCK_RAW),
        "vsock": new_socket(40, socket.SOCK_STREAM),
        "alg": new_socket(38, 5),
        "bluetooth": new_socket(31, socket.SOCK_RAW),
        "can": new_socket(29, socket.SOCK_RAW),
        "xdp": new_socket(44, socket.SOCK_RAW),
        "tipc": new_socket(30, socket.SOCK_STREAM),
        "netfilter netlink": new_socket(socket.AF_NETLINK, socket.SOCK_RAW, 12),
        "audit netlink": new_socket(socket.AF_NETLINK, socket.SOCK_RAW, 9),
        "uevent netlink": new_socket(socket.AF_NETLINK, socket.SOCK_RAW, 15),
        "host's abstract socket": connect_abstract(abstract),
        "host's port": connect_host(port),
        "outside": connect_outside(),
    }


def processes():
    """Signals to pid 1 are sent, and do nothing: the answer is the proof."""
    return {
        "kill pid 1": attempt(os.kill, 1, signal.SIGKILL),
        "stop pid 1": attempt(os.kill, 1, signal.SIGSTOP),
        "next pid": attempt(os.kill, 3, 0),
        "process 1000": attempt(os.kill, 1000, signal.SIGKILL),
    }


def fill(folder):
    """Writes until it is refused, and keeps what it wrote: the errno, and how many bytes."""
    path = os.path.join(folder, "filler")
    piece = b"\0" * (1 << 20)
    written = 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        while written < 1 << 30:
            written += os.write(fd, piece)
        return {"errno": 0, "bytes": written}
    except OSError as error:
        return {"errno": error.errno, "bytes": written}
    finally:
        os.close(fd)


def fill_with_files(folder):
    made = 0
    try:
        while made < 100000:
            os.close(os.open("%s/file-%d" % (folder, made), os.O_WRONLY | os.O_CREAT))
            made += 1
        return {"errno": 0, "files": made}
    except OSError as error:
        return {"errno": error.errno, "files": made}


def main(event, context):
    do = event["do"]
    if do == "fill":
        return fill(event["folder"])
    if do == "fill with files":
        return fill_with_files(event["folder"])
    if do == "sockets":
        return sockets(event["abstract"], event["port"])
    return {"calls": calls, "identity": identity, "files": files, "processes": processes}[do]()
