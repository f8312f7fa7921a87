"""The arrows that must never be, where import-linter cannot say them.

`offences` judges one file by its place and its text, so that the rules can be tried on small bad
sources here: a rule that cannot fail is no rule.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"

# Which features a feature may call, always through their api: packages import downwards only.
DOWNHILL: dict[str, frozenset[str]] = {"access": frozenset()}
DOWNHILL["people"] = DOWNHILL["access"] | {"access"}
DOWNHILL["changes"] = frozenset()
DOWNHILL["catalogue"] = DOWNHILL["people"] | {"people", "changes"}
DOWNHILL["completion"] = DOWNHILL["catalogue"] | {"catalogue"}
for _feature in ("progress", "credentials", "dispatch"):
    DOWNHILL[_feature] = DOWNHILL["completion"] | {"completion"}
DOWNHILL["achievements"] = DOWNHILL["completion"] | {"completion"}
DOWNHILL["credentials"] |= {"achievements"}
DOWNHILL["notify"] = DOWNHILL["people"] | {"people"}
DOWNHILL["activity"] = DOWNHILL["notify"] | {"notify"}
DOWNHILL["monitoring"] = DOWNHILL["notify"] | {"notify"}
for _feature in ("credentials", "dispatch"):
    DOWNHILL[_feature] |= {"notify"}
DOWNHILL["lessonplans"] = DOWNHILL["catalogue"] | {"catalogue"}

KERNEL = frozenset({"backup", "db", "jobs", "partner", "settings", "web"})
EDGE = frozenset({"bootstrap", "cli", "demo", "http", "sandbox"})

# Files that decide. They are told everything they need, the time included.
PURE_NAMES = frozenset(
    {
        "bloom",
        "course",
        "criteria",
        "event",
        "job",
        "lesson_allocation",
        "outcome",
        "rollup",
        "schedule",
    }
)
PURE_MARK = "(pure)."
UNREACHABLE_FROM_PURE = (
    "aiosqlite",
    "anyio",
    "asyncio",
    "asyncpg",
    "http",
    "httpx",
    "os",
    "pathlib",
    "socket",
    "sqlalchemy",
    "sqlite3",
    "subprocess",
    "threading",
    "time",
    "urllib",
    "homeroom.clock",
    "homeroom.db",
    "homeroom.settings",
    "homeroom.web",
)
DRIVERS = ("aiosqlite", "asyncpg", "sqlite3")
# What opens a database, as against the contract that every package may name.
OPENERS = ("homeroom.db.sqlite.database", "homeroom.db.postgres.database", "homeroom.db.migrate")


class Imported(NamedTuple):
    """One imported name, as the dotted path from its top package."""

    line: int
    target: str


def within(target: str, *packages: str) -> bool:
    """Return whether `target` is one of the packages or lies in one."""
    return any(target == package or target.startswith(f"{package}.") for package in packages)


def imported(tree: ast.AST) -> Iterator[Imported]:
    """Yield every import of a tree, those within functions and TYPE_CHECKING included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Imported(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                yield Imported(node.lineno, f"{base}.{alias.name}")


def is_pure(place: tuple[str, ...], tree: ast.Module) -> bool:
    """Return whether a file only decides: by its name in a package, or by its docstring."""
    first_line = (ast.get_docstring(tree) or "").split("\n", 1)[0]
    named = len(place) > 1 and place[0] not in EDGE and place[-1] in PURE_NAMES
    return named or first_line.endswith(PURE_MARK)


def feature_offences(place: tuple[str, ...], found: Imported) -> Iterator[str]:
    """Yield what is wrong with a feature's import of another feature."""
    package, parts = place[0], found.target.split(".")
    if parts[0] != "homeroom" or len(parts) < 2:
        return
    other = parts[1]
    if package not in DOWNHILL or other not in DOWNHILL or other == package:
        return
    if other not in DOWNHILL[package]:
        yield f"{package} must not import {other}: packages import downwards only"
    elif parts[2:3] != ["api"]:
        yield f"{package} reaches into {other} ({found.target}): only {other}.api is for others"


def import_offences(place: tuple[str, ...], found: Imported, pure: bool) -> Iterator[str]:
    """Yield what is wrong with one import of the file at `place`."""
    target = found.target
    if target.startswith("."):
        yield "relative import: write the whole path"
    yield from feature_offences(place, found)
    may_web = place[-1].endswith("routes") or place[0] in {"web", "http", "bootstrap"}
    if within(target, "homeroom.web") and not may_web:
        yield "only routes.py imports web"
    if pure and within(target, *UNREACHABLE_FROM_PURE):
        yield f"a pure file must not import {target}"
    if within(target, *DRIVERS) and place[0] not in {"db", "backup"}:
        yield f"only db knows the driver {target}"
    if within(target, *OPENERS) and place[0] not in {"db", "backup", "bootstrap"}:
        yield f"only bootstrap opens a database ({target})"
    if within(target, "homeroom.settings") and place[0] not in {"settings", "bootstrap", "cli"}:
        yield "only bootstrap reads settings: pass the value on"


def at_import_time(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that run when a module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Call):
            yield node
        yield from at_import_time(node)


def offences(place: tuple[str, ...], text: str) -> list[str]:
    """Return what is wrong with a file: `place` is its dotted path below homeroom, as a tuple."""
    tree = ast.parse(text)
    pure = is_pure(place, tree)
    wrong = [
        f"line {found.line}: {what}"
        for found in imported(tree)
        for what in import_offences(place, found, pure)
    ]
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            wrong += [
                f"line {found.line}: import inside {function.name}()"
                for found in imported(function)
            ]
    for call in at_import_time(tree):
        name = ast.unparse(call.func)
        if name.split(".")[-1] == "Settings" or name in {"open", "connect"}:
            wrong.append(f"line {call.lineno}: {name}() runs when the module is imported")
    return wrong


def place_of(path: Path) -> tuple[str, ...]:
    """Return the dotted path of a file below homeroom; a package is its folder."""
    parts = path.relative_to(SOURCE / "homeroom").with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts


FILES = sorted((SOURCE / "homeroom").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: ".".join(place_of(path)))
def test_file_points_no_arrow_that_must_never_be(path: Path) -> None:
    assert offences(place_of(path), path.read_text()) == []


def test_every_package_is_known_to_the_rules() -> None:
    packages = {path.parent.name for path in (SOURCE / "homeroom").glob("*/__init__.py")}
    assert packages <= DOWNHILL.keys() | KERNEL | EDGE


GOOD = {
    "downhill through the api": ("progress.ingest", "from homeroom.completion import api"),
    "a name out of an api": ("dispatch.jobs", "from homeroom.people.api import Person"),
    "a feature uses the kernel": ("progress.jobs", "from homeroom.jobs.enqueue import enqueue"),
    "a feature's own files": ("people.routes", "from homeroom.people import store"),
    "routes use web": ("jobs.routes", "from homeroom.web.paging import Page"),
    "the factory uses web": ("http.app", "from homeroom.web.problem import Problem"),
    "http mounts a feature": ("http.app", "from homeroom.progress.ingestion import Ingest"),
    "bootstrap knows everyone": (
        "bootstrap",
        "from homeroom.db.sqlite.database import SqliteDatabase\n"
        "from homeroom.settings import Settings",
    ),
    "bootstrap opens in a function": ("bootstrap", "def build():\n    return Settings()"),
    "db knows its driver": ("db.sqlite", "import aiosqlite"),
    "a pure file may calculate": ("progress.rollup", "import math\nfrom datetime import datetime"),
    "a pure file may raise": ("progress.event", "from homeroom.errors import Invalid"),
    "cli/jobs.py is no feature": ("cli.schedule", "import asyncio"),
}
BAD = {
    "uphill": ("completion.api", "from homeroom.progress import api", "downwards"),
    "sideways": ("credentials.jobs", "from homeroom.dispatch.api import send", "downwards"),
    "another's store": ("progress.ingest", "from homeroom.catalogue import store", "only cat"),
    "another's package": ("progress.ingest", "from homeroom import catalogue", "reaches into"),
    "another's jobs, plainly": ("dispatch.jobs", "import homeroom.completion.jobs", "reaches"),
    "web outside routes": ("people.api", "from homeroom.web import identity", "only routes.py"),
    "web in the kernel": ("jobs.worker", "import homeroom.web.paging", "only routes.py"),
    "pure with a clock": ("progress.rollup", "from homeroom.clock import Clock", "pure file"),
    "pure with time": ("jobs.schedule", "import time", "pure file"),
    "pure with the database": ("jobs.job", "from homeroom.db.tx import Tx", "pure file"),
    "pure with the network": ("catalogue.criteria", "import httpx", "pure file"),
    "pure with a loop": ("progress.rollup", "import asyncio.locks", "pure file"),
    "pure by its word": ("people.name", '"""Join names (pure)."""\nimport os.path', "pure file"),
    "pure under TYPE_CHECKING": (
        "progress.event",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from homeroom.db.tx import Tx",
        "pure file",
    ),
    "a driver in a store": ("people.store", "import sqlite3", "only db knows"),
    "an opened database": ("cli.db", "from homeroom.db import migrate", "only bootstrap opens"),
    "settings in a feature": ("dispatch.jobs", "import homeroom.settings", "only bootstrap reads"),
    "settings in the demo": (
        "demo.run",
        "from homeroom.settings import Settings",
        "only bootstrap",
    ),
    "an import in a function": ("jobs.worker", "def run():\n    import json", "inside run()"),
    "an import in a method": (
        "jobs.worker",
        "class Worker:\n    async def run(self):\n        from json import dumps",
        "inside run()",
    ),
    "a relative import": ("people.api", "from . import store", "relative"),
    "settings read on import": (
        "bootstrap",
        "SETTINGS = Settings()",
        "when the module is imported",
    ),
    "a file opened on import": ("people.api", "class A:\n    x = open('y')", "is imported"),
}


@pytest.mark.parametrize(("place", "text"), GOOD.values(), ids=GOOD)
def test_rules_allow(place: str, text: str) -> None:
    assert offences(tuple(place.split(".")), text) == []


@pytest.mark.parametrize(("place", "text", "expected"), BAD.values(), ids=BAD)
def test_rules_find(place: str, text: str, expected: str) -> None:
    found = offences(tuple(place.split(".")), text)
    assert len(found) == 1
    assert expected in found[0]
