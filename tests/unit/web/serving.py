"""Run an ASGI app on a real socket for the length of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
from starlette.types import ASGIApp

from homeroom.http.server import serve


@asynccontextmanager
async def serving(
    app: ASGIApp, stopping: Callable[[], None] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    stop = asyncio.Event()
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(
        serve(
            app,
            "127.0.0.1",
            0,
            stop=stop,
            started=url.set_result,
            stopping=stopping,
            grace_seconds=5,
        )
    )
    await asyncio.wait([url, running], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        await running
    async with httpx.AsyncClient(base_url=await url, timeout=10) as client:
        try:
            yield client
        finally:
            stop.set()
            await running
