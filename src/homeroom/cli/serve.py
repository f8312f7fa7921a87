"""``homeroom serve`` and ``homeroom worker``: run until a signal stops them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from homeroom.cli.group import LazyModule, command_group

if TYPE_CHECKING:
    from rich import console as rich_console

    from homeroom.bootstrap import database, multiprocess, server
    from homeroom.http import server as http_server
else:
    rich_console = LazyModule("rich.console")
    database = LazyModule("homeroom.bootstrap.database")
    multiprocess = LazyModule("homeroom.bootstrap.multiprocess")
    server = LazyModule("homeroom.bootstrap.server")
    http_server = LazyModule("homeroom.http.server")

app = command_group("Run servers and workers.")

SERVE_EPILOG = """\b
Examples:
  homeroom serve                       API, worker and scheduler on 127.0.0.1:8420
  homeroom serve --port 9000           on another port
  homeroom serve --no-worker           the API alone; run `homeroom worker` beside it
  homeroom serve --processes 4         four API processes and one worker (PostgreSQL only)

\b
Settings come from the environment (`homeroom docs settings`); `homeroom check` checks them.
SIGTERM and Ctrl-C stop it once running requests and jobs have finished, at the latest
after HOMEROOM_SHUTDOWN_GRACE. Several processes have a supervisor: it restarts a process
that dies, and when it ends, they end.

Exit codes: 0 stopped by a signal, 3 the database cannot be used, 75 its writer is stuck (restart
it), 78 configuration, or a PostgreSQL database that needs `homeroom db upgrade`."""

WORKER_EPILOG = """\b
Examples:
  homeroom worker              run jobs and schedules beside `homeroom serve --no-worker`
  homeroom worker --port 8421  answer /healthz, /readyz and /metrics there
  homeroom worker --queues lessonplans,credentials
                               run the jobs of these queues alone
  HOMEROOM_CONCURRENCY=10 homeroom worker

Exit codes: 0 stopped by a signal, 3 the database cannot be used, 78 configuration."""


@app.command("serve", epilog=SERVE_EPILOG)
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

    With several processes, all serve the API on one port, and worker and scheduler run in a process
    of their own.
    """
    options = {"host": host, "port": port, "processes": processes}
    overrides = {name: value for name, value in options.items() if value is not None}

    console = _console()

    def on_start(url: str, sign_in: str | None) -> None:
        console.print(f"Homeroom serves on {url} (API: {url}/docs)")
        if sign_in is not None:
            console.print(f"No user has signed in yet. This link works once: {sign_in}")

    settings = database.load_settings(**overrides)
    if settings.processes > 1:
        multiprocess.run_server_processes(settings, worker=worker, on_started=on_start)
    else:
        http_server.run_loop(server.run_server(settings, worker=worker, on_started=on_start))


@app.command("worker", epilog=WORKER_EPILOG)
def worker(
    host: Annotated[str | None, typer.Option(help="Address; else HOMEROOM_HOST.")] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="Port of probes and metrics; else HOMEROOM_WORKER_PORT."
        ),
    ] = None,
    queues: Annotated[
        str | None,
        typer.Option(help="Queues, separated by commas; else HOMEROOM_WORKER_QUEUES, or all."),
    ] = None,
) -> None:
    """Run worker and scheduler alone, for servers with --no-worker.

    With --port, it answers /healthz, /readyz and /metrics there. With --queues, it runs the jobs of
    these queues; other workers have to run those of the others, or they wait.
    """
    options = {"host": host, "worker_port": port, "worker_queues": queues}
    overrides = {name: value for name, value in options.items() if value is not None}

    console = _console()

    def on_start(url: str | None) -> None:
        console.print("The worker is running." if url is None else f"The worker is running: {url}")

    http_server.run_loop(
        server.run_worker(database.load_settings(**overrides), on_started=on_start)
    )


def _console() -> rich_console.Console:
    return rich_console.Console(highlight=False, soft_wrap=True)
