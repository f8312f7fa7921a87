"""The housekeeping service survives an unreachable database."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from anyio.lowlevel import checkpoint
from structlog.testing import capture_logs

from homeroom.bootstrap.application import Application
from homeroom.bootstrap.services import housekeeping_service
from homeroom.db.sqlite.database import SqliteDatabase

pytestmark = [pytest.mark.anyio, pytest.mark.service]


async def test_a_checkpoint_that_fails_does_not_stop_the_server(
    sqlite: SqliteDatabase,
) -> None:
    settings = SimpleNamespace(health_check_interval=timedelta(milliseconds=1))
    service = housekeeping_service(cast(Application, SimpleNamespace(settings=settings, db=sqlite)))
    await sqlite.close()
    with capture_logs() as lines:
        running = asyncio.ensure_future(service.run())
        async with asyncio.timeout(10):
            while len(lines) < 2 and not running.done():
                await checkpoint()
        assert not running.done()
        service.stop()
        await running
    assert {line["event"] for line in lines} == {"checkpoint_failed"}
