"""What is looked at from outside after an attack: the agent, the neighbour and the host."""
import hashlib
import os
import stat

from .agent import Trouble, soon

# Settings of the host that an attack would like to have written.
SETTINGS = ("kernel/core_pattern", "kernel/hostname", "kernel/domainname", "kernel/modprobe",
            "kernel/sysrq", "kernel/hotplug", "kernel/panic", "net/ipv4/ip_forward",
            "vm/overcommit_memory", "fs/suid_dumpable", "kernel/poweroff_cmd")
GROWTH_BYTES = 8 << 20  # of the agent's own files, during one row
MEMORY_BYTES = 32 << 20  # of the agent's memory, during one row


def first_line(path):
    try:
        with open(path) as file:
            return file.readline().rstrip()
    except OSError as error:
        return error.strerror


def began(pid):
    """When a process began: tells two of the same number apart."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[19]


def tree_size(path):
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                size += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return size


def identity(path):
    """Of a file: changes with every write to it, whoever makes it."""
    status = os.lstat(path)
    return (status.st_ino, status.st_size, status.st_mode, status.st_mtime_ns, status.st_ctime_ns)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Canary:
    """A file and a folder of the host's that anyone may write to, who can name them."""

    TEXT = "the canary lives\n"

    def __init__(self, folder):
        self.folder = folder
        self.path = folder + "/canary"
        os.mkdir(folder)
        os.chmod(folder, 0o777)
        with open(self.path, "w") as file:
            file.write(self.TEXT)
        os.chmod(self.path, 0o666)
        self.before = identity(self.path)

    def complaint(self):
        if os.listdir(self.folder) != ["canary"]:
            return "the canary's folder has: " + " ".join(os.listdir(self.folder))
        if identity(self.path) != self.before:
            return "the canary has changed"
        with open(self.path) as file:
            return "" if file.read() == self.TEXT else "the canary's text has changed"


class Outside:
    """Takes note of how things are, and tells later what has become otherwise."""

    def __init__(self, agent):
        self.agent = agent
        self.canary = Canary(agent.scratch + "/canary")
        self.number = 0
        self.agent_began = began(agent.pid)
        zygote = agent.zygote()
        self.zygote_pid = zygote["zygote_pid"]
        self.zygote_restarts = zygote["zygote_restarts"]
        self.secret = self.ask_neighbour()["secret"]
        if self.secret.startswith("none"):
            raise Trouble(f"the neighbour does not answer: {self.secret}\n{agent.log()[-3000:]}")
        self.settings = {name: first_line("/proc/sys/" + name) for name in SETTINGS}
        programs = (agent.command[0], agent.places.build + "/bin/brood-unpack",
                    os.path.realpath(agent.places.images + "/python3/rootfs/usr/bin/python3.11"))
        self.programs = {path: (identity(path), digest(path))
                         for path in programs if os.path.exists(path)}

    def begin(self):
        """Before a row."""
        self.files = tree_size(self.agent.state_dir) + tree_size(self.agent.run_dir)
        self.memory = self.resident()
        self.descriptors = self.open_descriptors()

    def complaints(self, checks):
        """Of the named checks those that failed, each with what was seen."""
        found = []
        for name in checks:
            complaint = getattr(self, "check_" + name)()
            if complaint:
                found.append(f"{name}: {complaint}")
        return found

    # --- the checks -----------------------------------------------------------------------------

    def check_agent(self):
        """It is the same process, and answers."""
        if self.agent.process.poll() is not None:
            return f"it has ended with {self.agent.process.returncode}"
        if began(self.agent.pid) != self.agent_began or self.agent.status()["pid"] != self.agent.pid:
            return "it is another process"
        return ""

    def check_zygote(self):
        """It is the same process, and was not started anew."""
        zygote = self.agent.zygote()
        if (zygote["zygote_pid"], zygote["zygote_restarts"]) != (self.zygote_pid, self.zygote_restarts):
            return f"it was started anew: {zygote}"
        return ""

    def check_neighbour(self):
        """Another function gets its right answer from the instance that it has had all along."""
        answer = self.ask_neighbour()
        if answer != {"twice": self.number * 2, "secret": self.secret}:
            return f"it answered {answer}"
        return ""

    def check_settings(self):
        """Settings of the host are as they were."""
        for name, value in self.settings.items():
            if first_line("/proc/sys/" + name) != value:
                return f"{name} is now {first_line('/proc/sys/' + name)!r}"
        return ""

    def check_canary(self):
        """A file of the host's that anyone might write to is untouched, and nothing lies beside it."""
        return self.canary.complaint()

    def check_programs(self):
        """Agent, unpacker and the image's interpreter were not written to: every write changes the
        inode's time of change, which nobody can set."""
        for path, (before, _) in self.programs.items():
            if identity(path) != before:
                return f"{path} has changed"
        return ""

    def check_programs_bytes(self):
        """They are byte for byte the same."""
        changed = [path for path, (_, before) in self.programs.items() if digest(path) != before]
        return ", ".join(changed)

    def check_strays(self):
        """There are cgroups and processes of the sandboxes that the agent knows, and no other."""
        strays = []

        def none_left():
            strays[:] = self.strays()
            return not strays
        return "" if soon(none_left, 10) else ", ".join(strays)

    def check_files(self):
        """What the agent keeps on the host's disks has not grown by more than a little."""
        grown = tree_size(self.agent.state_dir) + tree_size(self.agent.run_dir) - self.files
        return f"it has {grown >> 20} MiB more" if grown > GROWTH_BYTES else ""

    def check_memory(self):
        """The agent's memory has not grown by more than a little."""
        grown = self.resident() - self.memory
        return f"it has {grown >> 20} MiB more" if grown > MEMORY_BYTES else ""

    def check_descriptors(self):
        """The agent's descriptors are as many as before, but for those of its pool."""
        allowed = self.descriptors + 100  # a pool of 8, and two on their way out, with ten each
        if soon(lambda: self.open_descriptors() <= allowed, 5):
            return ""
        return f"{self.open_descriptors()} are open, {self.descriptors} were"

    def check_socket(self):
        """The agent's socket has the rights that it was given."""
        mode = stat.S_IMODE(os.stat(self.agent.socket).st_mode)
        return "" if mode in (0o660, 0o600) else f"its mode is {mode:o}"

    # --- how they look --------------------------------------------------------------------------

    def ask_neighbour(self):
        self.number += 1
        answer = self.agent.call("neighbour", {"number": self.number})
        return answer.json() if answer.ending == "ok" else {"secret": f"none: {answer.body!r}"}

    def strays(self):
        known = {self.agent.cgroup_of(sandbox) for sandbox in self.agent.sandboxes()}
        return sorted(self.agent.sandbox_cgroups() - known)

    def resident(self):
        with open(f"/proc/{self.agent.pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["RssAnon"].split()[0]) << 10

    def open_descriptors(self):
        return len(os.listdir(f"/proc/{self.agent.pid}/fd"))


CHECKS = sorted(name[len("check_"):] for name in dir(Outside) if name.startswith("check_"))
