"""Start the sandbox: one port, a path prefix per partner, and the control API beside them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Generator
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from homeroom.sandbox import control, mail
from homeroom.sandbox.config import SandboxConfig
from homeroom.sandbox.exchange import PREFIXES, SERVERS
from homeroom.sandbox.gate import gate
from homeroom.sandbox.world import World

__all__ = ["SandboxConfig", "create_app", "environment", "serve"]

# What is being answered when the sandbox is told to stop may end; what isn't done by then is cut.
_LAST_WORDS_SECONDS = 0.4
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app(config: SandboxConfig) -> Starlette:
    """Make the app of all five servers and the control API; its state is its own."""
    world = World(config)
    routes: list[BaseRoute] = [Route("/", _index), *control.routes(world)]
    for server in SERVERS:
        endpoint = gate(world, server)
        # Every path and method goes to the server, so that a request sent wrong is seen as well.
        routes += [
            Route(PREFIXES[server], endpoint, methods=_METHODS),
            Route(PREFIXES[server] + "/{rest:path}", endpoint, methods=_METHODS),
        ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    app.state.world = world
    return app


def environment(
    base_url: str, config: SandboxConfig, mail_port: int | None = None
) -> dict[str, str]:
    """Return the settings that point Homeroom at a sandbox, as environment variables."""
    base_url = base_url.rstrip("/")
    settings = {f"HOMEROOM_{server.upper()}_URL": base_url + PREFIXES[server] for server in SERVERS}
    settings |= {
        "HOMEROOM_CREDLY_ORGANIZATION": config.organization,
        "HOMEROOM_CREDLY_TOKEN": config.credly_token,
        "HOMEROOM_WEBHOOK_SECRET": config.webhook_secret,
    }
    if mail_port is not None:
        host = urlsplit(base_url).netloc.rpartition(":")[0]
        settings |= {
            "HOMEROOM_SMTP_URL": f"smtp://{host}:{mail_port}?tls=none",
            "HOMEROOM_MAIL_FROM": "Homeroom <homeroom@example.org>",
        }
    if config.directory_token is not None:
        settings["HOMEROOM_DIRECTORY_TOKEN"] = config.directory_token
    if config.assessment_token is not None:
        settings["HOMEROOM_ASSESSMENT_TOKEN"] = config.assessment_token
    return settings


async def serve(
    config: SandboxConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    mail_port: int = 0,
    started: Callable[[int], None] | None = None,
    mail_started: Callable[[int], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until cancelled or until `stop` is set; then end within a second, come what may.

    A port of 0 takes a free one; `mail_started` is called with the mail server's port, and then
    `started` with the other one once requests are taken.
    Installs no signal handlers. Raises OSError when the port can't be had.
    """
    app = create_app(config)
    mails = await mail.listen(lambda: app.state.world.mailroom, host, mail_port)
    try:
        listener = _listen(host, port)
    except OSError:
        mails.close()
        raise
    if mail_started is not None:
        mail_started(mails.sockets[0].getsockname()[1])
    server = _Server(app, started, listener.getsockname()[1])
    app.state.cut = server.cut
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    told = asyncio.create_task((stop or asyncio.Event()).wait())
    try:
        await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
        mails.close()
        app.state.world.stopping.set()
        server.should_exit = True
        done, _ = await asyncio.wait({serving}, timeout=_LAST_WORDS_SECONDS)
        if not done:
            server.cut_all()
        await serving


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer of two
    # writes waits 40 ms for the client's delayed acknowledgement. socket.create_server names none.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would share the port with another program
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """Run uvicorn inside a loop that somebody else owns, with connections that can be cut."""

    def __init__(self, app: Starlette, started: Callable[[int], None] | None, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                # None leaves the logging of the process, and of a server beside this one, alone.
                log_config=None,
                log_level=None,
                access_log=False,
                # The client's real address is how a connection is found again to be cut.
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._on_started = started
        self._port = port

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to whoever runs the loop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take requests, then say so."""
        await super().startup(sockets)
        if self._on_started is not None:
            self._on_started(self._port)

    def cut(self, client: object) -> bool:
        """Close the connection of a client at once; False when there is none."""
        for connection in self.server_state.connections:
            if isinstance(connection, H11Protocol) and connection.client == client:
                connection.transport.abort()
                return True
        return False

    def cut_all(self) -> None:
        """Close every connection at once."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()


async def _index(request: Request) -> Response:
    base_url = str(request.base_url).rstrip("/")
    return JSONResponse(
        {
            "servers": {server: base_url + PREFIXES[server] for server in SERVERS},
            "control": base_url + "/control/summary",
        }
    )
