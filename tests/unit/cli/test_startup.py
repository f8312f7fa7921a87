"""The modules that a command imports: few for its help, and only its own when it runs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from homeroom import cli
from homeroom.cli import COMMANDS, app

SOURCES = Path(cli.__file__).parent
HEAVY = {
    "aiosqlite",
    "alembic",
    "asyncio",
    "fastapi",
    "httpx",
    "jinja2",
    "pydantic",
    "rich",
    "sqlalchemy",
    "starlette",
    "structlog",
    "uvicorn",
}
FEATURE_MODULES_OF_HELP = {
    "homeroom.errors",
    "homeroom.identity",  # the roles
    "homeroom.instant",
    "homeroom.notify",
    "homeroom.notify.delivery_rules",  # the statuses of deliveries
    "homeroom.notify.message",  # the types of messages
    "homeroom.notify.school",
    "homeroom.notify.message_texts",  # the languages
    "homeroom.redaction",
}


def imported_by(*words: str) -> set[str]:
    """Return the modules that a command has imported when it ends."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('modules:', *sorted(sys.modules)))\n"
        f"sys.argv = {['homeroom', *words]!r}\n"
        "from homeroom.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    last_line = done.stdout.splitlines()[-1]
    return set(last_line.removeprefix("modules: ").split())


def heavy(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules} & HEAVY


def test_the_help_and_the_version_load_no_command() -> None:
    for option in ("--help", "--version"):
        modules = imported_by(option)
        assert heavy(modules) == set()
        assert {name for name in modules if name.startswith("homeroom")} == {
            "homeroom",
            "homeroom.cli",
            "homeroom.errors",
        }


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_group_loads_that_group_alone(command: str) -> None:
    modules = imported_by(command, "--help")
    assert heavy(modules) <= ({"pydantic"} if not COMMANDS[command].is_group else set())
    ours = {name for name in modules if name.startswith("homeroom.")}
    features = {name for name in ours if not name.startswith("homeroom.cli")}
    assert features <= FEATURE_MODULES_OF_HELP
    groups = {source.module for source in COMMANDS.values()}
    assert ours & groups == {COMMANDS[command].module}


def test_a_list_of_jobs_loads_the_database_and_few_stores(terminal_on_file: object) -> None:
    del terminal_on_file  # its settings are in the environment
    modules = imported_by("jobs", "list")
    unused = {"alembic", "fastapi", "httpx", "jinja2", "rich", "starlette", "uvicorn"}
    assert heavy(modules) & unused == set()
    stores = {name for name in modules if name.endswith((".subject_store", ".store"))}
    stores |= {name.rpartition(".")[0] for name in stores}  # the learners of the jobs
    ours = {name for name in modules if name.startswith("homeroom.")} - stores
    packages = {name.split(".")[1] for name in ours - {"homeroom.completion.completion"}}
    assert packages <= {
        "bootstrap",
        "cancellation",
        "cli",
        "clock",
        "db",
        "errors",
        "http",  # its logging_config alone
        "identity",  # its roles, for the settings
        "instant",
        "jobs",
        "machine",
        "plain_text",
        "redaction",
        "settings",
        "time_zone",
        "tracing",
        "web",  # its request_id alone
    }
    assert not {"homeroom.http.server", "homeroom.web.problem"} & modules


def test_the_summary_of_a_command_is_the_start_of_its_help() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    for name, command in root.commands.items():
        assert (command.help or "").startswith(COMMANDS[name].summary.rstrip(".")), name


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*.py")), ids=lambda path: path.name)
def test_lazy_modules_are_those_that_mypy_sees(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            lazy = dict(lazy_modules(node.orelse))
            typed = dict(typed_modules(node.body))
            assert lazy == {name: typed[name] for name in lazy}


def lazy_modules(statements: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield the names bound to a ``LazyModule`` with the modules."""
    for statement in statements:
        assert isinstance(statement, ast.Assign)
        assert isinstance(statement.value, ast.Call)
        [module] = statement.value.args
        yield ast.unparse(statement.targets[0]), ast.literal_eval(module)


def typed_modules(statements: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield the names bound by imports with what they name."""
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from ((each.asname or each.name, each.name) for each in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            for each in statement.names:
                yield each.asname or each.name, f"{statement.module}.{each.name}"
