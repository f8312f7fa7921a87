"""A real server for an ASGI app, for the duration of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
from starlette.types import ASGIApp

from homeroom.http.server import serve_app
from homeroom.http.uvicorn_protocol import ConnectionLimits
from homeroom.settings import Settings

MAX_BODY_BYTES: int = Settings.model_fields["max_body_bytes"].default


@asynccontextmanager
async def serving(
    app: ASGIApp,
    before_stop: Callable[[], None] | None = None,
    limits: ConnectionLimits | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    stop = asyncio.Event()
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(
        serve_app(
            app,
            "127.0.0.1",
            0,
            stop=stop,
            on_started=url.set_result,
            before_stop=before_stop,
            grace_seconds=5,
            limits=limits,
        )
    )
    started: set[asyncio.Future[str] | asyncio.Future[None]] = {url, running}
    await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        await running
    async with httpx.AsyncClient(base_url=await url, timeout=10) as client:
        try:
            yield client
        finally:
            stop.set()
            await running
