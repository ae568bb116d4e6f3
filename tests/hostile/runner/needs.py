"""What a row can need of host and agent: each says why it is not there, or nothing."""
import os
import platform


def limits(agent):
    if not agent.enforces():
        return "the cgroup v2 tree of this host lacks controllers, so no limit is enforced"
    return ""


def vm(agent):
    if os.environ.get("BROOD_TEST_MACHINE") != "emulated":
        return "it could harm this host: scripts/test-vm runs it"
    return ""


def x86_64(agent):
    return "" if platform.machine() == "x86_64" else "only x86_64 has it"


def landlock(agent):
    return kernel_has_landlock(1)


def landlock_scopes(agent):
    return kernel_has_landlock(6)


def kernel_has_landlock(wanted):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)  # the number on every architecture
    if version < wanted:
        return f"this kernel's Landlock has version {max(version, 0)}, not {wanted}"
    return ""


NEEDS = {"limits": limits, "vm": vm, "x86_64": x86_64, "landlock": landlock,
         "landlock_scopes": landlock_scopes}


def lacking(names, agent):
    """The first reason why a row is not applicable; empty where it is."""
    for name in names:
        if reason := NEEDS[name](agent):
            return reason
    return ""
