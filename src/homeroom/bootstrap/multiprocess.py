"""A server of several processes on one socket, with a supervisor."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from homeroom.bootstrap.server import ProcessContext, run_server, run_worker, validate_settings
from homeroom.errors import ConfigurationError
from homeroom.http import logging_config as http_log
from homeroom.http import server as http_server
from homeroom.http.supervisor import ProcessSpec, SendToSupervisor, Supervisor
from homeroom.settings import Settings

WORKER_NAME = "worker"


def run_server_processes(
    settings: Settings, *, worker: bool = True, on_started: Callable[[str, str | None], None]
) -> None:
    """Serve from several processes on one socket until SIGTERM or SIGINT.

    With ``worker``, one more process runs jobs and schedules and serves no requests. This process
    is the supervisor. ``on_started`` is called once all processes serve, with the URL and, at the
    start, until someone has signed in, a one-time sign-in link.
    """
    http_log.configure_logging(settings.log_level, settings.log_format)
    validate_settings(settings)
    if sys.platform == "win32":
        raise ConfigurationError(
            "Windows cannot share one socket among several processes.",
            hint="Set HOMEROOM_PROCESSES=1.",
        )
    listening = http_server.bind_socket(settings.host, settings.port)
    folder = Path(tempfile.mkdtemp(prefix="homeroom-"))
    names = [f"api-{number}" for number in range(1, settings.processes + 1)]
    specs = [_api_process(settings, ProcessContext(name, folder, listening)) for name in names]
    if worker:
        specs.append(_worker_process(settings, ProcessContext(WORKER_NAME, folder, listening)))
    starting = set(names)
    sign_in_link: str | None = None

    def on_message(name: str, text: str) -> None:
        nonlocal sign_in_link
        if name not in starting:
            return  # the process was restarted
        url, link = msgspec.json.decode(text, type=tuple[str, str | None])
        sign_in_link = sign_in_link or link
        starting.discard(name)
        if not starting:
            on_started(url, sign_in_link)

    supervisor = Supervisor(
        specs,
        grace_seconds=settings.shutdown_grace.total_seconds(),
        on_message=on_message,
        before_stop=listening.close,  # new connections are refused, not left to wait
    )
    try:
        supervisor.run()
    finally:
        listening.close()
        shutil.rmtree(folder, ignore_errors=True)


def _api_process(settings: Settings, process: ProcessContext) -> ProcessSpec:
    def run(send: SendToSupervisor) -> None:
        def on_started(url: str, link: str | None) -> None:
            send(msgspec.json.encode((url, link)).decode())

        http_server.run_loop(
            run_server(settings, worker=False, on_started=on_started, process=process)
        )

    return ProcessSpec(process.name, run)


def _worker_process(settings: Settings, process: ProcessContext) -> ProcessSpec:
    def run(_: SendToSupervisor) -> None:
        process.listening.close()  # a job may end later than the port has to be free
        http_server.run_loop(run_worker(settings, on_started=lambda _: None, process=process))

    return ProcessSpec(process.name, run)
