"""Ask before something is done to many records."""

from __future__ import annotations

import typer

from homeroom.cli.output import note
from homeroom.errors import BadRequest


def confirm(question: str, *, yes: bool) -> None:
    """Ask a question on standard error; end the command unless the answer is yes.

    Raises ``BadRequest`` where nobody can answer, as in a script without ``--yes``.
    """
    if yes:
        return
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        note("")
        raise BadRequest(
            "Nobody answered, so nothing was changed.", hint="Add --yes to go ahead unasked."
        ) from None
    if not agreed:
        note("Nothing was changed.")
        raise typer.Exit(1)
