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
  homeroom serve --processes 4         four API processes and one that works (PostgreSQL only)

\b
Settings come from the environment (docs/settings.md); `homeroom check` judges them.
SIGTERM and Ctrl-C finish what runs, within HOMEROOM_SHUTDOWN_GRACE. With several processes, one
more keeps them running: it starts again what dies, and when it ends, they end.

Exit codes: 0 stopped as asked, 3 the database cannot be used, 75 its writer hung (start it again),
78 configuration, or a PostgreSQL database that `homeroom db upgrade` has not seen yet."""

WORKER_EXAMPLES = """\b
Examples:
  homeroom worker              run jobs and schedules beside `homeroom serve --no-worker`
  homeroom worker --port 8421  and answer /healthz, /readyz and /metrics there
  HOMEROOM_CONCURRENCY=10 homeroom worker

Exit codes: 0 stopped as asked, 3 the database cannot be used, 78 configuration."""


def serve(
    host: Annotated[str | None, typer.Option(help="Address; else HOMEROOM_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; else HOMEROOM_PORT.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="API processes; else HOMEROOM_PROCESSES."),
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Run the jobs and schedules as well.")
    ] = True,
) -> None:
    """Serve the API, and run worker and scheduler in the same process.

    With several processes, all serve the API on one port, and worker and scheduler have one process
    of their own.
    """
    options = {"host": host, "port": port, "processes": processes}
    given = {name: value for name, value in options.items() if value is not None}

    def started(url: str, sign_in: str | None) -> None:
        out.print(f"Homeroom serves on {url} (API: {url}/docs)")
        if sign_in is not None:
            out.print(f"Nobody has signed in yet. This link works once: {sign_in}")

    settings = wiring.load_settings(**given)
    if settings.processes > 1:
        wiring.serve_many(settings, worker=worker, started=started)
    else:
        run_loop(wiring.serve(settings, worker=worker, started=started))


def worker(
    host: Annotated[str | None, typer.Option(help="Address; else HOMEROOM_HOST.")] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="Port of probes and metrics; else HOMEROOM_WORKER_PORT."
        ),
    ] = None,
) -> None:
    """Run worker and scheduler alone, beside servers that run without.

    With a port, it answers /healthz, /readyz and /metrics there.
    """
    options = {"host": host, "worker_port": port}
    given = {name: value for name, value in options.items() if value is not None}

    def started(url: str | None) -> None:
        out.print("The worker is running." if url is None else f"The worker is running: {url}")

    run_loop(wiring.work(wiring.load_settings(**given), started=started))
