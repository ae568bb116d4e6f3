"""The kernel's surface: system calls, sockets, and raw entries by the program beside this."""
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys

from attempts import LIBC, attempt, call, in_child, word_of

PROGRAM = "/tmp/attack"


def calls(calls):
    """System calls with the arguments given, each [LABEL, NAME, ARGUMENT…], all in one process."""
    return {label: call(name, *arguments)[0] for label, name, *arguments in calls}


def calls_apart(calls):
    """The same, each in a child of its own: for what would change this process."""
    return {label: in_child(lambda: call(name, *arguments)[0])
            for label, name, *arguments in calls}


def clones(flags):
    """clone with each flag. In the new process there is nothing to do but to leave."""
    outcomes = {}
    for name, flag in flags.items():
        outcome, pid = call("clone", flag | signal.SIGCHLD, 0, 0, 0, 0)
        if outcome == "ok" and pid == 0:
            os._exit(0)
        if outcome == "ok":
            os.waitpid(pid, 0)
        outcomes[name] = outcome
    return outcomes


def clone3(flags):
    """clone3 with a whole struct clone_args, as libc would call it."""
    outcomes = {}
    for name, flag in flags.items():
        arguments = (ctypes.c_uint64 * 11)()
        arguments[0], arguments[4] = flag, signal.SIGCHLD
        outcome, pid = call("clone3", arguments, ctypes.sizeof(arguments))
        if outcome == "ok" and pid == 0:
            os._exit(0)
        if outcome == "ok":
            os.waitpid(pid, 0)
        outcomes[name] = outcome
    return outcomes


def sockets(sockets):
    """Sockets, each [LABEL, FAMILY, TYPE, PROTOCOL]."""
    def make(family, kind, protocol):
        socket.socket(family, kind, protocol).close()
    return {label: attempt(make, *numbers) for label, *numbers in sockets}


def socket_pairs(sockets):
    def make(family, kind, protocol):
        both = (ctypes.c_int * 2)()
        if LIBC.socketpair(family, kind, protocol, both) != 0:
            raise OSError(ctypes.get_errno(), "socketpair")
        os.close(both[0])
        os.close(both[1])
    return {label: attempt(make, *numbers) for label, *numbers in sockets}


def prctls(calls):
    """prctl, each [LABEL, OPERATION, ARGUMENT…] in a child of its own."""
    def one(*arguments):
        ctypes.set_errno(0)
        padded = [ctypes.c_ulong(value) for value in (list(arguments) + [0] * 5)[:5]]
        return word_of(ctypes.get_errno()) if LIBC.prctl(*padded) == -1 else "ok"
    return {label: in_child(one, *arguments) for label, *arguments in calls}


def modify_ldt():
    """Writes a code segment of 16 bits: struct user_desc as asm/ldt.h has it."""
    description = ctypes.create_string_buffer(
        b"".join(number.to_bytes(4, "little") for number in (0, 0, 0xfffff, 0x51)), 16)
    return {"write": call("modify_ldt", 1, description, 16)[0],
            "read": call("modify_ldt", 0, ctypes.create_string_buffer(64), 64)[0]}


def memfd_exec():
    """Runs a program that has no path: allowed, and it is no more than this process is."""
    fd = os.memfd_create("program", 0)
    os.write(fd, b"#!/bin/sh\ncat /proc/self/status\n")
    status = subprocess.run(["/proc/self/fd/%d" % fd], capture_output=True, text=True,
                            check=True, pass_fds=(fd,)).stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return {name: fields[name].split()[0] for name in ("Uid", "CapEff", "CapBnd", "Seccomp",
                                                       "NoNewPrivs")}


def program(do, arguments=()):
    """What the program `attack` answers, by line."""
    if not os.path.exists(PROGRAM):
        shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "attack"), PROGRAM)
        os.chmod(PROGRAM, 0o755)
    done = subprocess.run([PROGRAM, do, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stdout[-2000:], done.stderr, file=sys.stderr)
        raise RuntimeError("attack %s ended with %d" % (do, done.returncode))
    return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())


def deadly_number(number):
    """A call that ends the sandbox: nothing comes back where it is refused."""
    result = LIBC.syscall(ctypes.c_long(number), *[ctypes.c_long(0)] * 6)
    return {"came back": str(result)}
