"""The whole table of system calls, held against the profile as it is compiled."""
import platform
import subprocess

from runner.agent import Trouble

# What is seen of each verdict; None: anything but a death by the filter.
WORDS = {"allow": None, "EPERM": "EPERM", "ENOSYS": "ENOSYS", "EINVAL": "EINVAL",
         "EAFNOSUPPORT": "EAFNOSUPPORT", "EPROTONOSUPPORT": "EPROTONOSUPPORT", "kill": "SIGSYS"}


# uretprobe and uprobe of x86_64: kernels that have them (Linux 6.18) answer before any filter.
# They do nothing but where the kernel itself has put a probe.
UNFILTERED = {335: ("SIGILL", "SIGSEGV"), 336: ("ENXIO",)}


def profile(arena):
    """By number: the call's name and what the profile says to it (native/profile.cc)."""
    program = arena.agent.places.build + "/bin/hostile-profile"
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    table = {}
    for line in done.stdout.splitlines():
        number, name, verdict = line.split()
        table[int(number)] = (name, verdict)
    if len(table) != 1024:
        raise Trouble(f"the profile has {len(table)} numbers")
    return table


def every_number(arena):
    """One outcome for each verdict of the profile: whether all its numbers were answered so."""
    table = profile(arena)
    deadly = [number for number, (_, verdict) in table.items() if verdict == "notify"]
    seen = arena.probe("kernel.program", {"do": "table", "arguments": deadly})
    if len(seen) + len(deadly) != len(table):
        raise Trouble(f"{len(seen)} of {len(table) - len(deadly)} numbers were tried")
    wrong = {}
    for number, (name, verdict) in table.items():
        wrong.setdefault(verdict, [])
        if verdict != "notify" and not agrees(number, verdict, seen[str(number)]):
            wrong[verdict].append(f"{name}: {seen[str(number)]}")
    return {verdict: " ".join(names) or "as the profile says" for verdict, names in wrong.items()}


def agrees(number, verdict, outcome):
    if platform.machine() == "x86_64" and outcome in UNFILTERED.get(number, ()):
        return True
    wanted = WORDS[verdict]
    return outcome == wanted if wanted else outcome != "SIGSYS"


def every_deadly_number(arena):
    """Each call that ends a sandbox, in a sandbox of its own: the ending has to name it."""
    outcomes = {}
    for number, (name, verdict) in profile(arena).items():
        if verdict == "notify":
            answer = arena.agent.call("probe", {"probe": "kernel.deadly_number",
                                                "arguments": {"number": number}})
            named = answer.error().get("syscall")
            outcomes[name] = answer.ending + (" by its name" if named == name else f" by {named}")
    return outcomes
