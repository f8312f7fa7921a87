"""The rules of docs/glossary.md and CONTRIBUTING.md that a machine can hold: words, first lines,
references, and the shape of the tree.

Each rule is a function of a small text, so that it can be tried here on bad samples.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "homeroom"
MAX_MODULES = 490  # 230 when "One language" was done; features since then may add some
MAX_LINES = 450
FIRST_LINE = 79

# This file and the one that quotes old names to readers of an upgrade are about the words.
QUOTES = {"tests/architecture/test_language.py", "docs/glossary.md", "UPGRADE.md", "CHANGELOG.md"}
UNNAMED = re.compile(
    r"\b(somebody|nobody|whoever|anybody|everybody|for good|for ever|mend(?:s|ed|ing)?)\b",
    re.IGNORECASE,
)
RIDDLE = re.compile(r"(What|Who|When|How|Which|Whether|Where|By what)\b")
NOWHERE = re.compile(
    r"\b((?:API|architecture|partners|messages|rules|security) page|seed \d+|issue \d+)\b",
    re.IGNORECASE,
)
DECISION = re.compile(r"\b[Dd]ecision (\d{4})\b")
FILE = re.compile(r"``?([\w/-]+/[\w.-]+\.(?:py|md|toml|json|yaml))``?")

Found = tuple[int, str]


def prose_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield the comments and strings of a Python file with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string


def word_faults(prose: Iterator[tuple[int, str]]) -> list[Found]:
    """Return the words that name no person and no part, and references that lead nowhere."""
    found: list[Found] = []
    for line, text in prose:
        joined = re.sub(r"\s+", " ", text)
        found += [
            (line, f"name the person or the part: {hit[0]!r}")
            for hit in UNNAMED.finditer(joined)
            if joined.strip("\"'") != hit[0]  # the name of a Unix user, as data
        ]
        found += [
            (line, f"a reference that leads nowhere: {hit[0]!r}")
            for hit in NOWHERE.finditer(joined)
        ]
    return found


def reference_faults(prose: Iterator[tuple[int, str]]) -> list[Found]:
    """Return decision records and files that are named and do not exist."""
    found: list[Found] = []
    for line, text in prose:
        for hit in DECISION.finditer(text):
            if not list((ROOT / "docs" / "decisions").glob(f"{hit[1]}-*.md")):
                found.append((line, f"there is no {hit[0]}"))
        for hit in FILE.finditer(text):
            name = hit[1]
            places = (ROOT / name, PACKAGE / name, ROOT / "docs" / name)
            if not any(place.exists() for place in places):
                found.append((line, f"there is no file {name}"))
    return found


def docstring_faults(text: str) -> list[Found]:
    """Return docstrings whose first line is a riddle or too long."""
    found: list[Found] = []
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, documented):
            continue
        first = (ast.get_docstring(node) or "").split("\n", 1)[0]
        line = getattr(node, "lineno", 1)
        if RIDDLE.match(first):
            found.append((line, f"begin with the thing or the verb: {first!r}"))
        if len(first) > FIRST_LINE:
            found.append(
                (line, f"the first line has {len(first)} characters, at most {FIRST_LINE}")
            )
    return found


def class_names() -> dict[str, list[str]]:
    """Return where each public class of the package is declared."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path.relative_to(PACKAGE).as_posix())
    return places


def modules() -> list[Path]:
    """Return the files of the package that hold code, migrations apart."""
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "__init__.py" and "migrations" not in path.parts
    ]


def tracked(*patterns: str) -> list[Path]:
    """Return the files of the tree that a pattern of a folder or a name finds."""
    found = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    return sorted(path for path in found if path.relative_to(ROOT).as_posix() not in QUOTES)


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers."""
    yield from enumerate(path.read_text().splitlines(), 1)


def paragraphs_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs of a text file with the lines at which they begin."""
    line = 1
    for paragraph in path.read_text().split("\n\n"):
        yield line, paragraph
        line += paragraph.count("\n") + 2


PYTHON = tracked("src/**/*.py", "tests/**/*.py", "bench/**/*.py", "tools/**/*.py")
PAGES = tracked(
    "*.md",
    "clients/*/README.md",
    "docs/**/*.md",
    "src/**/*.md",
    "src/**/*.j2",
    "deploy/**/*.md",
    "bench/*.md",
)
NAMES = {path: path.relative_to(ROOT).as_posix() for path in (*PYTHON, *PAGES)}


@pytest.mark.parametrize("path", PYTHON, ids=NAMES.get)
def test_code_is_written_in_the_words_of_the_field(path: Path) -> None:
    text = path.read_text()
    prose = list(prose_of(text))
    faults = word_faults(iter(prose)) + reference_faults(iter(prose))
    if path.is_relative_to(ROOT / "src"):
        faults += docstring_faults(text)
    assert faults == []


@pytest.mark.parametrize("path", PAGES, ids=NAMES.get)
def test_pages_are_written_in_the_words_of_the_field(path: Path) -> None:
    faults = word_faults(paragraphs_of(path))
    if not NAMES[path].startswith("docs/decisions/"):  # a record names files as they were then
        faults += reference_faults(lines_of(path))
    assert faults == []


def test_a_public_class_name_exists_once() -> None:
    assert {name: places for name, places in class_names().items() if len(places) > 1} == {}


def test_files_are_few_and_short() -> None:
    found = modules()
    assert len(found) <= MAX_MODULES
    long = {
        path.relative_to(PACKAGE).as_posix(): lines
        for path in found
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


def imports_of(path: Path, known: set[str]) -> set[str]:
    """Return the modules of the package that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & known or {node.module} & known
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
    return found


def test_no_module_imports_itself_through_others() -> None:
    named = {
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts): path for path in modules()
    }
    graph = {name: imports_of(path, set(named)) - {name} for name, path in named.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_folder_holds_one_file() -> None:
    held: dict[Path, int] = defaultdict(int)
    for path in modules():
        held[path.parent] += 1
    assert [folder.name for folder, files in held.items() if files == 1] == []


GOOD = [
    '"""Runs jobs, renews leases, shuts down gracefully."""',
    '# The worker waits: see decision 0001.\n"""Return the learner\'s event."""',
    '"""Amend a record."""',
]
BAD = {
    '"""Who knows whether a message is still true."""': "begin with the thing",
    '"""' + "Return the event, " * 6 + '"""': "at most 79",
    'def f():\n    """What it does."""': "begin with the thing",
    "# nobody waits for ever": "name the person",
    'x = "how to mend it"': "name the person",
    '"""Read it (architecture page)."""': "leads nowhere",
    "# asked for by issue 3": "leads nowhere",
    "# see decision 9999": "there is no decision 9999",
    "# see `jobs/nothing.py`": "there is no file jobs/nothing.py",
    '"""Do it.\n\n    for\n    good.\n"""': "name the person",
}


@pytest.mark.parametrize("text", GOOD)
def test_rules_allow(text: str) -> None:
    prose = list(prose_of(text))
    assert word_faults(iter(prose)) + reference_faults(iter(prose)) + docstring_faults(text) == []


@pytest.mark.parametrize(("text", "expected"), BAD.items())
def test_rules_refuse(text: str, expected: str) -> None:
    prose = list(prose_of(text))
    found = word_faults(iter(prose)) + reference_faults(iter(prose)) + docstring_faults(text)
    assert any(expected in what for _, what in found)


PERSONAL_FIELDS = {"user_id", "learner_id", "person", "email", "address", "recipient", "name"}


def personal_log_fields(text: str) -> list[Found]:
    """Return the fields of log lines that name a person; a line has ``user_id_hash`` instead."""
    found: list[Found] = []
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        first = call.args[0] if isinstance(call.func, ast.Name) and call.args else call.func
        if ast.unparse(first).startswith("log."):
            found += [
                (call.lineno, f"a log line has the field {keyword.arg!r}")
                for keyword in call.keywords
                if keyword.arg in PERSONAL_FIELDS
            ]
    return found


def test_no_log_line_names_a_person() -> None:
    assert personal_log_fields('log.info("seen", user_id=id)\npartial(log.info, "x", email=e)') == [
        (1, "a log line has the field 'user_id'"),
        (2, "a log line has the field 'email'"),
    ]
    for path in PACKAGE.rglob("*.py"):
        assert personal_log_fields(path.read_text(encoding="utf-8")) == [], path
