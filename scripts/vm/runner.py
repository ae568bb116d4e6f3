"""Runs what scripts/test-vm has planned, inside the test machine, and reports each result.

Reports are JSON lines on a virtio port. The kernel lets a port be opened once, and the runner has it
open before the first test starts: no test, not even one that is root, can write to it.
"""
import collections
import glob
import json
import os
import selectors
import signal
import subprocess
import sys
import time

PLAN = "/brood/vm/plan.json"
CGROUPS = "/sys/fs/cgroup"
KEPT_OUTPUT = 64 << 10


def open_port(name):
    for path in glob.glob("/sys/class/virtio-ports/*/name"):
        with open(path) as file:
            if file.read().strip() == name:
                device = "/dev/" + os.path.basename(os.path.dirname(path))
                return os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    sys.exit("runner: no virtio port " + name)


class Report:
    def __init__(self):
        self.port = open_port("brood.result")

    def send(self, **fields):
        data = (json.dumps(fields) + "\n").encode()
        while data:
            data = data[os.write(self.port, data):]


class CaseCgroup:
    """A cgroup of the case's own, with every controller, as a service with Delegate=yes has it."""

    def __init__(self, number):
        self.path = f"{CGROUPS}/case-{number}"
        os.mkdir(self.path)

    def enter(self):
        with open(self.path + "/cgroup.procs", "w") as file:
            file.write("0")

    def populated(self):
        with open(self.path + "/cgroup.events") as file:
            return "populated 1" in file.read()

    def kill(self):
        with open(self.path + "/cgroup.kill", "w") as file:
            file.write("1")

    def remove(self):
        """Says what the case has left behind, and takes it away."""
        left = []
        if self.populated():
            left.append("processes")
            self.kill()
            self.wait_until_empty()
        below = [path for path, _, _ in os.walk(self.path, topdown=False)]
        left += [path[len(self.path) + 1:] for path in below if path != self.path]
        for path in below:
            try:
                os.rmdir(path)
            except OSError as error:
                left.append(f"{path}: {error.strerror}")
        return left

    def wait_until_empty(self):
        for _ in range(100):
            if not self.populated():
                return
            time.sleep(0.05)


class Tail:
    """The last bytes of a case's output, however much it writes."""

    def __init__(self):
        self.pieces = collections.deque()
        self.size = 0

    def add(self, data):
        self.pieces.append(data)
        self.size += len(data)
        while self.size - len(self.pieces[0]) >= KEPT_OUTPUT:
            self.size -= len(self.pieces.popleft())

    def text(self):
        return b"".join(self.pieces).decode(errors="replace")


def run(command, directory, environment, timeout, cgroup, take_output):
    """Returns the exit status, or None where the time was up."""
    process = subprocess.Popen(
        command, cwd=directory, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        preexec_fn=cgroup.enter)
    deadline = time.monotonic() + timeout
    selector = selectors.DefaultSelector()
    selector.register(process.stdout, selectors.EVENT_READ)
    while time.monotonic() < deadline:
        # A process that the case has left behind may hold the pipe for ever.
        if selector.select(min(0.2, max(0.0, deadline - time.monotonic()))):
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                break
            take_output(data)
        elif process.poll() is not None:
            break
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        cgroup.kill()
        process.wait()
        return None


def skip_reason(output):
    for line in output.splitlines():
        if line.startswith("SKIPPED: "):
            return line[len("SKIPPED: "):]
    return "it gave no reason"


def verdict(test, status, output):
    if status is None:
        return "failed", f"not done after {test['timeout']:.0f} s"
    if status == test["skip_code"]:
        return "skipped", skip_reason(output)
    if status < 0:
        return "failed", "killed by " + signal.Signals(-status).name
    if status != 0:
        return "failed", f"exit status {status}"
    if "No test cases matched" in output:
        return "failed", "the program does not have this case"
    return "passed", ""


def run_test(number, test, report):
    report.send(event="start", name=test["name"])
    cgroup = CaseCgroup(number)
    os.makedirs(test["directory"], exist_ok=True)
    tail = Tail()
    begin = time.monotonic()
    try:
        status = run(test["command"], test["directory"], test["environment"], test["timeout"],
                     cgroup, tail.add)
        result, reason = verdict(test, status, tail.text())
    except OSError as error:
        result, reason = "failed", str(error)
    seconds = time.monotonic() - begin
    report.send(event="end", name=test["name"], result=result, reason=reason, seconds=seconds,
                left=cgroup.remove(), output="" if result == "passed" else tail.text())


def run_shell(command, directory, environment, report):
    cgroup = CaseCgroup(0)
    status = run(["/bin/bash", "-c", command], directory, environment, 86400, cgroup,
                 lambda data: report.send(event="output", text=data.decode(errors="replace")))
    report.send(event="exit", status=status if status >= 0 else 128 - status)


def show_places(places):
    """Source and build tree at the host's paths, writable for this run."""
    os.makedirs("/run/brood-vm", exist_ok=True)
    for number, (place, lower) in enumerate(places):
        layers = [f"/run/brood-vm/{name}-{number}" for name in ("upper", "work")]
        for path in [*layers, place]:
            os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                        f"lowerdir={lower},upperdir={layers[0]},workdir={layers[1]}", place], check=True)


def main():
    with open(PLAN) as file:
        plan = json.load(file)
    report = Report()
    show_places(plan["places"])
    report.send(event="ready", kernel=os.uname().release)
    if plan["shell"] is not None:
        run_shell(plan["shell"], plan["directory"], plan["environment"], report)
    for number, test in enumerate(plan["tests"], 1):
        run_test(number, test, report)
    report.send(event="done")


main()
