"""A real agent, product or weakened, with places of its own; gone with the block."""
import ctypes
import glob
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time

from . import room as rooms
from .client import Client

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
FIRST_SANDBOX_UID = 1 << 31


# What a command is started as. The handler's own output is not the answer.
COMMAND = """
import json, os, sys, tarfile
event = json.loads(sys.stdin.buffer.readline())
os.mkdir("/tmp/probes")
tarfile.open(fileobj=sys.stdin.buffer, mode="r|").extractall("/tmp/probes")
null = os.open("/dev/null", os.O_RDONLY)
os.dup2(null, 0)
os.close(null)
answer = os.dup(1)
os.dup2(2, 1)
sys.path.insert(0, "/tmp/probes")
import handler
result = json.dumps(handler.main(event, None)).encode()
while result:
    result = result[os.write(answer, result):]
"""


class Trouble(Exception):
    """The matrix cannot go on, or a row cannot be tried."""


def slowness():
    """How much slower than an ordinary host this one is."""
    return max(1.0, float(os.environ.get("BROOD_TEST_SLOWNESS", "1")))


def soon(happened, seconds=10.0):
    """Waits for what happens soon; the last answer of `happened`."""
    end = time.monotonic() + seconds * slowness()
    while not (answer := happened()) and time.monotonic() < end:
        time.sleep(0.02)
    return answer


def die_with_runner():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def package(source, program):
    """The probes as one archive."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path in sorted(glob.glob(source + "/tests/hostile/probes/*.py")):
            tar.add(path, os.path.basename(path))
        tar.add(program, "attack")
    return data.getvalue()


class Agent:
    """`weakening` is an entry of weakened.toml, or None for the agent as it is shipped."""

    # Enough for any probe; what a row wants otherwise it says in its settings. A timeout is in seconds
    # of an ordinary host.
    SETTINGS = {"memory": "192MiB", "pids": 64, "reuse": False, "concurrency": 4, "timeout": 60}

    def __init__(self, places, room, weakening=None):
        self.places = places
        self.weakening = weakening or {}
        self.cgroup = room.make()
        self.scratch = room.scratch + "/agent"  # the same for all, one after the other
        os.mkdir(self.scratch)
        self.socket = self.scratch + "/brood.sock"
        self.state_dir = self.scratch + "/state"
        self.run_dir = self.scratch + "/run"
        self.log_path = self.scratch + "/log"
        self.client = Client(self.socket, 90 * slowness())
        self.process = None
        self.complaints = []
        self.command = self.make_command()

    # --- life -----------------------------------------------------------------------------------

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.stop()
        self.complaints += ["left behind: " + what for what in rooms.remove(self.cgroup)]
        shutil.rmtree(self.scratch, ignore_errors=True)

    def make_command(self):
        weakened = bool(self.weakening)
        program = "broodd-seam" if weakened else "broodd"
        support = self.places.build + ("/seam/runtimes" if weakened else "/runtimes")
        unpack = self.places.build + "/bin/brood-unpack"
        if "unpack" in self.weakening:
            unpack = self.places.source + "/tests/hostile/" + self.weakening["unpack"]
        if "reseed" in self.weakening:
            support = self.support_without_reseed(support)
        return [f"{self.places.build}/bin/{program}", "--config=" + self.scratch + "/broodd.toml",
                "--socket=" + self.socket, "--state-dir=" + self.state_dir,
                "--run-dir=" + self.run_dir, "--images-dir=" + self.places.images,
                "--support-dir=" + support, "--unpack-program=" + unpack,
                "--cgroup-parent=" + self.cgroup, "--limits=best-effort"]

    def support_without_reseed(self, support):
        """The runtime's programs, but with a sandbox that keeps the zygote's random state."""
        copy = self.scratch + "/support"
        shutil.copytree(support, copy)
        path = copy + "/python/sandbox.py"
        with open(path) as file:
            text = file.read()
        if "def main(fd, awaited):" not in text or "    reseed()\n" not in text:
            raise Trouble("sandbox.py does not reseed where the matrix thinks it does")
        with open(path, "w") as file:
            file.write(text.replace("    reseed()\n", "", 1))
        return copy

    def start(self):
        with open(self.scratch + "/broodd.toml", "w") as file:
            file.write("[runtimes.python3]\npool_min = 3\npool_max = 8\n")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "BROOD_HOSTILE_AGENT": "yes",
                     **self.weakening.get("environment", {})},
                preexec_fn=die_with_runner, start_new_session=True)
        if not soon(self.serves, 30):
            raise Trouble("the agent does not serve:\n" + self.log()[-2000:])
        if "socket_mode" in self.weakening:
            os.chmod(self.socket, self.weakening["socket_mode"])
        self.deploy_probes()

    def serves(self):
        if self.process.poll() is not None:
            raise Trouble("the agent has ended:\n" + self.log()[-2000:])
        try:
            return self.client.ask("GET", "/version").status == 200
        except OSError:
            return False

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(60 * slowness())
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
            self.complaints.append("the agent did not end when it was told to")
        if status != 0:
            self.complaints.append(f"the agent ended with {status}:\n" + self.log()[-2000:])

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    # --- functions ------------------------------------------------------------------------------

    def deploy_probes(self):
        uploaded = self.client.ask("POST", "/code", self.places.package(),
                                   {"Content-Type": "application/x-tar"})
        if uploaded.status != 201:
            raise Trouble(f"the probes cannot be uploaded: {uploaded.body!r}")
        self.code = uploaded.json()["digest"]
        self.deploy("probe")
        self.deploy("neighbour", handler="handler.neighbour", reuse=True, idle="1h")

    def deploy(self, name, **settings):
        document = {**self.SETTINGS, "code": self.code, **settings}
        document["timeout"] *= slowness()
        answer = self.client.ask("PUT", "/functions/" + name, json.dumps(document),
                                 {"Content-Type": "application/json"})
        if answer.status not in (200, 201):
            raise Trouble(f"{name} cannot be deployed: {answer.body!r}")

    def remove(self, name):
        self.client.ask("DELETE", "/functions/" + name)

    def call(self, name, event):
        return self.client.ask("POST", f"/functions/{name}/invocations", json.dumps(event),
                               {"Content-Type": "application/json"})

    def probe(self, probe, arguments=None, function="probe"):
        """The outcomes of a probe. Raises Trouble where it was not carried out."""
        answer = self.call(function, {"probe": probe, "arguments": arguments or {}})
        if answer.ending != "ok":
            raise Trouble(f"{probe} was not carried out: {answer.ending} {answer.body.decode()[:1500]}")
        return answer.json()["outcomes"]

    def probe_as_command(self, probe, arguments=None, user=None, image="python3"):
        """The same by `brood run`."""
        return self.run_probe(["--socket", self.socket, "run"], probe, arguments, user, image)

    def probe_alone(self, probe, arguments=None, user=None, image="python3"):
        """The same by `brood run --standalone`, which this agent has no part in."""
        limits = "enforce" if self.enforces() else "best-effort"
        return self.run_probe(["run", "--standalone", "--images", self.places.images, "--limits", limits, "--cgroup-parent", self.cgroup],
                              probe, arguments, user, image)

    def run_probe(self, verb, probe, arguments, user, image):
        """The probes come on standard input, behind a line that says which."""
        seconds = int(self.SETTINGS["timeout"] * slowness())
        event = json.dumps({"probe": probe, "arguments": arguments or {}}).encode()
        done = subprocess.run(
            [self.places.build + "/bin/brood", *verb, "--image", image, "--memory",
             self.SETTINGS["memory"], *(["--user", user] if user else []), "--pids", str(self.SETTINGS["pids"]), "--timeout", f"{seconds}s", "--",
             "python3", "-I", "-B", "-c", COMMAND],
            input=event + b"\n" + self.places.package(), capture_output=True, timeout=seconds + 60, check=False)
        if done.returncode != 0:
            raise Trouble(f"{probe} was not carried out as a command: status {done.returncode}, "
                          + done.stderr.decode(errors="replace")[-1500:])
        return json.loads(done.stdout)["outcomes"]

    def printed(self, name, invocation):
        """What an invocation has printed, line by line."""
        answer = self.client.ask("GET", f"/functions/{name}/logs?tail=1000")
        lines = map(json.loads, answer.body.splitlines())
        return [line["text"] for line in lines if line.get("invocation") == invocation]

    # --- what there is of it --------------------------------------------------------------------

    @property
    def pid(self):
        return self.process.pid

    def status(self):
        return self.client.get("/status")

    def zygote(self):
        return self.status()["runtimes"][0]

    def sandboxes(self, function=None):
        found = self.client.get("/sandboxes")["sandboxes"]
        return [one for one in found if function in (None, one["function"])]

    def cgroup_of(self, sandbox):
        number = sandbox["id"].rsplit("-", 1)[1]
        # A cgroup's name has no dot.
        runtime = re.sub(r"^run\.", "_", sandbox["runtime"]).replace(".", "D")
        return f"{self.instance_cgroup()}/{runtime}/sandbox-{number}"

    def instance_cgroup(self):
        return next(iter(glob.glob(self.cgroup + "/brood-*")))

    def sandbox_cgroups(self):
        return set(glob.glob(self.cgroup + "/brood-*/*/sandbox-*"))

    def enforces(self):
        """Whether it holds functions to their limits of memory, cpu and pids."""
        return not {"memory", "cpu", "pids"} & set(self.status()["limits_not_enforced"])
