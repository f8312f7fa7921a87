"""The ``homeroom`` command: one file a command group, errors and exit codes in one place."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from homeroom import __version__
from homeroom.cli import (
    check,
    courses,
    db,
    demo,
    jobs,
    keys,
    notify,
    people,
    plans,
    programmes,
    sandbox,
    schedules,
    serve,
)
from homeroom.errors import HomeroomError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: the same on a terminal, in a pipe and in docs/cli.md
    pretty_exceptions_enable=False,  # theirs show locals, which may hold secrets and addresses
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback(
    epilog="\b\nStart here:\n"
    "  homeroom demo     a class of 200 learners, played before your eyes\n"
    "  homeroom check    what is wrong with the configuration, and how to mend it\n\n"
    "Every command's --help has examples and its exit codes; docs/cli.md has all of them."
)
def homeroom(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """Run the back office of a learning platform."""


app.command("serve", epilog=serve.SERVE_EXAMPLES)(serve.serve)
app.command("worker", epilog=serve.WORKER_EXAMPLES)(serve.worker)
app.command("demo", epilog=demo.EXAMPLES)(demo.demo)
app.command("check", epilog=check.EPILOG)(check.check)
app.command("sandbox", epilog=sandbox.EPILOG)(sandbox.sandbox)
app.add_typer(keys.app, name="keys")
app.add_typer(courses.app, name="courses")
app.add_typer(plans.app, name="plans")
app.add_typer(jobs.app, name="jobs")
app.add_typer(programmes.app, name="programmes")
app.add_typer(schedules.app, name="schedules")
app.add_typer(notify.app, name="notify")
app.add_typer(people.app, name="people")
app.add_typer(db.app, name="db")


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
