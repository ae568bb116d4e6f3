"""Functions in every language, and commands, over the agent's socket: what a client sees of each."""
import http.client
import json
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from . import stats
from .agents import Trouble, memory_of, processes_below

WORKER = r"""
#include <arpa/inet.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>
int main(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(getenv("PORT"))),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  if (bind(fd, (struct sockaddr*)&at, sizeof at) || listen(fd, 8)) return 1;
  for (;;) {
    char request[65536];
    int to = accept(fd, 0, 0);
    while (read(to, request, sizeof request) > 0) (void)!write(to, answer, sizeof answer - 1);
    close(to);
  }
}
"""
PROGRAM = r"""
#include <unistd.h>
int main(void) { (void)!write(1, "ok", 2); return 0; }
"""
PYTHON = "def main(event, context):\n    return 'ok'\n"
NODE = "exports.main = () => 'ok';\n"


class Socket(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("brood")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def compiled(folder, source):
    path = Path(folder) / "main"
    subprocess.run(["cc", "-O2", "-static", "-x", "c", "-o", path, "-"], input=source.encode(), check=True)
    return path


class Arm:
    """One function; `once` gives the microseconds of an invocation."""

    def __init__(self, agent, name, runtime, path, settings):
        self.agent, self.name, self.runtime = agent, name, runtime
        done = subprocess.run([agent.build / "bin" / "brood", "--socket", agent.socket, "deploy", name, path,
                               "--runtime", runtime, *settings], capture_output=True, check=False)
        if done.returncode != 0:
            raise Trouble("deploying %s: %s" % (name, done.stderr.decode().strip()))
        self.connection = Socket(agent.socket)
        self.samples = []

    def ready(self):
        document = json.loads(self.agent.ask("runtimes", "--json") or "{}")
        return any(one["name"] == self.runtime and one["pool_ready"] > 0 for one in document.get("runtimes", []))

    def once(self, cold):
        if cold:
            self.agent.wait_until("a sandbox of %s is ready" % self.runtime, 60, self.ready)
            time.sleep(0.005)
        began = time.perf_counter()
        self.connection.request("POST", "/functions/%s/invocations" % self.name, b"1",
                                {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        body = answer.read()
        took = (time.perf_counter() - began) * 1e6
        if answer.status != 200 or answer.headers["Brood-Start"] != ("cold" if cold else "warm"):
            raise Trouble("%s: %d %s %r" % (self.name, answer.status, answer.headers["Brood-Start"], body[:300]))
        return took


def instance_memory(agent, function):
    """Kibibytes of a function's only instance, all its processes together: pages in no file, and its share of all."""
    document = json.loads(agent.ask("ps", "--json") or "{}")
    pids = [one["pid"] for one in document.get("sandboxes", []) if one["function"] == function]
    if len(pids) != 1:
        raise Trouble("%s has %d instances, and one was expected" % (function, len(pids)))
    every = [memory_of(pid) for pid in (pids[0], *processes_below(pids[0]))]
    return {"anonymous_kib": sum(one["pss_anon"] for one in every), "pss_kib": sum(one["pss"] for one in every)}


def command_once(agent):
    """Microseconds until a command has started, and until its end is told: /bin/true of the image `base`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(agent.socket)
        body = b'{"image": "base", "arguments": ["/bin/true"]}'
        request = (b"POST /commands HTTP/1.1\r\nHost: brood\r\nContent-Type: application/json\r\n"
                   b"Content-Length: %d\r\n\r\n" % len(body)) + body
        began = time.perf_counter()
        connection.sendall(request)
        first = connection.recv(65536)
        started = time.perf_counter()
        rest = first
        while b'"end"' not in rest:
            piece = connection.recv(65536)
            if not piece:
                raise Trouble("brood run: %r" % rest[:500])
            rest += piece
        ended = time.perf_counter()
    if b'"exit_code":0' not in rest:
        raise Trouble("brood run: %r" % rest[:500])
    return (started - began) * 1e6, (ended - began) * 1e6


def measure(agent, count):
    """Cold and warm of each in turns; then commands. {arm: {"cold": […], "warm": […]}} in microseconds, and of a
    function's instance its "memory", after those invocations."""
    with tempfile.TemporaryDirectory() as folder:
        python, node = Path(folder) / "handler.py", Path(folder) / "handler.js"
        python.write_text(PYTHON)
        node.write_text(NODE)
        for name in ("worker", "program"):
            (Path(folder) / name).mkdir()
        worker, program = (compiled(Path(folder) / name, source)
                           for name, source in (("worker", WORKER), ("program", PROGRAM)))
        kinds = [("Python", "python3", python, ["--handler", "handler.main"]),
                 ("Node.js", "node", node, ["--handler", "handler.main"]),
                 ("native, a process each", "native", program, ["--handler", "main"]),
                 ("native, a worker", "native", worker, ["--handler", "main", "--listen", "8080"])]
        result = {}
        for mode, more in (("cold", ["--no-reuse"]), ("warm", ["--reuse"])):
            arms = [(kind, Arm(agent, "%s-%d" % (mode, index), runtime, path, flags + more))
                    for index, (kind, runtime, path, flags) in enumerate(kinds)]
            for kind, arm in arms:
                arm.once(True)  # not counted: the image's files come into memory
            for _ in range(count):
                for kind, arm in arms:
                    arm.samples.append(arm.once(mode == "cold"))
            for kind, arm in arms:
                result.setdefault(kind, {})[mode] = arm.samples
                if mode == "warm":
                    result[kind]["memory"] = instance_memory(agent, arm.name)
        command_once(agent)
        commands = []
        for _ in range(count):
            time.sleep(0.02)
            commands.append(command_once(agent))
        result["brood run, /bin/true"] = {"cold": [one[0] for one in commands], "warm": [one[1] for one in commands]}
        return result


def table(result):
    lines = ["| language | cold p50 | cold p99 | warm p50 | warm p99 | memory of an instance: its own | its share of all pages |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for kind, modes in result.items():
        cells = ["%.0f us" % stats.quantile(modes[mode], share) for mode in ("cold", "warm") for share in (0.5, 0.99)]
        if kind.startswith("brood run"):
            cells = [cells[0] + " to its start", cells[1], cells[2] + " to its end", cells[3]]
        memory = modes.get("memory")
        cells += ["%d KiB" % memory[key] for key in ("anonymous_kib", "pss_kib")] if memory else ["", ""]
        lines.append("| %s | %s |" % (kind, " | ".join(cells)))
    return lines
