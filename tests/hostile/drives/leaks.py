"""What is there of one invocation in another, and of one function in another."""


def kept_pair(arena, reuse=False):
    """Two functions of the same runtime and, but for their names, the same settings."""
    for name in ("first", "second"):
        arena.agent.deploy(name, reuse=reuse, idle="1h")


def remove_pair(arena):
    for name in ("first", "second"):
        arena.agent.remove(name)


def between_functions(arena):
    """One function leaves all it can, and lives on while another looks."""
    kept_pair(arena, reuse=True)
    try:
        left = arena.agent.probe("leaks.leave", {"mark": "first"}, "first")
        return {**left, **arena.agent.probe("leaks.look", {"mark": "first"}, "second")}
    finally:
        remove_pair(arena)


def between_invocations(arena, reuse):
    """The same function, invoked twice, one after the other."""
    kept_pair(arena, reuse=reuse)
    try:
        left = arena.agent.probe("leaks.leave", {"mark": "first"}, "first")
        return {**left, **arena.agent.probe("leaks.look", {"mark": "first"}, "first")}
    finally:
        remove_pair(arena)


def between_versions(arena):
    """A function that is deployed anew: its new version starts with nothing of the old."""
    kept_pair(arena, reuse=True)
    try:
        left = arena.agent.probe("leaks.leave", {"mark": "first"}, "first")
        arena.agent.deploy("first", reuse=True, idle="1h", memory="160MiB")
        return {**left, **arena.agent.probe("leaks.look", {"mark": "first"}, "first")}
    finally:
        remove_pair(arena)


def between_namesakes(arena):
    """A function removed, and another deployed under its name."""
    kept_pair(arena, reuse=True)
    try:
        left = arena.agent.probe("leaks.leave", {"mark": "first"}, "first")
        arena.agent.remove("first")
        arena.agent.deploy("first", reuse=True, idle="1h")
        return {**left, **arena.agent.probe("leaks.look", {"mark": "first"}, "first")}
    finally:
        remove_pair(arena)


def payload_in_memory(arena, reuse):
    """A payload of one invocation is searched for in the memory of the next."""
    secret = "brood-secret-" + arena.outside.secret
    kept_pair(arena, reuse=reuse)
    try:
        taken = arena.agent.probe("leaks.remember", {"secret": secret}, "first")
        found = arena.agent.probe("leaks.search_memory", {"backwards": secret[::-1]}, "second")
        return {**taken, "found": "nothing" if int(found["hits"]) <= 1 else "the secret"}
    finally:
        remove_pair(arena)


def draws(arena, siblings=4):
    """Whether siblings draw different values, of each source."""
    drawn = [arena.probe("leaks.draw") for _ in range(siblings)]
    return {source: "all different" if len({one[source] for one in drawn}) == siblings else "the same"
            for source in drawn[0]}


def layouts(arena, siblings=3):
    """Whether siblings have the same addresses and hashes: they have, as is documented."""
    seen = [arena.probe("leaks.layout") for _ in range(siblings)]
    return {what: "the same" if len({one[what] for one in seen}) == 1 else "different"
            for what in seen[0]}


def locks(arena, paths):
    """Locks that one function takes, and another tries."""
    kept_pair(arena, reuse=True)
    outcomes = {}
    try:
        for path in paths:
            taken = arena.agent.probe("leaks.lock", {"path": path}, "first")
            if taken[path] != "taken":
                return {path: "could not be taken at all"}
            outcomes.update(arena.agent.probe("leaks.lock", {"path": path}, "second"))
        return outcomes
    finally:
        remove_pair(arena)


def watches(arena, paths):
    """Whether one function is told of what another opens."""
    kept_pair(arena, reuse=True)
    outcomes = {}
    try:
        for path in paths:
            arena.agent.probe("leaks.watch", {"path": path}, "first")
            arena.agent.probe("leaks.touch", {"path": path}, "second")
            outcomes.update(arena.agent.probe("leaks.seen", {"path": path}, "first"))
        return outcomes
    finally:
        remove_pair(arena)


def environment(arena):
    """A function's environment is its own: another has none of it, and the agent's is nobody's."""
    arena.agent.deploy("first", environment={"SECRET": "of the first"})
    arena.agent.deploy("second")
    try:
        own = arena.agent.probe("leaks.variables", {"names": ["SECRET"]}, "first")
        others = arena.agent.probe("leaks.variables", {"names": ["SECRET", "BROOD_HOSTILE_AGENT"]},
                                   "second")
        return {"own": own["SECRET"], "another's": others["SECRET"],
                "the agent's": others["BROOD_HOSTILE_AGENT"]}
    finally:
        remove_pair(arena)
