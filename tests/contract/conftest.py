"""The fixture ``kernel`` of the contract suite, once for each engine in ``ENGINES``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from tests.support.kernel import ENGINES, Kernel, Setup, Task

from homeroom.clock import Clock


@pytest.fixture(params=list(ENGINES))
def engine_setup(request: pytest.FixtureRequest) -> tuple[Setup, Path | str]:
    """Return the setup of an engine, and the file or URL of its fresh database."""
    if "bullmq" in request.param:
        request.getfixturevalue("redis_server")
    fixture, setup = ENGINES[request.param]
    return setup, request.getfixturevalue(fixture)


@pytest.fixture
async def kernel(engine_setup: tuple[Setup, Path | str], clock: Clock) -> AsyncIterator[Kernel]:
    setup, database = engine_setup
    async with setup(database, clock) as (db, engine):
        yield Kernel(db, engine, database=database)


@pytest.fixture
def another(
    engine_setup: tuple[Setup, Path | str], clock: Clock
) -> Callable[[], AbstractAsyncContextManager[Kernel]]:
    """Return a function that opens another kernel on the same database."""
    setup, database = engine_setup

    @asynccontextmanager
    async def opened() -> AsyncIterator[Kernel]:
        async with setup(database, clock) as (db, engine):
            yield Kernel(db, engine, database=database)

    return opened


@pytest.fixture
def task() -> type[Task]:
    """Return the job kind of the suite."""
    return Task
