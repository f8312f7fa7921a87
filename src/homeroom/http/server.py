"""Serve an ASGI application on a socket, with graceful shutdown."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog
from starlette.types import ASGIApp

from homeroom.errors import ConfigurationError, HomeroomError
from homeroom.http.uvicorn_protocol import (
    BoundedHttpProtocol,
    ConnectionLimits,
    ServerConfig,
    UvicornServer,
)

if sys.platform != "win32":
    import uvloop

log = structlog.get_logger(__name__)

BACKLOG = 2_048
KEEP_ALIVE_SECONDS = 75
"""Longer than the interval of a player that sends once a minute."""
GC_YOUNG_THRESHOLD = 50_000
"""Allocations between two collections of the young generation; CPython's default is 700.

A commit allocates some thousand short-lived objects without cycles: at 700, collections found no
garbage and took a tenth of the time.
"""
SWITCH_INTERVAL_SECONDS = 0.0005
"""Time after which a thread yields the interpreter; CPython's default is 0.005, for which the event
loop kept a database thread waiting after every statement (decision 0010).
"""
LoopResult = TypeVar("LoopResult")
_START_POLL_SECONDS = 0.005


def bind_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise ``ConfigurationError`` if it cannot bind."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = addresses[0]
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
            hint="Another program may use the port; choose one with HOMEROOM_PORT or --port.",
        ) from error
    opened.setblocking(False)
    return opened


async def serve_app(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    grace_seconds: float,
    on_started: Callable[[str], None] | None = None,
    before_stop: Callable[[], None] | None = None,
    listening: socket.socket | None = None,
    limits: ConnectionLimits | None = None,
) -> None:
    """Serve requests until ``stop`` is set, then finish the running ones.

    ``on_started`` gets the URL once requests are served (port 0 takes a free one). ``before_stop``
    is called before the wait for running requests, to end streams. ``listening`` is a socket from
    ``bind_socket``, perhaps shared by several processes. Requests that run longer than
    ``grace_seconds`` are cancelled. ``limits`` are those of connections; by default their number is
    bounded by the process's descriptors. Raises ``ConfigurationError`` if the address is taken.
    """
    opened = bind_socket(host, port) if listening is None else listening
    config = ServerConfig(
        app,
        loop="none",
        http=BoundedHttpProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(grace_seconds)),
        backlog=BACKLOG,
    )
    config.limits = limits or ConnectionLimits()
    server = UvicornServer(config)
    real_port = opened.getsockname()[1]
    server_task = asyncio.ensure_future(_run_until_stopped(server, opened))
    try:
        await _wait_until_started(server, server_task)
        tune_runtime()
        url = f"http://{f'[{host}]' if ':' in host else host}:{real_port}"
        log.info("server_started", url=url)
        if on_started is not None:
            on_started(url)
        stop_task = asyncio.ensure_future(stop.wait())
        await asyncio.wait([server_task, stop_task], return_when=asyncio.FIRST_COMPLETED)
        stop_task.cancel()
    finally:
        if before_stop is not None:
            before_stop()
        server.should_exit = True
        await server_task
    log.info("server_stopped")


async def _run_until_stopped(server: UvicornServer, opened: socket.socket) -> None:
    try:
        await server.serve(sockets=[opened])
    except SystemExit as error:  # raised by uvicorn for an application that does not start
        raise HomeroomError("The application did not start; the log has the reason.") from error
    finally:
        opened.close()


async def _wait_until_started(server: UvicornServer, server_task: asyncio.Future[None]) -> None:
    while not server.started:
        if server_task.done():
            await server_task
            raise HomeroomError("The server ended before it started.")
        await asyncio.sleep(_START_POLL_SECONDS)


def stop_on_signals(stop: asyncio.Event, *, supervised: bool = False) -> None:
    """Set ``stop`` on the first SIGTERM or SIGINT; a second one kills the process.

    A ``supervised`` process ignores a second signal: a terminal or a service manager may signal the
    whole process group, and the supervisor then signals its processes again.
    """
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if not stop.is_set():
            log.info("shutdown_started", signal=number.name)
        stop.set()
        if supervised:
            return
        for other in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(other)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def run_loop(main: Coroutine[Any, Any, LoopResult]) -> LoopResult:
    """Run a coroutine to its end on uvloop, on asyncio's own loop under Windows."""
    factory = None if sys.platform == "win32" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def tune_runtime() -> None:
    """Tune garbage collection and thread switching; call once everything is imported.

    ``gc.freeze`` exempts the program's own objects. A second call has no further effect.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_THRESHOLD, 10, 10)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
