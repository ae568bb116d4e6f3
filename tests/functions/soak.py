"""Ends as the event says; its tag comes back with whatever can carry one."""
import os
import signal
import time


def take_memory():
    pieces = []
    while True:
        pieces.append(b"\1" * (1 << 20))


def main(event, context):
    end, tag = event["end"], event["tag"]
    if end == "raise":
        raise ValueError(tag)
    if end == "large":
        return tag * 10000
    if end == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "memory":
        take_memory()
    if end == "nap":
        time.sleep(0.2)
    if end == "sleep":
        time.sleep(600)
    return tag
