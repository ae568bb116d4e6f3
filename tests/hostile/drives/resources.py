"""What is taken without end, seen from outside."""
import os
import threading
import time

from runner.agent import slowness, soon


def memory(arena, route, limit=1 << 30):
    """Memory by one route, in a function whose limit is small: how it ends, and who else suffers."""
    arena.agent.deploy("taker", memory="48MiB")
    try:
        answer = arena.agent.call("taker", {"probe": "resources.memory",
                                            "arguments": {"route": route, "limit": limit}})
        if answer.ending != "ok":
            return {route: answer.ending}
        return {route: answer.json()["outcomes"][route]}
    finally:
        arena.agent.remove("taker")


def beside(arena, action, seconds):
    """Asks the neighbour while `action` runs; how often it answered wrongly, and what came of it."""
    results = []
    thread = threading.Thread(target=lambda: results.append(action()))
    thread.start()
    asked = wrong = 0
    end = time.monotonic() + seconds * slowness()
    while thread.is_alive() and time.monotonic() < end:
        asked += 1
        wrong += bool(arena.outside.check_neighbour())
        time.sleep(0.05)
    thread.join()
    return results[0], "served" if asked and not wrong else f"wrong {wrong} of {asked} times"


def bomb(arena, probe, arguments, timeout=2):
    """Something that goes on until its deadline, with a neighbour that has to be served."""
    arena.agent.deploy("bomb", timeout=timeout, memory="64MiB")
    try:
        answer, neighbour = beside(arena, lambda: arena.agent.call(
            "bomb", {"probe": probe, "arguments": arguments}), 60)
        return {"ending": answer.ending, "neighbour": neighbour}
    finally:
        arena.agent.remove("bomb")


def spin(arena, threads, seconds, cpu=0.5):
    """Many processes that compute, held to a share of one processor: by the kernel's own count."""
    arena.agent.deploy("spinner", cpu=cpu, pids=64, reuse=True, idle="1h")
    try:
        begin = time.monotonic()
        answer, neighbour = beside(arena, lambda: arena.agent.call(
            "spinner", {"probe": "resources.spin",
                        "arguments": {"threads": threads, "seconds": seconds}}), 120)
        wall = time.monotonic() - begin
        sandbox, = arena.agent.sandboxes("spinner")
        used = cpu_seconds(arena.agent.cgroup_of(sandbox))
        return {"ending": answer.ending, "neighbour": neighbour,
                "processor": "held" if used <= wall * cpu * 1.25 + 0.5 else
                             f"{used:.1f} s of {wall:.1f} s"}
    finally:
        arena.agent.remove("spinner")


def cpu_seconds(cgroup):
    with open(cgroup + "/cpu.stat") as file:
        return int(file.readline().split()[1]) / 1e6


def flood(arena, size, line):
    """Printed without end: the invocation ends as it would, and the agent keeps a bounded part."""
    size = int(size / slowness())
    arena.agent.deploy("flood")
    try:
        answer, neighbour = beside(arena, lambda: arena.agent.call(
            "flood", {"probe": "resources.flood", "arguments": {"size": size, "line": line}}), 120)
        kept = sum(os.path.getsize(os.path.join(folder, name))
                   for folder, _, names in os.walk(arena.agent.state_dir + "/logs") for name in names
                   if "flood" in folder or "flood" in name)
        return {"ending": answer.ending, "neighbour": neighbour,
                "log": "bounded" if 0 < kept <= 6 << 20 else f"{kept} bytes"}
    finally:
        arena.agent.remove("flood")


def answers(arena, probe, each):
    """Answers too large or too deep: how each ends."""
    return {name: arena.agent.call("probe", {"probe": probe, "arguments": arguments}).ending
            for name, arguments in each.items()}


def slow_reader(arena, readers):
    """Clients that ask for a large answer and do not read it: others are served, and nothing stays."""
    body = b'{"probe": "resources.answer", "arguments": {"size": 4000000}}'
    head = (f"POST /functions/probe/invocations HTTP/1.1\r\nHost: b\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode()
    peers = [arena.agent.client.open() for _ in range(readers)]
    try:
        for peer in peers:
            peer.sendall(head + body)
        served = [arena.outside.check_neighbour() for _ in range(20)]
        return {"neighbour": "served" if not any(served) else "not served"}
    finally:
        for peer in peers:
            peer.close()


def hang_up(arena, clients):
    """Clients that hang up while their calls run: the calls are cancelled, and leave nothing."""
    arena.agent.deploy("hang")
    body = b'{"probe": "resources.hang", "arguments": {"how": "sleep"}}'
    head = (f"POST /functions/hang/invocations HTTP/1.1\r\nHost: b\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode()
    try:
        for _ in range(clients):
            with arena.agent.client.open() as peer:
                peer.sendall(head + body)
                time.sleep(0.3)
        gone = soon(lambda: not arena.agent.sandboxes("hang"), 20)
        return {"calls": "cancelled" if gone else "still there"}
    finally:
        arena.agent.remove("hang")
