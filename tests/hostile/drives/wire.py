"""Sandboxes that break the protocol: what becomes of the call, and of the next one."""
import time


def games(arena, games, timeout=60, rounds=1):
    """Each game in an instance that is kept; then a call that has to get its own answer."""
    outcomes = {}
    for number, game in enumerate(games * rounds):
        arena.agent.deploy("wire", reuse=True, idle="1h", timeout=timeout)
        answer = arena.agent.call("wire", {"probe": "wire.play", "arguments": {"game": game}})
        outcomes[game] = worse(outcomes.get(game), answer.ending)
        outcomes["then"] = next_call(arena, number, outcomes.get("then", "its own answer"))
        arena.agent.remove("wire")
    return outcomes


def worse(before, ending):
    """Of several rounds' endings the one that is not `ok`."""
    return ending if before in (None, "ok") else before


def next_call(arena, number, so_far):
    """What the next call gets. A frame out of turn that comes only while that call runs costs it its
    instance, and it is told so; it never gets another's answer, and the call after it gets its own."""
    for _ in range(2):
        answer = arena.agent.call("wire", {"probe": "wire.echo", "arguments": {"number": number}})
        if answer.ending == "ok" and answer.json() == {"outcomes": {"answer": number}}:
            return so_far
        if answer.ending != "protocol_error":
            break
    return f"{answer.ending} {answer.body[:200]!r}"


def late_answer(arena):
    """A process that stays behind answers for the call that comes next."""
    arena.agent.deploy("wire", reuse=True, idle="1h")
    try:
        first = arena.agent.call("wire", {"probe": "wire.play",
                                          "arguments": {"game": "after the answer"}})
        time.sleep(1)
        return {"first": first.ending, "then": next_call(arena, 41, "its own answer")}
    finally:
        arena.agent.remove("wire")


def headers(arena):
    """A content type with a line break in it: no header of the answer may come of it."""
    answer = arena.agent.call("probe", {"probe": "wire.play",
                                        "arguments": {"game": "a header in the content type"}})
    return {"ending": answer.ending, "x": "absent" if "x" not in answer.headers else "there",
            "lines": "clean" if not any("\r" in value or "\n" in value
                                        for value in answer.headers.values()) else "broken"}
