"""Ask before something is done to many records."""

from __future__ import annotations

import sys

import typer

from homeroom.cli.output import note
from homeroom.errors import BadRequest


def confirm(question: str, *, yes: bool) -> None:
    """Ask a question on standard error; end the command unless the answer is yes.

    Raises ``BadRequest`` where nobody can answer, as in a script without ``--yes``.
    """
    if yes:
        return
    # not typer.confirm: where it asks on standard error it still writes a space to standard output
    sys.stdout.flush()
    sys.stderr.write(f"{question} [y/N]: ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        note("")
        raise BadRequest(
            "Nobody answered, so nothing was changed.", hint="Add --yes to go ahead unasked."
        )
    if line.strip().lower() not in {"y", "yes"}:
        note("Nothing was changed.")
        raise typer.Exit(1)
