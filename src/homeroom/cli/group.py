"""What every command group has: plain help that ends in examples and exit codes, and ``--json``."""

from __future__ import annotations

from typing import Annotated

import typer

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
    HomeroomError.exit_code: "failed, or you said no",
    BadRequest.exit_code: "bad input",
    Unavailable.exit_code: "the database or a partner is not available",
    NotFound.exit_code: "no such record",
    Conflict.exit_code: "the record's state does not allow it",
    75: "the database's writer hung; start it again",
    ConfigurationError.exit_code: "the configuration, or the database's schema, is not usable",
}
"""What the exit codes of all commands mean."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def group(help_text: str) -> typer.Typer:
    """Return an empty command group; its help is text without boxes, the same in a pipe."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def epilog(*examples: str, codes: tuple[int, ...] = ()) -> str:
    """Return the end of a command's help: examples, and which exit codes it may end with.

    0, 1, 2, 3 and 78 are possible for all commands that read the configuration.
    """
    shown = sorted({0, 1, 2, 3, 78, *codes})
    # \b keeps the lines as they are; without it they would be filled up to a paragraph
    return (
        "\b\nExamples:\n"
        + "\n".join(f"  {example}" for example in examples)
        + "\n\n\b\nExit codes:\n"
        + "\n".join(f"  {code:<2}  {EXIT_CODES[code]}" for code in shown)
    )
