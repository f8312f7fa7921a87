"""Serve from several processes: which there are, and what they share."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from homeroom.errors import ConfigurationError
from homeroom.http import log as http_log
from homeroom.http import server
from homeroom.http.processes import Keeper, Member, Tell
from homeroom.settings import Settings
from homeroom.wiring.serving import Place, look_over, serve, work

WORKER = "worker"


def serve_many(
    settings: Settings, *, worker: bool = True, started: Callable[[str, str | None], None]
) -> None:
    """Serve from ``settings.processes`` processes on one socket until SIGTERM or SIGINT.

    With ``worker``, one process more runs the jobs and the schedules, and serves nobody. This
    process only keeps the others running. ``started`` is called once all of them serve, with the
    URL and, at the very first start, a one-time sign-in link.
    """
    http_log.configure(settings.log_level, settings.log_format)
    look_over(settings)
    if sys.platform == "win32":
        raise ConfigurationError(
            "Windows cannot share one socket among several processes.",
            hint="Set HOMEROOM_PROCESSES=1.",
        )
    listening = server.bind(settings.host, settings.port)
    folder = Path(tempfile.mkdtemp(prefix="homeroom-"))
    names = [f"api-{number}" for number in range(1, settings.processes + 1)]
    members = [_api(settings, Place(name, folder, listening)) for name in names]
    if worker:
        members.append(_worker(settings, Place(WORKER, folder, listening)))
    waiting = set(names)
    sign_in: str | None = None

    def told(name: str, text: str) -> None:
        nonlocal sign_in
        if name not in waiting:
            return  # it was started again
        url, link = msgspec.json.decode(text, type=tuple[str, str | None])
        sign_in = sign_in or link
        waiting.discard(name)
        if not waiting:
            started(url, sign_in)

    keeper = Keeper(
        members,
        grace_seconds=settings.shutdown_grace.total_seconds(),
        told=told,
        stopping=listening.close,  # else connections would wait here for processes that are gone
    )
    try:
        keeper.run()
    finally:
        listening.close()
        shutil.rmtree(folder, ignore_errors=True)


def _api(settings: Settings, place: Place) -> Member:
    def run(tell: Tell) -> None:
        def started(url: str, link: str | None) -> None:
            tell(msgspec.json.encode((url, link)).decode())

        server.run_loop(serve(settings, worker=False, started=started, place=place))

    return Member(place.name, run)


def _worker(settings: Settings, place: Place) -> Member:
    def run(_: Tell) -> None:
        place.listening.close()  # jobs may take longer to end than the port may stay taken
        server.run_loop(work(settings, started=lambda _: None, place=place))

    return Member(place.name, run)
