"""Runs rows against the agent as it is shipped, and their controls against weakened ones."""
import argparse
import dataclasses
import functools
import importlib
import os
import re
import signal
import subprocess
import sys
import time

from . import judge
from .agent import Agent, Trouble, package
from .needs import lacking
from .outside import Outside
from .report import Report
from .room import Room
from .rows import CLASSES, as_command, load, load_weakenings

SKIPPED = 77
IMPORTED = "imported"


@dataclasses.dataclass(frozen=True)
class Places:
    source: str
    build: str
    images: str

    @functools.cache
    def package(self):
        return package(self.source, self.build + "/bin/hostile-attack")


@dataclasses.dataclass
class Arena:
    """What a drive gets: an agent to attack, and the places of the host that it looks at."""

    agent: Agent
    outside: Outside
    row: object

    def probe(self, probe, arguments=None, function="probe"):
        return self.agent.probe(probe, arguments, function)


def carry_out_as_command(row, agent, _outside):
    return agent.probe_as_command(row.probe, row.arguments)


def carry_out_as_root(row, agent, _outside):
    return agent.probe_as_command(row.probe, row.arguments, user="0:0")


def carry_out_alone(row, agent, _outside):
    return agent.probe_alone(row.probe, row.arguments)


def carry_out_alone_as_root(row, agent, _outside):
    return agent.probe_alone(row.probe, row.arguments, user="0:0")


def carry_out_imported(row, agent, _outside):
    return agent.probe_as_command(row.probe, row.arguments, image=IMPORTED)


def carry_out(row, agent, outside):
    """The outcomes of a row's attack."""
    function = "probe"
    if row.settings:
        function = "row"
        agent.deploy(function, **row.settings)
    try:
        if row.probe:
            return agent.probe(row.probe, row.arguments, function)
        module, _, name = row.drive.partition(".")
        drive = getattr(importlib.import_module("drives." + module), name)
        return drive(Arena(agent, outside, row), **row.arguments)
    finally:
        if row.settings:
            agent.remove(function)


def attack(row, agent, outside, complaints_of, carry_out=carry_out):
    """The outcomes of a row's attack, and what is wrong with them. An attack that could not be made, for
    whatever reason, is a wrong of its row and does not end the others."""
    try:
        outside.begin()
        outcomes = carry_out(row, agent, outside)
        return outcomes, complaints_of(outcomes)
    except Trouble as trouble:
        return {}, [str(trouble)]
    except Exception as error:
        return {}, [f"it was not carried out: {error!r}"]


def run_as_command(row, agent, outside, report, kind, carry_out_so, expect):
    if reason := lacking(row.needs, agent):
        report.add(kind, row.id, row.of_class, "skipped", row.tries, [reason])
        return
    outcomes, wrong = attack(row, agent, outside, lambda seen: judge.complaints(seen, expect),
                             carry_out_so)
    try:
        wrong += outside.complaints(row.outside)
    except (OSError, ValueError, KeyError) as error:
        wrong.append(f"the agent cannot be looked at: {error!r}")
    report.add(kind, row.id, row.of_class, "failed" if wrong else "passed", row.tries, wrong, outcomes)


def run_row(row, agent, outside, report):
    if reason := lacking(row.needs, agent):
        report.add("row", row.id, row.of_class, "skipped", row.tries, [reason])
        return
    outcomes, wrong = attack(row, agent, outside, lambda seen: judge.complaints(seen, row.expect))
    try:
        wrong += outside.complaints(row.outside)
    except (OSError, ValueError, KeyError) as error:
        wrong.append(f"the agent cannot be looked at: {error!r}")
    counted, through = judge.let_through(outcomes, row)
    if through and not row.explanation:
        wrong.append("it got through, and nothing explains why: " + ", ".join(through))
    report.count_attempts(counted, through, row.explanation)
    report.add("row", row.id, row.of_class, "failed" if wrong else "passed", row.tries, wrong, outcomes)
    if wrong and agent.process.poll() is not None:
        raise Trouble("the agent has ended, so the rest of the rows cannot be tried:\n" + agent.log()[-3000:])


def run_control(row, control, agent, outside, report, says):
    if reason := lacking(row.needs + control.needs, agent):
        report.add("control", row.id, row.of_class, "skipped", says, [reason])
        return
    outcomes, wrong = attack(row, agent, outside,
                             lambda seen: judge.control_complaints(seen, row, control))
    report.add("control", row.id, row.of_class, "failed" if wrong else "passed", says, wrong, outcomes)


def run_product(rows, places, room, report):
    with Agent(places, room) as agent:
        outside = Outside(agent)
        for row in rows:
            run_row(row, agent, outside, report)
        for row in filter(as_command, rows):
            run_as_command(row, agent, outside, report, "command", carry_out_as_command, row.expect)
            run_as_command(row, agent, outside, report, "root", carry_out_as_root, row.expected_of_root())
            run_as_command(row, agent, outside, report, "alone", carry_out_alone, row.expect)
            run_as_command(row, agent, outside, report, "alone, root", carry_out_alone_as_root, row.expected_of_root())
        agent.complaints += outside.complaints(["programs_bytes"])
    tell_complaints(agent, "as it is shipped", report)


def import_image(places, folder):
    """A folder with the image python3 as it is, and once more as one that somebody else made: its root may be written
    to, and root is who runs its commands."""
    os.mkdir(folder, 0o755)
    subprocess.run(["cp", "-a", places.images + "/python3", folder], check=True)
    with open(folder + "/python3.tar", "wb") as tar:
        subprocess.run(["tar", "-C", folder + "/python3/rootfs", "-cf", "-", "."], stdout=tar, check=True)
    done = subprocess.run([places.build + "/bin/brood", "image", "import", folder + "/python3.tar", "--name", IMPORTED,
                           "--images", folder], capture_output=True, text=True)
    if done.returncode != 0:
        raise Trouble("the image could not be imported: " + done.stderr[-1000:])
    os.unlink(folder + "/python3.tar")


def run_imported(rows, places, room, report):
    wanted = [row for row in rows if as_command(row)]
    if not wanted:
        return
    folder = room.scratch + "/images"
    import_image(places, folder)
    with Agent(dataclasses.replace(places, images=folder), room) as agent:
        outside = Outside(agent)
        for row in wanted:
            run_as_command(row, agent, outside, report, IMPORTED, carry_out_imported, row.expected_of_imported())
    tell_complaints(agent, "with an imported image", report)


def run_controls(rows, places, room, report, weakenings):
    for name, weakening in weakenings.items():
        wanted = [(row, control) for row in rows for control in row.controls
                  if control.weakening == name]
        if not wanted:
            continue
        with Agent(places, room, weakening) as agent:
            outside = Outside(agent)
            for row, control in wanted:
                run_control(row, control, agent, outside, report, weakening["says"])
        tell_complaints(agent, weakening["says"], report)


def tell_complaints(agent, which, report):
    if agent.complaints:
        report.add("agent", which, "-", "failed", "ends, and leaves nothing behind", agent.complaints)


def look_for_leftovers(places, room, report):
    """All agents had the same state directory, so that one look is for all of them."""
    done = subprocess.run([places.source + "/scripts/leftovers", "--state-dir",
                           room.scratch + "/agent/state", "--run-dir", room.scratch + "/agent/run"],
                          capture_output=True, text=True)
    report.add("agent", "leftovers", "-", "failed" if done.returncode else "passed",
               "nothing is left on the host of any agent", [(done.stdout + done.stderr).strip()])


# --- the command line -----------------------------------------------------------------------------


def arguments(source, documentation):
    parser = argparse.ArgumentParser(description=documentation,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--class", dest="of_class", choices=CLASSES, help="only rows of this class")
    parser.add_argument("--row", metavar="ID", help="only rows whose id matches this regular expression")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--list", action="store_true", help="print the rows, and run none")
    parser.add_argument("--no-controls", action="store_true", help="leave the weakened agents out")
    parser.add_argument("--build", default=source + "/build/release", help="default: %(default)s")
    parser.add_argument("--images", help="default: $BROOD_IMAGES or /var/lib/brood/images",
                        default=os.environ.get("BROOD_IMAGES", "/var/lib/brood/images"))
    return parser.parse_args()


def selected(rows, options):
    return [row for row in rows if options.of_class in (None, row.of_class)
            and re.search(options.row or "", row.id)]


def why_not_here(places):
    """Why nothing can be run here, or nothing."""
    if os.geteuid() != 0:
        return "needs root, to make sandboxes"
    if not os.path.exists(places.images + "/python3/image.json"):
        return f"no image python3 in {places.images}; build it: make -f Makefile.rootfs python3"
    return ""


def main(source, documentation):
    options = arguments(source, documentation)
    places = Places(source, os.path.realpath(options.build), os.path.realpath(options.images))
    folder = source + "/tests/hostile"
    rows = selected(load(folder), options)
    if options.list:
        for row in rows:
            print(f"{row.of_class:<9}  {row.id:<36}  {row.tries}  [{row.origin}]")
        return 0
    if reason := why_not_here(places):
        print("SKIPPED: " + reason)
        return SKIPPED
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report(options.json)
    begin = time.monotonic()
    with Room() as room:
        run_product(rows, places, room, report)
        run_imported(rows, places, room, report)
        if not options.no_controls:
            run_controls(rows, places, room, report, load_weakenings(folder))
        look_for_leftovers(places, room, report)
    if not options.json:
        print(f"{time.monotonic() - begin:.0f} s")
    return report.close()


def guarded_main(source, documentation):
    try:
        return main(source, documentation)
    except Trouble as trouble:
        print(f"test-hostile: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
