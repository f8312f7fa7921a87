"""Command groups with plain help, and modules that load when a command runs.

``homeroom --help`` and the help of every group import this file, typer and ``homeroom.errors``.
A command group names the modules that its commands work with as ``LazyModule``, with the real
import under ``TYPE_CHECKING`` for mypy (CONTRIBUTING.md, "Where things go").
"""

from __future__ import annotations

import re
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from homeroom.errors import (
    BadRequest,
    ConfigurationError,
    Conflict,
    HomeroomError,
    NotFound,
    Unavailable,
)

EXIT_CODES: dict[int, str] = {
    0: "ok",
    HomeroomError.exit_code: "failed, or not confirmed",
    BadRequest.exit_code: "bad input",
    Unavailable.exit_code: "the database or a partner is not available",
    NotFound.exit_code: "no such record",
    Conflict.exit_code: "the record's state does not allow it",
    75: "a passing fault: start it again",
    ConfigurationError.exit_code: "the configuration, or the database's schema, is not usable",
}
"""The meaning of each exit code, the same for all commands."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_MAX_SUMMARY = 1_000
_DURATION = re.compile(r"([0-9]{1,9})(s|m|h|d|w)")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class LazyModule(ModuleType):
    """A module that is imported when one of its attributes is first read.

    It is not put into ``sys.modules``: the import itself is an ordinary one, with its locks.
    """

    def __getattr__(self, attribute: str) -> Any:
        """Import the module and return its attribute."""
        return getattr(import_module(self.__name__), attribute)


class _PlainGroup(TyperGroup):
    """A group of commands whose help does not cut their summaries."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands; typer would cut the summaries at the width."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(_MAX_SUMMARY))
                    for name, command in commands
                    if command is not None and not command.hidden
                ]
            )


def command_group(help_text: str) -> typer.Typer:
    """Return an empty command group, whose help is text without boxes."""
    return typer.Typer(
        cls=_PlainGroup,
        help=help_text,
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def epilog(*examples: str, codes: tuple[int, ...] = (), without: tuple[int, ...] = ()) -> str:
    """Return the end of a command's help: its examples and its exit codes.

    0, 1, 2, 3 and 78 are possible for all commands that read the configuration, but for those
    ``without`` some.
    """
    listed = sorted({0, 1, 2, 3, 78, *codes} - {*without})
    # \b stops click from filling the lines up to a paragraph
    return (
        "\b\nExamples:\n"
        + "\n".join(f"  {example}" for example in examples)
        + "\n\n\b\nExit codes:\n"
        + "\n".join(f"  {code:<2}  {EXIT_CODES[code]}" for code in listed)
    )


def parse_duration_us(text: str) -> int:
    """Return ``90s``, ``5m``, ``12h``, ``7d`` or ``2w`` in microseconds.

    Raises ``BadRequest`` for other texts.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise BadRequest(
            f"{text!r} is not a duration.", hint="Write it as 90s, 5m, 12h, 7d or 2w, such as 7d."
        )
    return int(match[1]) * _UNIT_SECONDS[match[2]] * 1_000_000
