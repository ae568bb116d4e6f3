"""Processes that would outlive their sandbox."""
import os
import time

from runner.agent import Trouble, slowness, soon

LIMIT = 0.5  # seconds of an ordinary host


def survivors(arena, probe, arguments=None, timeout=1):
    """Invokes, and says how that ended and whether anything of the sandbox lives on."""
    arena.agent.deploy("survivors", timeout=timeout)
    try:
        answer = arena.agent.call("survivors", {"probe": probe, "arguments": arguments or {}})
        printed = arena.agent.printed("survivors", answer.headers.get("brood-invocation"))
        if f"trying {probe}" not in printed:
            raise Trouble(f"the probe had not begun: {answer.ending} {answer.body[:500]!r}")
        # Nobody inside can leave the sandbox's cgroup: with it gone, there is no process left.
        gone = soon(lambda: not arena.agent.sandboxes("survivors") and not arena.outside.strays())
        return {"ending": answer.ending, "left": "nothing" if gone else "something"}
    finally:
        arena.agent.remove("survivors")


def pid_one_unharmed(arena, probe, arguments=None):
    """Attacks pid 1 of an instance that is kept: it is the same process, awake, and serves again."""
    arena.agent.deploy("kept", reuse=True, idle="1h")
    try:
        outcomes = arena.agent.probe(probe, arguments, "kept")
        sandbox, = arena.agent.sandboxes("kept")
        with open(f"/proc/{sandbox['pid']}/stat") as file:
            state = file.read().rsplit(")", 1)[1].split()[0]
        again = arena.agent.call("kept", {"probe": "wire.echo", "arguments": {"number": 7}})
        return {**outcomes, "state": "awake" if state in "SR" else state,
                "again": again.headers.get("brood-start", "") if again.ending == "ok" else again.ending}
    finally:
        arena.agent.remove("kept")


def core_dump(arena, raise_limit):
    """A process inside crashes while the host has a helper for that: it must not be run."""
    helper = arena.outside.canary.folder + "-helper"
    ran = helper + ".ran"
    with open(helper, "w") as file:
        file.write(f"#!/bin/sh\necho ran >>{ran}\ncat >/dev/null\n")
    os.chmod(helper, 0o755)
    with open("/proc/sys/kernel/core_pattern") as file:
        before = file.read().strip()
    with open("/proc/sys/kernel/core_pattern", "w") as file:
        file.write(f"|{helper} %p")
    try:
        outcomes = arena.probe("processes.crash_undumpable", {"raise_limit": raise_limit})
        soon(lambda: os.path.exists(ran), 1)
    finally:
        with open("/proc/sys/kernel/core_pattern", "w") as file:
            file.write(before)
    return {**outcomes, "helper": "ran" if os.path.exists(ran) else "did not run"}


def deadline_holds(arena, how):
    """A handler that does not come back is ended, not before its time and not long after."""
    arena.agent.deploy("late", timeout=LIMIT)
    try:
        begin = time.monotonic()
        answer = arena.agent.call("late", {"probe": "resources.hang", "arguments": {"how": how}})
        early = time.monotonic() - begin < LIMIT * slowness()
        return {"ending": answer.ending, "time": "too early" if early else "after its limit"}
    finally:
        arena.agent.remove("late")
