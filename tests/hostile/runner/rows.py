"""The matrix as data: rows/*.toml, one file for each class, and weakened.toml (README.md)."""
import dataclasses
import glob
import os
import re
import tomllib

from .agent import Trouble
from .needs import NEEDS
from .outside import CHECKS

CLASSES = ("files", "processes", "kernel", "resources", "leaks", "door")
REQUIRED = {"id", "tries", "origin", "expect"}


@dataclasses.dataclass(frozen=True)
class Control:
    weakening: str  # an entry of weakened.toml
    sees: dict  # what must be seen; empty: something that the row's own `expect` does not allow
    needs: tuple


@dataclasses.dataclass(frozen=True)
class Row:
    id: str
    of_class: str
    tries: str
    origin: str
    expect: dict  # what was tried -> the outcomes that are right; "*" for all the others
    probe: str = ""  # MODULE.FUNCTION of probes/, run inside
    drive: str = ""  # MODULE.FUNCTION of drives/, run outside
    arguments: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)  # of the function that is the probe
    needs: tuple = ()
    outside: tuple = ()
    counted: tuple = ()  # outcomes that are among the attempts held against other runtimes
    explanation: str = ""  # why one of those may get through
    command: bool = True  # whether the probe says as much when `brood run` starts it
    root: dict = dataclasses.field(default_factory=dict)  # what is also right where root inside runs it
    imported: dict = dataclasses.field(default_factory=dict)  # and in an imported image, by root inside
    controls: tuple = ()

    def expected_of_imported(self):
        return {**self.expected_of_root(), **self.imported}

    def expected_of_root(self):
        return {**self.expect, **self.root}


def as_command(row):
    """Whether a row is also tried by `brood run`: a probe of nothing that only a function has."""
    return bool(row.probe) and row.command and not row.settings


def as_expectation(value):
    return value if isinstance(value, dict) else {"*": value}


def row_of(of_class, defaults, fields):
    missing = REQUIRED - fields.keys()
    unknown = fields.keys() - {field.name for field in dataclasses.fields(Row)} - {"control"}
    if missing or unknown or ("probe" in fields) == ("drive" in fields):
        raise Trouble(f"row {fields.get('id')}: missing {sorted(missing)}, unknown {sorted(unknown)}, "
                      "or not one of probe and drive")
    controls = tuple(
        Control(control["weakening"], as_expectation(control.get("sees", {})),
                tuple(control.get("needs", ())))
        for control in fields.pop("control", ()))
    fields["expect"] = as_expectation(fields["expect"])
    fields["outside"] = tuple(defaults) + tuple(fields.get("outside", ()))
    for name in ("needs", "counted"):
        fields[name] = tuple(fields.get(name, ()))
    return Row(of_class=of_class, controls=controls, **fields)


def load(folder):
    """All rows, in order. Raises Trouble for one that is not well said, or not in docs/security.md."""
    rows = []
    for of_class in CLASSES:
        with open(f"{folder}/rows/{of_class}.toml", "rb") as file:
            document = tomllib.load(file)
        rows += [row_of(of_class, document["outside"], fields) for fields in document["row"]]
    check(rows, load_weakenings(folder))
    unread = set(glob.glob(folder + "/rows/*.toml")) - {f"{folder}/rows/{name}.toml" for name in CLASSES}
    if unread:
        raise Trouble("rows of no class: " + " ".join(map(os.path.basename, unread)))
    check_documented(rows, folder + "/../../docs/security.md")
    return rows


def check_documented(rows, path):
    """The table there, from a class of attacks to rows, has each row once and no other."""
    with open(path) as file:
        section = file.read().split("## How it was attacked")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| ")]
    named = sorted(re.findall("`([a-z0-9-]+)`", "\n".join(table)))
    there = sorted(row.id for row in rows)
    if named != there:
        raise Trouble(f"docs/security.md names other rows: {set(named) ^ set(there) or 'one twice'}")


def load_weakenings(folder):
    with open(folder + "/weakened.toml", "rb") as file:
        return tomllib.load(file)


def check(rows, weakenings):
    seen = set()
    for row in rows:
        needs = set(row.needs).union(*(control.needs for control in row.controls))
        wrong = [name for name in needs if name not in NEEDS]
        wrong += [name for name in row.outside if name not in CHECKS]
        wrong += [one.weakening for one in row.controls if one.weakening not in weakenings]
        if wrong or row.id in seen:
            raise Trouble(f"row {row.id}: said twice, or names what is not there: {wrong}")
        seen.add(row.id)
    for of_class in CLASSES:
        if not any(row.controls for row in rows if row.of_class == of_class):
            raise Trouble(f"the class {of_class} has no control")
