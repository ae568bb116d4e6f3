"""The handler of the hostile matrix: runs the probe that the event names, and says what it saw.

A probe answers with its attempts, each by what it was and how it went (attempts.py). One that could
not make its attempt raises, and no row takes that for a refusal.
"""
import importlib
import os

INITIAL_PID_NAMESPACE = 4026531836


def refuse_outside():
    if os.stat("/proc/self/ns/pid").st_ino == INITIAL_PID_NAMESPACE:
        raise SystemExit("this is for the inside of a sandbox")


refuse_outside()


def main(event, context):
    module, _, name = event["probe"].partition(".")
    print("trying %s" % event["probe"], flush=True)
    probe = getattr(importlib.import_module(module), name)
    outcomes = probe(**event.get("arguments", {}))
    if not outcomes:
        raise RuntimeError("the probe made no attempt")
    return {"outcomes": outcomes}


def neighbour(event, context):
    """What runs beside an attack: its answers tell whether it is served, and by the same instance."""
    return {"twice": event["number"] * 2, "secret": SECRET}


SECRET = os.urandom(16).hex()
