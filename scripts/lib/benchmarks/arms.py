"""What is measured. Every function takes turns of the sides that it compares, so that the machine's moods meet all
of them, and returns plain values for goals.py and page.py."""
import json
import subprocess
import sys
import time
from pathlib import Path

from .agents import Trouble, memory_of, processes_below

ROOT = Path(__file__).resolve().parents[3]


class Sizes:
    """How much of everything. The quick ones take less than two minutes together."""

    def __init__(self, quick):
        self.turns = 2 if quick else 5
        self.cold = 100 if quick else 400  # a turn
        self.warm = 1000 if quick else 4000
        self.process = 10 if quick else 40
        self.peers = 3 if quick else 8
        self.languages = 20 if quick else 200
        self.bursts = 3 if quick else 10
        self.churn_seconds = 4 if quick else 16
        self.rate_seconds = 1 if quick else 4
        self.clients = (1, 16) if quick else (1, 2, 4, 8, 16, 32, 64)
        self.payloads = (128, 1 << 20) if quick else (64, 1 << 10, 16 << 10, 128 << 10, 1 << 20, 6 << 20)
        self.functions = 200 if quick else 10_000
        self.held = 100 if quick else 2000
        self.idle_seconds = 3 if quick else 20


def say(text):
    print("bench: " + text, file=sys.stderr, flush=True)


def merged(reports):
    """Turns of one arm as one report: all samples, and of the rest the medians of the turns."""
    result = dict(reports[0])
    result["samples_us"] = {name: [one for report in reports for one in report["samples_us"][name]]
                            for name in reports[0]["samples_us"]}
    for field in ("stages_p50_us", "stages_p99_us"):
        result[field] = {stage: sorted(report[field].get(stage, 0) for report in reports)[len(reports) // 2]
                         for stage in reports[0][field]}
    result["exhausted"] = sum(report["exhausted"] for report in reports)
    return result


def single(agent, sizes):
    """Cold, warm, whole processes and the peers, in turns."""
    cold, warm, process, peers = [], [], [], []
    for turn in range(sizes.turns):
        say("cold, warm, processes, peers: turn %d of %d" % (turn + 1, sizes.turns))
        cold.append(agent.bench("cold", "--samples", "--count", sizes.cold))
        warm.append(agent.bench("warm", "--samples", "--count", sizes.warm))
        process.append(agent.bench("process", "--count", sizes.process))
        peers.append(measure_peers(sizes.peers, agent))
    return {"cold": merged(cold), "warm": merged(warm), "process": process, "peers": merge_peers(peers)}


def measure_peers(runs, agent):
    done = subprocess.run([ROOT / "scripts/bench-peers", "--json", "--runs", str(runs), "--image",
                           "%s/python3" % agent.images, "--socket", agent.socket, "--brood",
                           agent.build / "bin" / "brood"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if not done.stdout.strip():
        raise Trouble("scripts/bench-peers: " + done.stderr.decode().strip())
    return json.loads(done.stdout)["peers"]


def merge_peers(turns):
    result = {}
    for one in (peer for turn in turns for peer in turn):
        into = result.setdefault(one["name"], {"samples_us": [], "problem": None})
        into["samples_us"] += one.get("samples_us", [])
        into["problem"] = one.get("problem") or into["problem"]
    return result


def many_clients(agent, sizes):
    say("many clients, warm")
    return [agent.bench("rate", "--clients", clients, "--seconds", sizes.rate_seconds) for clients in sizes.clients]


def churn(agent, sizes):
    say("new sandboxes without a pause")
    return agent.bench("churn", "--clients", 4, "--seconds", sizes.churn_seconds)


def burst(agent, sizes):
    agent.wait_for_pool()
    say("bursts of 100 with a pool of %d" % agent.pool)
    return agent.bench("burst", "--clients", 100, "--count", sizes.bursts)


def payloads(agent, sizes):
    result = []
    for size in sizes.payloads:
        say("payload of %d bytes" % size)
        # A large one costs milliseconds, of which the handler's own work is most.
        count = max(30, min(sizes.warm, (64 << 20) // size))
        result.append(agent.bench("warm", "--warmup", min(count, 500), "--count", count, "--payload", size))
    return result


def side_by_side(few, many, sizes, mode, count):
    """The same on two agents in turns."""
    reports = {few.name: [], many.name: []}
    for _ in range(sizes.turns):
        for agent in (few, many):
            reports[agent.name].append(agent.bench(mode, "--samples", "--count", count))
    return {name: merged(turns) for name, turns in reports.items()}


def functions(few, many, sizes):
    """`many` is an agent that gets `sizes.functions` functions and keeps them."""
    say("deploying %d functions" % sizes.functions)
    deployed = many.bench("deploy", "--keep", "--count", sizes.functions, seconds=3600)
    say("invocations with %d functions deployed" % sizes.functions)
    return {"deploy": deployed,
            "cold": side_by_side(few, many, sizes, "cold", sizes.cold),
            "warm": side_by_side(few, many, sizes, "warm", sizes.warm),
            "agent_kib": memory_of(many.pid)}


def held(few, many, sizes):
    """`many` holds `sizes.held` sandboxes ready."""
    say("filling a pool of %d" % sizes.held)
    began = time.monotonic()
    many.bench("cold", "--count", 1)  # a runtime is started when it is first needed
    many.wait_for_pool()
    filled = time.monotonic() - began
    say("invocations with %d sandboxes held" % sizes.held)
    return {"fill_seconds": filled,
            "cold": side_by_side(few, many, sizes, "cold", sizes.cold),
            "memory": held_memory(many)}


def slab_kib():
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return {name: int(fields[name].split()[0]) for name in ("Slab", "PageTables", "KernelStack", "Percpu")}


def held_memory(agent):
    """Of the sandboxes of a full pool: their own memory by smaps, a process's median and a sandbox's sum."""
    zygote = agent.runtime()["zygote_pid"]
    by_process = []
    for pid in processes_below(agent.pid):
        if pid != zygote:
            try:
                by_process.append(memory_of(pid))
            except (OSError, KeyError):
                continue  # ended meanwhile
    return {"sandboxes": agent.runtime()["pool_ready"], "processes": len(by_process),
            "pss_kib": sum(one["pss"] for one in by_process),
            "anonymous_kib": sum(one["pss_anon"] for one in by_process),
            "kernel_kib": slab_kib(), "zygote": memory_of(zygote)}


def idle(agent, sizes):
    say("an agent that nobody asks, for %d s" % sizes.idle_seconds)
    return agent.bench("idle", "--seconds", sizes.idle_seconds)
