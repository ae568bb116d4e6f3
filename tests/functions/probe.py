"""Says what a sandbox looks like from inside. Every value is what the kernel says, unread."""
import os
import random
import resource
import socket
import ssl
import stat
import uuid

NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
LIMITS = ("CORE", "NOFILE", "MEMLOCK", "MSGQUEUE", "SIGPENDING", "RTPRIO", "NICE")
MODULE_STATE = []


def text(path):
    try:
        with open(path, errors="replace") as file:
            return file.read(1 << 20)
    except OSError as error:
        return {"errno": error.errno}


def status():
    fields = {}
    for line in text("/proc/self/status").splitlines():
        key, _, value = line.partition(":")
        fields[key] = value.strip()
    return fields


def mounts():
    found = []
    for line in text("/proc/self/mountinfo").splitlines():
        before, _, behind = line.partition(" - ")
        fields = before.split()
        kind, source, superblock = behind.split(" ", 2)
        found.append({"root": fields[3], "point": fields[4], "options": fields[5].split(","),
                      "propagation": fields[6:], "type": kind, "source": source,
                      "super": superblock})
    return found


def descriptors():
    # Listing needs one of its own, which is gone by the time it is looked at.
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink("/proc/self/fd/" + name)
        except FileNotFoundError:
            pass
    return found


def interfaces():
    found = {}
    for line in text("/proc/self/net/dev").splitlines()[2:]:
        name = line.split(":")[0].strip()
        with socket.socket() as probe:
            import fcntl
            import struct

            raw = fcntl.ioctl(probe, 0x8913, struct.pack("16sH14x", name.encode(), 0))
        found[name] = struct.unpack("16sH14x", raw)[1]
    return found


def devices():
    found = {}
    for folder, folders, names in os.walk("/dev"):
        for name in names + [name for name in folders if os.path.islink(folder + "/" + name)]:
            path = os.path.join(folder, name)
            entry = os.lstat(path)
            if stat.S_ISCHR(entry.st_mode) or stat.S_ISBLK(entry.st_mode):
                kind = "c" if stat.S_ISCHR(entry.st_mode) else "b"
                found[path] = "%s %d:%d %o" % (kind, os.major(entry.st_rdev),
                                               os.minor(entry.st_rdev),
                                               stat.S_IMODE(entry.st_mode))
            else:
                found[path] = os.readlink(path) if stat.S_ISLNK(entry.st_mode) else "file"
    return found


def masked(path):
    """What can be had of a path of /proc: absent, empty, an errno, or its first bytes."""
    try:
        if os.path.isdir(path):
            return "empty" if not os.listdir(path) else "entries"
        with open(path, "rb") as file:
            return repr(file.read(64)) if file.read(1) else "empty"
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        return "errno %d" % error.errno


def main(event, context):
    if event and "masked" in event:
        return {path: masked(path) for path in event["masked"]}
    if event and event.get("random"):
        return {"random": random.getrandbits(128).to_bytes(16, "big").hex(),
                "ssl": ssl.RAND_bytes(16).hex(), "uuid1": str(uuid.uuid1()),
                "uuid4": str(uuid.uuid4()), "urandom": os.urandom(16).hex(),
                "temporary": next(__import__("tempfile")._get_candidate_names())}
    if event and event.get("state"):
        MODULE_STATE.append(context.id)
        return MODULE_STATE
    mask = os.umask(0)
    os.umask(mask)
    return {
        "status": status(),
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "session": os.getsid(0),
        "uid_map": text("/proc/self/uid_map").split(),
        "gid_map": text("/proc/self/gid_map").split(),
        "setgroups": text("/proc/self/setgroups").strip(),
        "namespaces": {name: os.readlink("/proc/self/ns/" + name) for name in NAMESPACES},
        "mounts": mounts(),
        "descriptors": descriptors(),
        "interfaces": interfaces(),
        "routes": text("/proc/self/net/route").splitlines()[1:],
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "environment": dict(os.environ),
        "initial_environment": text("/proc/self/environ"),
        "command": text("/proc/self/cmdline"),
        "hostname": socket.gethostname(),
        "directory": os.getcwd(),
        "umask": mask,
        "limits": {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))
                   for name in LIMITS},
        "groups": os.getgroups(),
        "devices": devices(),
        "root": sorted(os.listdir("/")),
        "cgroup": text("/proc/self/cgroup").split(),
        "sys": sorted(os.listdir("/sys")),
        "run": sorted(os.listdir("/run")),
        "code": sorted(os.listdir("/function")),
        "argv": __import__("sys").argv,
        "securebits": __import__("ctypes").CDLL(None).prctl(27, 0, 0, 0, 0),
        "stdin": os.read(0, 10).decode(),
    }
