"""``homeroom demo``: a class of learners, played before your eyes and counted afterwards."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from homeroom.demo.run import run
from homeroom.demo.school import Options
from homeroom.http.server import run_loop

EXAMPLES = """\b
Examples:
  homeroom demo                        play a class of 200 learners, check, and go on serving
  homeroom demo --exit                 end after the summary
  homeroom demo --learners 25 --seed 7 a smaller class that does other things
  homeroom demo --data-dir play        keep database and logs in the folder play
  homeroom demo --exit --json          the summary as JSON, for programs

\b
It starts a server, a worker, a scheduler and the partner systems of `homeroom sandbox`, in a
temporary folder and with keys of their own. Your settings and your data are not touched.

Exit codes: 0 every number agrees, 1 one is off or a program died, 130 interrupted."""


def demo(
    ends: Annotated[bool, typer.Option("--exit", help="End after the summary.")] = False,
    learners: Annotated[int, typer.Option(min=1, max=5_000, help="Size of the class.")] = 200,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port; a free one is taken if it is in use.")
    ] = 8420,
    seed: Annotated[int, typer.Option(help="Decides what the learners do.")] = 1,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for database and logs; else a temporary one.", file_okay=False),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a live view.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Play a class of learners through HTTP and check every number against what was sent."""
    # With --json, standard output holds the summary and nothing else.
    console = Console(stderr=as_json, highlight=False)
    with ExitStack() as stack:
        folder = data_dir
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="homeroom-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(made))
        options = Options(folder.resolve(), learners=learners, seed=seed, port=port)
        live = console.is_terminal and not plain and not as_json
        code = run_loop(run(options, console, keep_serving=not ends, live=live, as_json=as_json))
    sys.exit(code)
