"""How long a function takes on a running agent, and the same handler started by other means.

Times are a client's: from before the request is sent until the answer has been read, over a
connection that is held. The others are timed from their start to their exit, since that is what it
takes to get an answer from them. All of them run the same Python of the same image, with the same
file on stdin.
"""
import argparse
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

# A directory that every image has: they would make one that is missing, in the image.
CODE = "/mnt"
# What an agent does for a function, in a process that starts from nothing: import, read, call, answer.
ONCE = (
    f"import sys, json; sys.path.insert(0, '{CODE}'); import handler; "
    "json.dump(handler.main(sys.stdin.buffer.read(), None), sys.stdout)"
)
PYTHON = ["/usr/bin/python3", "-I", "-c", ONCE]


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("brood", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def invoke(connection, function, body):
    """Returns the answer, the milliseconds it took, and those that were the handler's own."""
    begin = time.perf_counter()
    connection.request("POST", f"/functions/{function}/invocations", body, {"content-type": "text/plain"})
    response = connection.getresponse()
    answer = response.read()
    took = (time.perf_counter() - begin) * 1000
    if response.status != 200:
        sys.exit(f"figures: {function}: {response.status} {answer.decode(errors='replace')[:500]}")
    stages = dict(pair.split("=") for pair in response.getheader("Brood-Trace", "").split(",") if "=" in pair)
    own = (float(stages.get("returned", 0)) - float(stages.get("called", 0))) / 1000
    return json.loads(answer), response.getheader("Brood-Start"), took, own


def median_of(connection, function, body, count, want_start):
    took, own = [], []
    for _ in range(count):
        _, start, milliseconds, handlers = invoke(connection, function, body)
        if start != want_start:
            continue
        took.append(milliseconds)
        own.append(handlers)
        if want_start == "cold":
            time.sleep(0.05)  # for the pool, which refills behind the answer
    if not took:
        sys.exit(f"figures: no invocation of {function} was {want_start}")
    return statistics.median(took), statistics.median(own)


# --- the same by other means ---------------------------------------------------------------------

def oci_bundle(folder, rootfs, code):
    process = {"terminal": False, "user": {"uid": 0, "gid": 0}, "cwd": "/", "noNewPrivileges": True, "args": PYTHON,
               "env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"],
               "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted")}}
    bind = ["rbind", "ro", "nosuid", "nodev"]
    config = {
        "ociVersion": "1.0.2", "process": process, "root": {"path": rootfs, "readonly": True}, "hostname": "sandbox",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "size=16m"]},
            {"destination": CODE, "type": "bind", "source": code, "options": bind},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
    }
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)


class Peers:
    def __init__(self, folder, rootfs, code):
        self.folder, self.rootfs, self.code, self.count = folder, rootfs, code, 0

    def command(self, name):
        self.count += 1
        if name == "bwrap":
            return ["bwrap", "--ro-bind", self.rootfs, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
                    "--ro-bind", self.code, CODE, "--unshare-all", "--die-with-parent", "--clearenv", *PYTHON]
        # No cgroup: what is compared is the start, and not every host lets them make one.
        no_cgroup = ["--cgroup-manager=disabled"] if name == "crun" else []
        return [name, "--root", os.path.join(self.folder, name), *no_cgroup, "run", "--bundle", self.folder,
                f"brood-figures-{os.getpid()}-{self.count}"]

    def run(self, name, body):
        begin = time.perf_counter()
        done = subprocess.run(self.command(name), input=body, capture_output=True, timeout=60, check=False)
        took = (time.perf_counter() - begin) * 1000
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"exit {done.returncode}: {said[-1][:160]}")
        return json.loads(done.stdout), took


def peer_figures(options, body, expected):
    with tempfile.TemporaryDirectory(prefix="brood-figures-") as folder:
        oci_bundle(folder, options.rootfs, os.path.abspath(options.code))
        peers = Peers(folder, options.rootfs, os.path.abspath(options.code))
        for name in ("bwrap", "crun", "runc"):
            if shutil.which(name) is None:
                yield name, None, "not installed"
                continue
            try:
                answers = [peers.run(name, body) for _ in range(options.peer_count)]
            except (RuntimeError, ValueError, OSError, subprocess.TimeoutExpired) as error:
                yield name, None, f"does not run on this host: {error}"
                continue
            if any(answer != expected for answer, _ in answers):
                yield name, None, "answered something else"
                continue
            yield name, statistics.median(took for _, took in answers), ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--cold", required=True, help="the function, deployed with reuse = false")
    parser.add_argument("--warm", required=True, help="the function")
    parser.add_argument("--file", required=True, help="the payload")
    parser.add_argument("--code", required=True, help="the function's folder")
    parser.add_argument("--rootfs", required=True, help="the image's root, for the others")
    parser.add_argument("--cold-count", type=int, default=20)
    parser.add_argument("--warm-count", type=int, default=100)
    parser.add_argument("--peer-count", type=int, default=5)
    options = parser.parse_args()
    with open(options.file, "rb") as file:
        body = file.read()
    connection = Connection(options.socket)
    expected, *_ = invoke(connection, options.warm, body)
    cold, cold_own = median_of(connection, options.cold, body, options.cold_count, "cold")
    warm, warm_own = median_of(connection, options.warm, body, options.warm_count, "warm")
    print(f"  brood, cold   {cold:9.2f} ms   a sandbox of its own for each; {cold_own:.2f} ms of it is the handler's counting")
    print(f"  brood, warm   {warm:9.2f} ms   an instance kept; {warm_own:.2f} ms of it is the handler's counting")
    for name, took, why in peer_figures(options, body, expected):
        if took is None:
            print(f"  {name:<13}         -      {why}")
        else:
            print(f"  {name:<13} {took:9.2f} ms   the same Python and handler, started for it")


if __name__ == "__main__":
    main()
