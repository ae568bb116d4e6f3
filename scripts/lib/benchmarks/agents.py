"""Agents for a benchmark: each with a folder, a socket and a pool of its own, ended with it."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

START_SECONDS = 120
POOL_SECONDS = 300


class Trouble(Exception):
    """A benchmark cannot go on; the text says why."""


class Agent:
    """`pool`: sandboxes kept ready. Used as a context."""

    def __init__(self, build, images, name, pool, sandboxes=512):
        self.build = Path(build)
        self.images = images
        self.name = name
        self.pool = pool
        self.folder = Path(tempfile.mkdtemp(prefix="brood-bench-%s-" % name))
        self.socket = str(self.folder / "brood.sock")
        (self.folder / "broodd.toml").write_text(
            "max_sandboxes = %d\n\n[runtimes.python3]\npool_min = %d\npool_max = %d\n"
            % (sandboxes, pool, max(pool, 64)))
        self.process = None

    def __enter__(self):
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(
            [self.build / "bin" / "broodd", "--config", self.folder / "broodd.toml", "--socket", self.socket,
             "--state-dir", self.folder / "state", "--run-dir", self.folder / "run",
             "--images-dir", self.images, "--limits", limits_of(self.build)],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        try:
            self.wait_until("it answers", START_SECONDS, lambda: self.ask("version") is not None)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(POOL_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self):
        return self.process.pid

    def wait_until(self, what, seconds, holds):
        end = time.monotonic() + seconds
        while not holds():
            if self.process.poll() is not None or time.monotonic() > end:
                tail = (self.folder / "log").read_text(errors="replace")[-2000:]
                raise Trouble("agent %s: not seen within %d s that %s\n%s" % (self.name, seconds, what, tail))
            time.sleep(0.05)

    def ask(self, *arguments):
        """A verb of `brood` with --json, or None where it failed."""
        done = subprocess.run([self.build / "bin" / "brood", "--socket", self.socket, *arguments],
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return done.stdout.decode() if done.returncode == 0 else None

    def runtime(self):
        document = json.loads(self.ask("runtimes", "--json") or "{}")
        return next((one for one in document.get("runtimes", []) if one["name"] == "python3"), {})

    def wait_for_pool(self):
        self.wait_until("its pool is full", POOL_SECONDS,
                        lambda: self.runtime().get("pool_ready", 0) >= self.pool)

    def bench(self, mode, *arguments, seconds=600):
        """The report of a run of brood-bench."""
        command = [self.build / "bin" / "brood-bench", mode, *map(str, arguments), "--json", "--socket", self.socket,
                   "--images-dir", self.images]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
        if done.returncode != 0:
            raise Trouble("agent %s: brood-bench %s: %s" % (self.name, mode, done.stderr.decode().strip()))
        return json.loads(done.stdout)


def limits_of(build):
    """`enforce` where this host can."""
    done = subprocess.run([Path(build) / "bin" / "brood", "check", "--json"], stdin=subprocess.DEVNULL,
                          capture_output=True, check=False)
    findings = json.loads(done.stdout or b"{}").get("findings", [])
    missing = any(one["level"] == "missing" and one["id"].startswith("cgroup.") for one in findings)
    return "best-effort" if missing else "enforce"


def memory_of(pid):
    """Kibibytes of a process by /proc/PID/smaps_rollup: its share of all pages, and of those without files."""
    fields = {}
    for line in Path("/proc/%d/smaps_rollup" % pid).read_text().splitlines()[1:]:
        key, _, value = line.partition(":")
        fields[key] = int(value.split()[0])
    return {"rss": fields["Rss"], "pss": fields["Pss"], "pss_anon": fields.get("Pss_Anon", 0)}


def processes_below(pid):
    """Every descendant of a process, by the ppids of /proc."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc/%s/stat" % entry).read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found
