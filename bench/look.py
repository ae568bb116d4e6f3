"""What a handler can see of its own isolation: run beside the measured one, in a sandbox of the same pool."""
import os


def main(event, context):
    with open("/proc/self/status") as file:
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    with open("/proc/self/mountinfo") as file:
        root = next(line.split() for line in file if line.split()[4] == "/")
    return {"seccomp": status["Seccomp"], "no_new_privs": status["NoNewPrivs"],
            "capabilities": [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
            "namespaces": {name: os.readlink("/proc/self/ns/" + name)
                           for name in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")},
            "root": root[root.index("-") + 1]}
