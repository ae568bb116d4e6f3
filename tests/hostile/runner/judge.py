"""Whether what was seen is right."""


def complaints(outcomes, expect):
    """What of the outcomes is not as expected. An attempt that is expected and was not made is one."""
    found = []
    for what, outcome in outcomes.items():
        allowed = expect.get(what, expect.get("*"))
        if allowed is None:
            found.append(f"{what}: {outcome}, and nothing is expected of it")
        elif outcome not in allowed:
            found.append(f"{what}: {outcome}, not {' or '.join(allowed)}")
    found += [f"{what}: was not tried" for what in expect if what != "*" and what not in outcomes]
    return found


def control_complaints(outcomes, row, control):
    """Of an attack without the defence: it has to be seen to do something that the row forbids, and
    where the control says what, just that."""
    found = complaints(outcomes, {"*": AnyOutcome(), **control.sees})
    if not complaints(outcomes, row.expect):
        found.append("it goes as it does with the defence: " +
                     ", ".join(f"{what}: {outcome}" for what, outcome in list(outcomes.items())[:4]))
    return found


class AnyOutcome:
    def __contains__(self, outcome):
        return True


def let_through(outcomes, row):
    """The counted attempts of a row, and those of them that got through."""
    counted = [what for what in row.counted if what in outcomes]
    return counted, [what for what in counted if outcomes[what] == "ok"]
