"""Single invocations whose end is what there is to see."""


def ending(arena, probe, arguments=None):
    """How an invocation ends, by what, and that the probe had begun."""
    function = "row" if arena.row.settings else "probe"
    answer = arena.agent.call(function, {"probe": probe, "arguments": arguments or {}})
    error = answer.error()
    printed = arena.agent.printed(function, answer.headers.get("brood-invocation"))
    return {
        "begun": "yes" if f"trying {probe}" in printed else "no",
        "ending": answer.ending,
        "by": error.get("syscall") or str(error.get("signal") or error.get("limit")
                                          or error.get("type") or ""),
    }


def endings(arena, probe, each):
    """The same for several arguments: the ending of each, by its name, and `begun` for all."""
    outcomes = {}
    begun = []
    for name, arguments in each.items():
        one = ending(arena, probe, arguments)
        outcomes[name] = one["ending"] + (" by " + one["by"] if one["by"] else "")
        begun.append(one["begun"])
    return {**outcomes, "begun": "yes" if set(begun) == {"yes"} else "no"}
