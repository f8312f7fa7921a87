"""The ``homeroom`` command: one file per command group.

Errors on purpose become a sentence and an exit code here.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

import homeroom
from homeroom.errors import HomeroomError

_PYDANTIC_PHRASE = re.compile(r"Input should be (.*?)(?:, unable to parse.*)?$")
GC_THRESHOLD = 50_000
"""New objects before a collection; CPython's 700 make the imports of a command 10 % slower."""


@dataclass(frozen=True, slots=True)
class CommandSource:
    """The module of a command or group, and its line in ``homeroom --help``."""

    module: str
    summary: str
    is_group: bool = True


COMMANDS = {
    "serve": CommandSource(
        "homeroom.cli.serve",
        "Serve the API, and run worker and scheduler in the same process.",
        False,
    ),
    "worker": CommandSource(
        "homeroom.cli.serve",
        "Run worker and scheduler alone, for servers with --no-worker.",
        False,
    ),
    "demo": CommandSource(
        "homeroom.cli.development",
        "Play a class of learners through HTTP and check every number.",
        False,
    ),
    "check": CommandSource(
        "homeroom.cli.check", "Check the configuration and show how to fix it.", False
    ),
    "docs": CommandSource(
        "homeroom.cli.documentation",
        "List the pages of the documentation, or print one, as Markdown.",
        False,
    ),
    "examples": CommandSource(
        "homeroom.cli.documentation",
        "Copy the example courses and curricula into a new folder.",
        False,
    ),
    "sandbox": CommandSource(
        "homeroom.cli.development", "Run partner systems to develop and test against.", False
    ),
    "keys": CommandSource("homeroom.cli.keys", "Create, list and revoke API keys."),
    "tokens": CommandSource(
        "homeroom.cli.tokens", "Sign tokens of users with HOMEROOM_JWT_SECRET, to try the API."
    ),
    "courses": CommandSource(
        "homeroom.cli.courses", "Publish and archive courses; enrol and un-enrol learners."
    ),
    "plans": CommandSource("homeroom.cli.plans", "Generate lesson plans from a curriculum."),
    "completions": CommandSource(
        "homeroom.cli.completions",
        "List what is outstanding for which learner; retry steps.",
    ),
    "credentials": CommandSource(
        "homeroom.cli.credentials", "Preview certificates; revoke credentials; rotate the key."
    ),
    "achievements": CommandSource(
        "homeroom.cli.achievements", "Store rules of achievements; award them; list who has what."
    ),
    "jobs": CommandSource(
        "homeroom.cli.jobs", "List and watch jobs; retry, cancel or remove them."
    ),
    "top": CommandSource(
        "homeroom.cli.top",
        "Show queues, workers, rates, outstanding steps and partners, live.",
        False,
    ),
    "queues": CommandSource(
        "homeroom.cli.queues", "List, limit, pause and resume the queues of jobs."
    ),
    "webhooks": CommandSource(
        "homeroom.cli.webhooks", "Send a signed test message to a receiver of webhooks."
    ),
    "destinations": CommandSource(
        "homeroom.cli.destinations", "List the partner systems that jobs call, and switch one on."
    ),
    "dispatches": CommandSource(
        "homeroom.cli.dispatches", "List the messages to partners; send them again."
    ),
    "reports": CommandSource("homeroom.cli.reports", "Write reports of completions as files."),
    "programmes": CommandSource(
        "homeroom.cli.programmes", "Import programmes; show log compliance."
    ),
    "schedules": CommandSource("homeroom.cli.schedules", "List, run, pause and change schedules."),
    "alerts": CommandSource(
        "homeroom.cli.alerts", "List, acknowledge and snooze alerts; change rules."
    ),
    "notify": CommandSource("homeroom.cli.notify", "Preview and send messages; list deliveries."),
    "people": CommandSource(
        "homeroom.cli.people", "Import, list, suspend, export and erase people."
    ),
    "db": CommandSource(
        "homeroom.cli.db", "Upgrade, back up, restore, copy, verify and seed the database."
    ),
}
"""All commands, in the order of the help; a module is loaded for its own commands alone."""


class _LazyCommands(MutableMapping[str, Any]):
    """The commands by name, each built on first use."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return a command; load its module for that."""
        if name not in self._built:
            source = COMMANDS[name]
            group = get_group(import_module(source.module).app)
            self._built[name] = group if source.is_group else group.commands[name]
            self._built[name].name = name
        return self._built[name]

    def __setitem__(self, name: str, command: Any) -> None:
        """Replace the command that would be loaded."""
        self._built[name] = command

    def __delitem__(self, name: str) -> None:
        """Remove a built command."""
        del self._built[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the names, in the order of the help."""
        return iter(COMMANDS)

    def __len__(self) -> int:
        """Return the number of commands."""
        return len(COMMANDS)

    def __contains__(self, name: object) -> bool:
        """Return whether there is such a command, without loading it."""
        return name in COMMANDS


class _RootGroup(TyperGroup):
    """The ``homeroom`` command, whose help loads no command."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _LazyCommands()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; ``--wide`` may stand anywhere, as it is about every table."""
        end = args.index("--") if "--" in args else len(args)
        if "--wide" in args[:end]:
            args = [each for each in args[:end] if each != "--wide"] + args[end:]
            import_module("homeroom.cli.terminal").show_all_columns()
        return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; word the faults of its options as the settings do."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            message = error.message.removeprefix("Value error, ")
            error.message = _PYDANTIC_PHRASE.sub(r"must be \1", message)
            raise

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of the root, all flags with the default False.

        typer gives ``--help`` and the options of completion the default None, and loads pydantic
        to turn it into a bool.
        """
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if parameter.name in {"help", "install_completion", "show_completion"}:
                parameter.default = False
        return parameters

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        del ctx
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands from their summaries."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, source.summary) for name, source in COMMANDS.items()])


app = typer.Typer(
    cls=_RootGroup,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: the same on a terminal, in a pipe and in docs/cli.md
    pretty_exceptions_enable=False,  # typer's own show locals, which may hold secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(homeroom.__version__)
        raise typer.Exit


@app.callback(
    epilog="\b\nStart here:\n"
    "  homeroom demo     a class of 200 learners, played and counted\n"
    "  homeroom check    faults of the configuration, and how to fix them\n\n"
    "Every command's --help has examples and its exit codes; `homeroom docs cli` has\n"
    "all of them."
)
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
    wide: Annotated[
        bool, typer.Option("--wide", help="Show all columns of tables; may stand anywhere.")
    ] = False,
) -> None:
    """Run the back office of a learning platform."""


def main() -> None:
    """Run the command; print a ``HomeroomError`` as a sentence with its fix."""
    gc.set_threshold(GC_THRESHOLD)
    try:
        app()
    except HomeroomError as error:
        sys.stdout.flush()
        lines = [f"Error: {error.message}"]
        if error.hint is not None:
            lines.append(f"Fix: {error.hint}")
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.exit(error.exit_code)
