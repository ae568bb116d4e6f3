"""Where agents live while they are attacked: a directory, and a cgroup below which they have every
controller that there is, as tests/support has it too.

With controllers on for its children a cgroup may hold no process itself, so this process moves into
a leaf of its own while agents run.
"""
import os
import shutil
import tempfile
import time


def unescape(text):
    return text.encode().decode("unicode_escape")


def own_cgroup():
    """The directory of this process's cgroup; None where no cgroup v2 mount shows it."""
    with open("/proc/self/cgroup") as file:
        path = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), None)
    if path is None:
        return None
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            if not rest.startswith("cgroup2 "):
                continue
            root, point = map(unescape, fields.split()[3:5])
            if path == root or root == "/" or path.startswith(root + "/"):
                below = path[len(root):] if root != "/" else path
                return (point + "/" + below.strip("/")).rstrip("/")
    return None


def read_words(path):
    with open(path) as file:
        return file.read().split()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


class Room:
    """Made at entering, and taken away at leaving."""

    def __init__(self):
        self.top = os.environ.get("BROOD_TEST_CGROUP") or own_cgroup()
        self.leaf = None
        self.enabled = []
        self.count = 0

    def __enter__(self):
        if self.top is None:
            raise OSError("no cgroup v2 mount shows this process")
        self.scratch = tempfile.mkdtemp(prefix="brood-hostile-")
        os.chmod(self.scratch, 0o755)
        offered = set(read_words(self.top + "/cgroup.controllers"))
        alone = read_words(self.top + "/cgroup.procs") in ([], [str(os.getpid())])
        is_root = not os.path.exists(self.top + "/cgroup.type")
        if not is_root and offered:
            if not alone:
                return self  # others live here: without controllers, then
            self.leaf = f"{self.top}/brood-test-{os.getpid()}"
            os.mkdir(self.leaf)
            write(self.leaf + "/cgroup.procs", str(os.getpid()))
        for controller in offered - set(read_words(self.top + "/cgroup.subtree_control")):
            try:
                write(self.top + "/cgroup.subtree_control", "+" + controller)
                self.enabled.append(controller)
            except OSError:
                pass  # not one that can be had here
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self.leaf is None:
            return
        for controller in self.enabled:
            write(self.top + "/cgroup.subtree_control", "-" + controller)
        write(self.top + "/cgroup.procs", str(os.getpid()))
        os.rmdir(self.leaf)

    def make(self):
        """The directory of a cgroup for one agent."""
        self.count += 1
        path = f"{self.top}/brood-agent-{os.getpid()}-{self.count}"
        os.mkdir(path)
        return path


def remove(path):
    """Kills what is left below `path` and takes it away; what was left, in words."""
    left = []
    for folder, _, _ in os.walk(path, topdown=False):
        if folder != path:
            left.append("cgroup " + folder)
    if left and os.path.exists(path + "/cgroup.kill"):
        write(path + "/cgroup.kill", "1")
        time.sleep(0.5)
    for folder, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(folder)
        except OSError as error:
            left.append(str(error))
    return left
