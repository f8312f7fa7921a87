"""Run the application on a socket, and stop it without breaking an answer off."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import structlog
import uvicorn
from starlette.types import ASGIApp

from homeroom.errors import ConfigurationError, HomeroomError
from homeroom.http.protocol import Protocol
from homeroom.http.runtime import tune_runtime

if sys.platform != "win32":
    import uvloop

log = structlog.get_logger(__name__)

BACKLOG = 2_048
KEEP_ALIVE_SECONDS = 75
"""Longer than the pause of a player that sends every minute."""
Outcome = TypeVar("Outcome")


class _Server(uvicorn.Server):
    """uvicorn, but signals are ours: the worker and the database have to be stopped too."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise ``ConfigurationError`` if the address cannot be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        opened = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(
            f"{host} is not an address to listen on: {error.strerror}.", hint="Set HOMEROOM_HOST."
        ) from error
    try:
        if sys.platform != "win32":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise ConfigurationError(
            f"Cannot listen on {host} port {port}: {error.strerror}.",
            hint="Another program may have the port; choose one with HOMEROOM_PORT or --port.",
        ) from error
    opened.setblocking(False)
    return opened


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    started: Callable[[str], None] | None = None,
    stopping: Callable[[], None] | None = None,
    grace_seconds: float = 25.0,
    listening: socket.socket | None = None,
) -> None:
    """Answer requests until ``stop`` is set, then finish those that run.

    ``started`` gets the URL once requests are answered (port 0 takes a free one). ``stopping`` is
    called before running answers are waited for, to end streams. ``listening`` is a socket that
    ``bind`` has opened already, perhaps for several processes. Raises ``ConfigurationError`` if the
    address is taken.
    """
    opened = bind(host, port) if listening is None else listening
    server = _Server(
        uvicorn.Config(
            app,
            loop="none",
            http=Protocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(grace_seconds)),
            backlog=BACKLOG,
        )
    )
    real_port = opened.getsockname()[1]
    running = asyncio.ensure_future(_until_done(server, opened))
    try:
        await _until_started(server, running)
        tune_runtime()
        url = f"http://{f'[{host}]' if ':' in host else host}:{real_port}"
        log.info("serving", url=url)
        if started is not None:
            started(url)
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
    finally:
        if stopping is not None:
            stopping()
        server.should_exit = True
        await running
    log.info("stopped")


async def _until_done(server: _Server, opened: socket.socket) -> None:
    try:
        await server.serve(sockets=[opened])
    except SystemExit as error:  # uvicorn's word for an application that does not start
        raise HomeroomError("The application did not start; the log says why.") from error
    finally:
        opened.close()


async def _until_started(server: _Server, running: asyncio.Future[None]) -> None:
    while not server.started:
        if running.done():
            await running
            raise HomeroomError("The server ended before it started.")
        await asyncio.sleep(0.005)


def stop_on_signals(stop: asyncio.Event, *, kept: bool = False) -> None:
    """Set ``stop`` on the first SIGTERM or SIGINT; a second one ends the process as usual.

    A process that is ``kept`` by another one takes no notice of a second signal: a terminal or a
    supervisor may signal all processes, and the one that keeps them then does so again.
    """
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if not stop.is_set():
            log.info("stopping", signal=number.name)
        stop.set()
        if kept:
            return
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def run_loop(main: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run a program on uvloop where there is one."""
    factory = None if sys.platform == "win32" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
