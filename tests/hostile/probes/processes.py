"""Other processes: to see, stop, read, outlive or become one."""
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time

import attempts
from attempts import LIBC, attempt, call, in_child, word_of


class Sleeper:
    """A process of one's own to try things on; gone with the block."""

    def __enter__(self):
        self.pid = os.fork()
        if self.pid == 0:
            while True:
                time.sleep(1000)
        return self.pid

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def spy_on(who):
    """ptrace, process_vm_* and pidfd_getfd on pid 1 or on a process of one's own."""
    def on(pid):
        text = ctypes.create_string_buffer(8)
        local = (ctypes.c_uint64 * 2)(ctypes.addressof(text), 8)
        remote = (ctypes.c_uint64 * 2)(id(text), 8)
        pidfd, fd = call("pidfd_open", pid, 0)
        outcomes = {
            "PTRACE_ATTACH": call("ptrace", 16, pid, 0, 0)[0],
            "PTRACE_SEIZE": call("ptrace", 0x4206, pid, 0, 0)[0],
            "process_vm_readv": call("process_vm_readv", pid, local, 1, remote, 1, 0)[0],
            "process_vm_writev": call("process_vm_writev", pid, local, 1, remote, 1, 0)[0],
            "kcmp": call("kcmp", os.getpid(), pid, 0, 0, 0)[0],
            "mem": attempts.read("/proc/%d/mem" % pid),
        }
        outcomes["pidfd_getfd"] = call("pidfd_getfd", fd, 0, 0)[0] if pidfd == "ok" else pidfd
        return outcomes
    if who == "pid 1":
        return on(1)
    with Sleeper() as pid:
        return on(pid)


def traceme():
    return {"PTRACE_TRACEME": in_child(lambda: call("ptrace", 0, 0, 0, 0)[0])}


def signals(pids, numbers):
    """Signals to processes that are not one's own. pid 1 may be sent some; the kernel drops them."""
    outcomes = {}
    for pid in pids:
        for number in numbers:
            outcomes["%d to %d" % (number, pid)] = attempt(os.kill, pid, number)
    return outcomes


def visible():
    """Processes that can be seen, or answer a signal that is none."""
    listed = {name for name in os.listdir("/proc") if name.isdigit()}
    own = str(os.getpid())
    answering = [pid for pid in range(2, 5000) if pid != os.getpid()
                 and attempt(os.kill, pid, 0) != "ESRCH"]
    return {"listed": "own" if listed == {own} else "others",
            "answering": "none" if not answering else "others"}


def become(calls):
    """Identity changes, each [LABEL, FUNCTION OF os, ARGUMENT…] in a child."""
    return {label: in_child(lambda: attempt(getattr(os, name), *arguments))
            for label, name, *arguments in calls}


def raise_capabilities():
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(*([0xffffffff] * 6))
    ctypes.set_errno(0)
    result = LIBC.capset(header, data)
    return {"capset": word_of(ctypes.get_errno()) if result else "ok"}


def capabilities():
    """The five sets, as numbers, and what a program that is started has of them."""
    fields = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

    def sets(text):
        lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        return {name: "none" if int(lines[name], 16) == 0 else lines[name] for name in fields}
    with open("/proc/self/status") as file:
        own = sets(file.read())
    started = sets(subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True,
                                  check=True).stdout)
    return {**own, **{"started " + name: value for name, value in started.items()}}


def limits(limits):
    """Limits raised, each [LABEL, NAME, VALUE]; in a child, so that none stays lowered."""
    def one(name, value):
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except ValueError:  # what Python makes of EPERM and EINVAL
            return "refused"
        except OSError as error:
            return word_of(error.errno)
        return "ok"
    return {label: in_child(one, name, value) for label, name, value in limits}


def scheduling():
    parameter = os.sched_param(1)
    cpus = os.sched_getaffinity(0)
    return {
        "nice -20": attempt(os.setpriority, os.PRIO_PROCESS, 0, -20),
        "SCHED_FIFO": attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, parameter),
        "SCHED_RR": attempt(os.sched_setscheduler, 0, os.SCHED_RR, parameter),
        "every processor": attempt(os.sched_setaffinity, 0, cpus),
        "oom_score_adj": attempts.write("/proc/self/oom_score_adj", "-1000"),
        "io real time": in_child(lambda: word_of(
            ctypes.get_errno() if LIBC.syscall(251, 1, 0, 1 << 13) == -1 else 0)),
    }


def lock_memory(size):
    memory = ctypes.create_string_buffer(size)
    ctypes.set_errno(0)
    mlock = word_of(ctypes.get_errno()) if LIBC.mlock(memory, ctypes.c_size_t(size)) else "ok"
    mlockall = in_child(lambda: word_of(ctypes.get_errno()) if LIBC.mlockall(3) else "ok")
    return {"mlock": mlock, "mlockall": mlockall}


def personality():
    """READ_IMPLIES_EXEC, ADDR_NO_RANDOMIZE, MMAP_PAGE_ZERO, and asking, which is let in."""
    personas = {"READ_IMPLIES_EXEC": 0x0400000, "ADDR_NO_RANDOMIZE": 0x0040000,
                "MMAP_PAGE_ZERO": 0x0100000, "PER_LINUX32": 0x0008}
    return {name: in_child(lambda: call("personality", persona)[0])
            for name, persona in personas.items()}


def map_low_pages():
    """A page at address 0, for null pointers of the kernel's to meet."""
    import mmap

    LIBC.mmap.restype = ctypes.c_void_p
    ctypes.set_errno(0)
    result = LIBC.mmap(ctypes.c_void_p(0), ctypes.c_size_t(4096), mmap.PROT_READ | mmap.PROT_WRITE,
                       mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10, -1, ctypes.c_long(0))
    failed = result in (None, ctypes.c_void_p(-1).value)
    return {"page 0": word_of(ctypes.get_errno()) if failed and ctypes.get_errno() else "ok"}


def orphan(seconds=1000):
    """Leaves a tree of processes in sessions of their own that ignore every signal they may."""
    for _ in range(4):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in range(1, signal.NSIG):
                    attempt(signal.signal, number, signal.SIG_IGN)
                time.sleep(seconds)
            os._exit(0)
        os.wait()
    return {"orphans": "left"}


def orphan_and_wait(seconds):
    orphan()
    time.sleep(seconds)
    return {"orphans": "left"}


def stop_everything():
    """Stops what can be stopped, itself last: nothing answers any more."""
    orphan()
    attempt(os.kill, -1, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
    return {"stopped": "went on"}


def zombies(count):
    """Children that nobody reaps, until there may be no more."""
    made = 0
    try:
        for _ in range(count):
            if os.fork() == 0:
                os._exit(0)
            made += 1
    except OSError as error:
        return {"fork": word_of(error.errno)}
    return {"fork": "no bound"}


def subreaper():
    """Keeps orphans from pid 1: they are still in the sandbox, and go with it."""
    outcome = in_child(lambda: "ok" if LIBC.prctl(36, 1, 0, 0, 0) == 0 else "refused")
    LIBC.prctl(36, 1, 0, 0, 0)
    orphan()
    return {"PR_SET_CHILD_SUBREAPER": outcome}


def end(how):
    """Ends its own process in a way that pid 1 and the agent have to make sense of."""
    if how == "exit":
        os._exit(0)
    if how == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "abort":
        os.abort()
    if how == "group":
        os.kill(0, signal.SIGKILL)
    if how == "everything":
        os.kill(-1, signal.SIGKILL)
    if how == "close":
        os.close(3)
        time.sleep(1000)
    if how == "execute":
        os.execv("/bin/true", ["true"])
    sys.exit(how)


def crash_undumpable(raise_limit):
    """Aborts in a child, after trying to have a core dump of it."""
    def one():
        LIBC.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE
        if raise_limit:
            try:
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            except (ValueError, OSError):
                pass
        os.abort()
    core = resource.getrlimit(resource.RLIMIT_CORE)
    outcome = in_child(one)
    return {"ended by": outcome, "limit": "%d %d" % core}
