"""The door itself: the agent's socket, as ill-behaved clients and other users of the host use it."""
import json
import os
import random
import socket
import subprocess
import sys
import time

from runner.agent import soon
from runner.client import status_of

POST = "POST /functions/probe/invocations HTTP/1.1\r\nHost: b\r\n"


# --- who may come in ------------------------------------------------------------------------------


def as_nobody(arena, paths):
    """Another local user: the socket, and what the agent keeps. Each is opened or connected to."""
    script = r"""
import errno, os, socket, stat, sys
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
for path in sys.argv[1:]:
    try:
        if path.endswith(".sock"):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(path)
        else:
            os.listdir(path)
        print("ok")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
    places = {"socket": arena.agent.socket, "state": arena.agent.state_dir}
    done = subprocess.run([sys.executable, "-I", "-c", script, *(places[name] for name in paths)],
                          capture_output=True, text=True, check=True)
    return dict(zip(paths, done.stdout.split(), strict=True))


# --- names and paths ------------------------------------------------------------------------------


def ask(arena, method, target, body=None, headers=()):
    answer = arena.agent.client.ask(method, target, body, headers)
    return f"{answer.status}"


def paths(arena, targets):
    """Targets that name what is not theirs to name, as raw request lines."""
    outcomes = {}
    for target in targets:
        data = f"GET {target} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n".encode("latin-1")
        outcomes[target] = str(status_of(arena.agent.client.exchange(data, 10)))
    return outcomes


def names(arena, names):
    """Functions deployed under names that are none."""
    outcomes = {}
    body = json.dumps({"code": arena.agent.code})
    for name in names:
        data = (f"PUT /functions/{name} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        outcomes[name] = str(status_of(arena.agent.client.exchange(data.encode("latin-1"), 10)))
    return outcomes


def fields(arena, fields):
    """One field of a deployment with a value that is none, each [LABEL, FIELD, VALUE]."""
    outcomes = {}
    for label, field, value in fields:
        document = json.dumps({"code": arena.agent.code, field: value})
        outcomes[label] = ask(arena, "PUT", "/functions/door", document,
                              {"Content-Type": "application/json"})
        arena.agent.remove("door")
    return outcomes


def documents(arena, documents):
    """Whole documents that are none, each [LABEL, TEXT, TIMES]: the text repeated."""
    return {label: ask(arena, "PUT", "/functions/door", text * times,
                       {"Content-Type": "application/json"})
            for label, text, times in documents}


def file_names(arena, names):
    """Uploads of a single file, under names that lead elsewhere."""
    outcomes = {}
    for name in names:
        head = (f"POST /code HTTP/1.1\r\nHost: b\r\nConnection: close\r\nBrood-File-Name: {name}\r\n"
                "Content-Type: application/octet-stream\r\nContent-Length: 1\r\n\r\nx")
        outcomes[name] = str(status_of(arena.agent.client.exchange(head.encode("latin-1"), 20)))
    return outcomes


def handlers(arena, handlers):
    """Handlers that name what is no function of the code: they are deployed or not, never run."""
    outcomes = {}
    for handler in handlers:
        document = json.dumps({"code": arena.agent.code, "handler": handler})
        put = arena.agent.client.ask("PUT", "/functions/door", document,
                                     {"Content-Type": "application/json"})
        outcomes[handler] = "refused"
        if put.status in (200, 201):
            outcomes[handler] = arena.agent.call("door", {}).ending
            arena.agent.remove("door")
    return outcomes


def values_inside(arena):
    """Environment values that would be options, lines or programs elsewhere arrive as they are."""
    values = {"A": "--bind=/", "B": "x\ny=z", "C": "$(reboot)`reboot`;reboot", "D": "%n%s", "E": "=",
              "F": "/../../etc"}
    arena.agent.deploy("door", environment=values)
    try:
        return arena.agent.probe("leaks.environment_is", {"values": values}, "door")
    finally:
        arena.agent.remove("door")


# --- framing --------------------------------------------------------------------------------------


def smuggle(arena, framings):
    """Requests of unclear framing with another behind them: the other must not be taken for one."""
    arena.agent.deploy("victim")
    hidden = "DELETE /functions/victim HTTP/1.1\r\nHost: b\r\n\r\n"
    outcomes = {}
    try:
        for label, head in framings.items():
            data = arena.agent.client.exchange((POST + head + hidden).encode("latin-1"), 5)
            refused = status_of(data) >= 400 and data.count(b"HTTP/1.1 ") == 1
            outcomes[label] = "refused" if refused else f"{data[:300]!r}"
        there = arena.agent.client.ask("GET", "/functions/victim").status == 200
        return {**outcomes, "victim": "there" if there else "removed"}
    finally:
        arena.agent.remove("victim")


def short_body(arena):
    """Less than was announced, then the end; and more: the rest is no request of anybody's."""
    body = b'{"probe": "wire.echo", "arguments": {"number": 3}}'
    announced = f"Content-Type: application/json\r\nContent-Length: {len(body) + 10}\r\n\r\n"
    short = arena.agent.client.exchange((POST + announced).encode() + body, 10, shut=True)
    exact = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    long = arena.agent.client.exchange((POST + exact).encode() + body + b"x" * 100 + b"\r\n\r\n", 10)
    answers = long.count(b"HTTP/1.1 200 ")
    return {"shorter": "not run" if b"HTTP/1.1 200" not in short else "run",
            "longer": "one answer" if answers == 1 else f"{answers} answers"}


def response_splitting(arena):
    """Line breaks in what is sent back: none of it becomes a header."""
    data = ("GET /functions/x%0d%0aInjected:%20yes HTTP/1.1\r\nHost: b\r\nConnection: close\r\n"
            "Brood-Api-Version: 1\r\n\r\n").encode()
    head = arena.agent.client.exchange(data, 10).split(b"\r\n\r\n")[0].lower()
    return {"header": "there" if b"\r\ninjected:" in head else "absent",
            "answered": "yes" if status_of(head + b"\r\n") >= 400 or head else "no"}


# --- many and slow --------------------------------------------------------------------------------


def idle_connections(arena, count):
    """Connections that say nothing, with others that have to be served."""
    peers = []
    try:
        for _ in range(count):
            peers.append(arena.agent.client.open(5))
        served = [arena.outside.check_neighbour() for _ in range(20)]
        return {"opened": str(len(peers)), "neighbour": "served" if not any(served) else "not served"}
    finally:
        for peer in peers:
            peer.close()


def slow_heads(arena, count, seconds):
    """Heads that come a byte at a time, with others that have to be served meanwhile."""
    peers = [arena.agent.client.open(5) for _ in range(count)]
    wrong = 0
    try:
        end = time.monotonic() + seconds
        data = iter((b"GET /version HTTP/1.1\r\n" + b"A: b\r\n" * 1000))
        while time.monotonic() < end:
            byte = bytes((next(data),))
            for peer in peers:
                try:
                    peer.send(byte)
                except OSError:
                    pass  # given up by the agent: that is its right
            wrong += bool(arena.outside.check_neighbour())
            time.sleep(0.02)
        return {"neighbour": "served" if not wrong else "not served"}
    finally:
        for peer in peers:
            peer.close()


def slow_bodies(arena, count):
    """Bodies of which nothing comes after the first byte: others are served, nothing is kept."""
    head = (POST + "Content-Length: 6000000\r\n\r\n{").encode()
    upload = (b"POST /code HTTP/1.1\r\nHost: b\r\nContent-Type: application/x-tar\r\n"
              b"Content-Length: 60000000\r\n\r\nx")
    peers = [arena.agent.client.open(5) for _ in range(count)]
    try:
        for number, peer in enumerate(peers):
            peer.sendall(head if number % 2 else upload)
        served = [arena.outside.check_neighbour() for _ in range(20)]
    finally:
        for peer in peers:
            peer.close()
    staging = arena.agent.state_dir + "/staging"
    gone = soon(lambda: not os.path.isdir(staging) or not os.listdir(staging))
    return {"neighbour": "served" if not any(served) else "not served",
            "staging": "empty" if gone else "kept"}


def many_heads(arena):
    """Heads that are too large in each of the ways: refused, with a status that says so."""
    heads = {"line": "GET /" + "x" * 20000 + " HTTP/1.1\r\n\r\n",
             "header": "GET /version HTTP/1.1\r\nHost: b\r\nA: " + "x" * 20000 + "\r\n\r\n",
             "headers": "GET /version HTTP/1.1\r\nHost: b\r\n" + "a:\r\n" * 8000 + "\r\n",
             "no end": "GET /version HTTP/1.1\r\nHost: b\r\nA: " + "x" * 200000}
    return {label: str(status_of(arena.agent.client.exchange(head.encode(), 10)))
            for label, head in heads.items()}


def descriptors(arena, count):
    """Descriptors sent along with requests: the agent must not keep one."""
    before = arena.outside.open_descriptors()
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        with arena.agent.client.open(10) as peer:
            for _ in range(count):
                socket.send_fds(peer, [b"GET /version HTTP/1.1\r\nHost: b\r\n\r\n"], [null] * 200)
                peer.recv(65536)
            # While the connection is there: what is dropped at its end only, would be kept till then.
            kept = not soon(lambda: arena.outside.open_descriptors() < before + 150, 3)
    finally:
        os.close(null)
    return {"descriptors": "kept" if kept else "dropped"}


def fuzz(arena, rounds):
    """Random changes to good requests: none may stop the agent."""
    chance = random.Random(11)
    seed = (POST + "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}").encode()
    sent = 0
    for _ in range(rounds):
        data = bytearray(seed)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with arena.agent.client.open(5) as peer:
            peer.sendall(bytes(data))
            sent += 1
    return {"sent": "all" if sent == rounds else str(sent)}
