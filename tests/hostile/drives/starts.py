"""Sandboxes that are made while others attack, and what they are made with."""
import threading

from runner.agent import Trouble

ROOT = {"/": "overlay", "/function": "", "/proc": "proc", "/dev": "tmpfs", "/tmp": "tmpfs",
        "/dev/shm": "tmpfs"}


def race(arena, probe, starts):
    """Runs the probe while new sandboxes of the same runtime start, and looks at each of those."""
    results = []
    thread = threading.Thread(target=lambda: results.append(arena.probe(probe)))
    thread.start()
    wrong = []
    for _ in range(starts):
        seen = arena.probe("files.mounted")
        wrong += [f"{place}: {seen.get(place)}" for place, kind in ROOT.items()
                  if kind not in seen.get(place, "none")]
    thread.join()
    if not results:
        raise Trouble("the attack was not made")
    return {**results[0], "starts": ", ".join(wrong) or "as they should be"}


def host_words(arena):
    """Words that only the host's paths have, looked for in a sandbox's list of mounts."""
    agent = arena.agent
    words = [agent.scratch, agent.places.images, agent.places.build, "brood-hostile-", "/var/lib/brood",
             "slots"]
    return arena.probe("files.mounts", {"words": words})
