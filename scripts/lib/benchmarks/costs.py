"""What an invocation costs, in counts that a busy machine does not move: instructions of the agent's pure code,
system calls of agent, zygote and sandbox, page faults of the handler."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from .agents import Trouble, processes_below

ROOT = Path(__file__).resolve().parents[3]
STRACE_SECONDS = 60


class Lacking(Exception):
    """This host cannot count that; the text says why."""


class Client(http.client.HTTPConnection):
    """One held connection to an agent's socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)

    def invoke(self, name):
        self.request("POST", "/functions/%s/invocations" % name, body=b'{"text": "a word and a word", "number": 7}',
                     headers={"Content-Type": "application/json"})
        reply = self.getresponse()
        body = reply.read()
        if reply.status != 200:
            raise Trouble("an invocation of %s: %d %s" % (name, reply.status, body[:500]))
        return reply.headers


def deploy(agent, name, *flags):
    if agent.ask("deploy", name, str(ROOT / "bench" / "handler.py"), *flags) is None:
        raise Trouble("the handler could not be deployed as %s" % name)


# --- instructions --------------------------------------------------------------------------------------


def instructions(build, piece):
    """Of one round of brood-hot-path, by the difference of two runs: their starts fall out."""
    if shutil.which("valgrind") is None:
        raise Lacking("valgrind is not installed")
    few, many = (instructions_of_run(build, piece, rounds) for rounds in (100, 1100))
    return (many - few) / 1000


def instructions_of_run(build, piece, rounds):
    done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                           build / "bin" / "brood-hot-path", piece, str(rounds)],
                          stdin=subprocess.DEVNULL, capture_output=True, check=False)
    found = re.search(rb"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise Trouble("callgrind of %s: %s" % (piece, done.stderr.decode(errors="replace")[-1000:]))
    return int(found.group(1))


# --- system calls --------------------------------------------------------------------------------------


class Counted:
    """Counts the system calls of processes, and of what they start, while its block runs."""

    def __init__(self, pids):
        self.pids = pids
        self.calls = {}

    def __enter__(self):
        if shutil.which("strace") is None:
            raise Lacking("strace is not installed")
        self.folder = tempfile.TemporaryDirectory(prefix="brood-budgets-")
        self.table = Path(self.folder.name) / "table"
        self.said = open(Path(self.folder.name) / "said", "wb")
        self.process = subprocess.Popen(
            ["strace", "-f", "-c", "-U", "name,calls", "-o", self.table, *["--attach=%d" % pid for pid in self.pids]],
            stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said)
        try:
            self.wait_until_attached()
        except BaseException:
            self.stop()
            raise
        return self

    def wait_until_attached(self):
        end = time.monotonic() + STRACE_SECONDS
        while not all(traced(pid) for pid in self.pids):
            if self.process.poll() is not None or time.monotonic() > end:
                raise Lacking("strace cannot attach: %s" % Path(self.said.name).read_text(errors="replace")[-300:])
            time.sleep(0.01)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(STRACE_SECONDS)
        self.said.close()

    def __exit__(self, kind, *_):
        self.stop()
        if kind is None:
            for line in self.table.read_text().splitlines():
                name, _, calls = line.strip().partition(" ")
                if calls.strip().isdigit() and name != "total":
                    self.calls[name] = int(calls)
        self.folder.cleanup()


def traced(pid):
    try:
        status = Path("/proc/%d/status" % pid).read_text()
    except OSError:
        return False
    return int(re.search(r"^TracerPid:\s+(\d+)", status, re.M).group(1)) != 0


def calls_of(agent, name, count, pause_seconds):
    """Of `count` invocations, of everything below the agent."""
    client = Client(agent.socket)
    client.invoke(name)
    agent.wait_for_pool()
    time.sleep(0.3)
    with Counted([agent.pid, *processes_below(agent.pid)]) as counted:
        for _ in range(count):
            client.invoke(name)
            time.sleep(pause_seconds)
        time.sleep(1)  # what is made and unmade behind the last
    client.close()
    return counted.calls


def system_calls(agent, name, few, many, pause_seconds):
    """By name, of one invocation, by the difference of two runs."""
    first = calls_of(agent, name, few, pause_seconds)
    second = calls_of(agent, name, many, pause_seconds)
    return {call: (second.get(call, 0) - first.get(call, 0)) / (many - few) for call in {**first, **second}}


def warm_calls(agent):
    deploy(agent, "budget-warm")
    return system_calls(agent, "budget-warm", 100, 600, 0)


def cold_calls(agent):
    deploy(agent, "budget-cold", "--no-reuse")
    return system_calls(agent, "budget-cold", 5, 25, 0.3)


# --- page faults ---------------------------------------------------------------------------------------


def faults_of(pid):
    return int(Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[7])


def cold_faults(agent, rounds=9):
    """Of a handler's process from its binding to its first answer; the median of some."""
    deploy(agent, "budget-faults", "--idle", "60s", "--concurrency", "1")
    found = []
    for _ in range(rounds):
        agent.wait_for_pool()
        time.sleep(0.2)
        zygote = agent.runtime()["zygote_pid"]
        before = {pid: faults_of(pid) for pid in processes_below(zygote)}
        client = Client(agent.socket)
        headers = client.invoke("budget-faults")
        client.close()
        if headers["Brood-Start"] != "cold":
            raise Trouble("an invocation that was to be cold was %s" % headers["Brood-Start"])
        listed = json.loads(agent.ask("ps", "--json"))["sandboxes"]
        bound = next(one for one in listed if one["function"] == "budget-faults" and one["state"] == "idle")
        handler = processes_below(bound["pid"])[0]
        found.append(faults_of(handler) - before[handler])
        deploy(agent, "budget-faults", "--idle", "60s", "--concurrency", "1", "--env", "ROUND=%d" % len(found))
    return sorted(found)[len(found) // 2]
