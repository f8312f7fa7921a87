"""The ``homeroom`` command: one file a command group, errors and exit codes in one place."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from homeroom import __version__
from homeroom.cli import serve
from homeroom.errors import HomeroomError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # locals may hold secrets and addresses
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    epilog="[bold]Start here[/bold]\n\n"
    "  homeroom demo                  a class of 200 learners, played before your eyes\n\n"
    "  homeroom check                 what is wrong with the configuration, and how to mend it\n\n"
    "Exit codes: 0 done, 1 failed, 2 bad input, 3 unavailable, 4 not found, 5 conflict,"
    " 75 hung, 78 configuration."
)
def homeroom(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Run the back office of a learning platform."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


app.command("serve", epilog=serve.SERVE_EXAMPLES)(serve.serve)
app.command("worker", epilog=serve.WORKER_EXAMPLES)(serve.worker)


def main() -> None:
    """Run the command; an error on purpose is a sentence and an exit code, not a traceback."""
    try:
        app()
    except HomeroomError as error:
        err = Console(stderr=True, highlight=False, soft_wrap=True)
        err.print(f"Error: {error.message}", markup=False)
        if error.hint is not None:
            err.print(f"To mend it: {error.hint}", markup=False)
        sys.exit(error.exit_code)
