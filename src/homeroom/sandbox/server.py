"""The server of the sandbox: one port, with a path prefix per partner."""

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
from homeroom.sandbox.handler import partner_endpoint
from homeroom.sandbox.sandbox_request import PATH_PREFIXES, SERVER_NAMES
from homeroom.sandbox.state import SandboxConfig, SandboxState

# Requests that are being handled at a stop may finish within this time, then they are cut.
_SHUTDOWN_GRACE_SECONDS = 0.4
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app(config: SandboxConfig) -> Starlette:
    """Return the app of all six servers and the control API, with a new state."""
    state = SandboxState(config)
    routes: list[BaseRoute] = [Route("/", _index), *control.control_routes(state)]
    for server in SERVER_NAMES:
        endpoint = partner_endpoint(state, server)
        # Every path and method goes to the server, so that wrong requests are logged as well.
        routes += [
            Route(PATH_PREFIXES[server], endpoint, methods=_METHODS),
            Route(PATH_PREFIXES[server] + "/{rest:path}", endpoint, methods=_METHODS),
        ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    app.state.sandbox = state
    return app


def environment(
    base_url: str, config: SandboxConfig, mail_port: int | None = None
) -> dict[str, str]:
    """Return the settings that point Homeroom at a sandbox."""
    base_url = base_url.rstrip("/")
    settings = {
        f"HOMEROOM_{server.upper()}_URL": base_url + PATH_PREFIXES[server]
        for server in SERVER_NAMES
        if server != "llm"  # `model_environment`: with it, lesson plans are not written by rule
    }
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


def model_environment(base_url: str, config: SandboxConfig) -> dict[str, str]:
    """Return the settings that name the sandbox's language model."""
    return {
        "HOMEROOM_LLM_URL": base_url.rstrip("/") + PATH_PREFIXES["llm"],
        "HOMEROOM_LLM_MODEL": config.llm_model,
        "HOMEROOM_LLM_API_KEY": config.llm_key,
    }


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
    """Serve until cancelled or until `stop` is set; then end within a second.

    A port of 0 uses a free one; `mail_started` is called with the port of the mail server, and then
    `started` with the other one once requests are accepted.
    Installs no signal handlers. Raises OSError if the port is in use.
    """
    app = create_app(config)
    mails = await mail.start_mail_server(lambda: app.state.sandbox.mailbox, host, mail_port)
    try:
        listener = _open_listener(host, port)
    except OSError:
        mails.close()
        raise
    if mail_started is not None:
        mail_started(mails.sockets[0].getsockname()[1])
    server = _SandboxUvicorn(app, started, listener.getsockname()[1])
    app.state.cut = server.cut
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stop_requested = asyncio.create_task((stop or asyncio.Event()).wait())
    try:
        await asyncio.wait({serving, stop_requested}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop_requested.cancel()
        mails.close()
        app.state.sandbox.stopping.set()
        server.should_exit = True
        done, _ = await asyncio.wait({serving}, timeout=_SHUTDOWN_GRACE_SECONDS)
        if not done:
            server.cut_all()
        await serving


def _open_listener(host: str, port: int) -> socket.socket:
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


class _SandboxUvicorn(uvicorn.Server):
    """uvicorn in the loop of its caller, with connections that can be cut."""

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
        """Leave signals to the caller, which runs the loop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests, then call `started`."""
        await super().startup(sockets)
        if self._on_started is not None:
            self._on_started(self._port)

    def cut(self, client: object) -> bool:
        """Close the connection of a client at once; False if there is none."""
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
            "servers": {server: base_url + PATH_PREFIXES[server] for server in SERVER_NAMES},
            "control": base_url + "/control/summary",
        }
    )
