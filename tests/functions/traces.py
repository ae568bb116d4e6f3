"""Leaves traces wherever a handler can, and looks for those of others."""
import builtins
import os
import socket
import sys


def traces():
    return {
        "tmp": sorted(os.listdir("/tmp")),
        "shm": sorted(os.listdir("/dev/shm")),
        "environment": sorted(key for key in os.environ if key.startswith("TRACE_")),
        "builtins": getattr(builtins, "trace", None),
        "modules": getattr(sys, "trace", None),
        "directory": os.getcwd(),
        "abstract": answers("\0trace"),
        "shared memory": open("/proc/sysvipc/shm").read().splitlines()[1:],
    }


def answers(address):
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(address)
            return True
        except OSError:
            return False


def leave(name):
    for folder in ("/tmp", "/dev/shm"):
        with open("%s/%s" % (folder, name), "w") as file:
            file.write(name)
    os.environ["TRACE_" + name] = name
    builtins.trace = sys.trace = name
    os.chdir("/tmp")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0trace")
    listener.listen()
    builtins.listener = listener


def main(event, context):
    found = traces()
    if event:
        leave(event)
    return found
