"""``homeroom serve`` and ``homeroom worker``: what runs until it is told to stop."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from homeroom import wiring
from homeroom.http.server import run_loop

out = Console(highlight=False, soft_wrap=True)

SERVE_EXAMPLES = """\b
Examples:
  homeroom serve                       API, worker and scheduler on 127.0.0.1:8420
  homeroom serve --port 9000           on another port
  homeroom serve --no-worker           the API alone; run `homeroom worker` beside it

\b
Settings come from the environment (docs/settings.md); `homeroom check` judges them.
SIGTERM and Ctrl-C finish what runs, within HOMEROOM_SHUTDOWN_GRACE.

Exit codes: 0 stopped as asked, 3 the database cannot be used, 75 its writer hung (start it again),
78 configuration, or a PostgreSQL database that `homeroom db upgrade` has not seen yet."""

WORKER_EXAMPLES = """\b
Examples:
  homeroom worker          run jobs and schedules beside `homeroom serve --no-worker`
  HOMEROOM_CONCURRENCY=10 homeroom worker

Exit codes: 0 stopped as asked, 3 the database cannot be used, 78 configuration."""


def serve(
    host: Annotated[str | None, typer.Option(help="Address; else HOMEROOM_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; else HOMEROOM_PORT.")] = None,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Run the jobs and schedules as well.")
    ] = True,
) -> None:
    """Serve the API, and run worker and scheduler in the same process."""
    options = {"host": host, "port": port}
    given = {name: value for name, value in options.items() if value is not None}

    def started(url: str, sign_in: str | None) -> None:
        out.print(f"Homeroom serves on {url} (API: {url}/docs)")
        if sign_in is not None:
            out.print(f"Nobody has signed in yet. This link works once: {sign_in}")

    run_loop(wiring.serve(wiring.load_settings(**given), worker=worker, started=started))


def worker() -> None:
    """Run worker and scheduler alone, beside servers that run without."""
    run_loop(
        wiring.work(wiring.load_settings(), started=lambda: out.print("The worker is running."))
    )
