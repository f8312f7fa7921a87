"""Each staged fault is said rightly by readiness, ``homeroom check``, log and metrics."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.fault.staged_faults import BEGIN, END, FAULTS, PAGE, StagedFault, places_of, table
from tools.servers.redis import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.fault]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
async def test_a_fault_is_said_by_every_instrument(
    fault: StagedFault, tmp_path: Path, postgres_url: str, redis_server: RedisServer
) -> None:
    async with (
        asyncio.timeout(120),
        places_of(tmp_path, postgres_url, redis_server.port) as places,
    ):
        server = await fault.stage(places)
        if fault.log:
            await server.until(lambda: fault.log in server.events())
        if fault.readyz:
            # A worker that cannot write its heartbeat is missing too, one lease later.
            await server.until_ready(fault.readyz, f"{fault.readyz}, worker")
            assert fault.metrics in await server.metrics(), server.text()
        assert await server.check(*fault.check_options) == fault.check, server.text()


async def test_a_server_goes_on_when_there_is_room_again(
    tmp_path: Path, postgres_url: str, redis_server: RedisServer
) -> None:
    async with places_of(tmp_path, postgres_url, redis_server.port) as places:
        server = await FAULTS[0].stage(places)
        (tmp_path / "disk" / "ballast").unlink()
        await server.until(lambda: "database_fault_ended storage_full" in server.events())
        await server.until_ready("ok")
        answer = await server.send_events()
        assert answer.status_code == 200
        assert server.text().count("database_fault_began") == 1


def test_the_page_for_operators_has_the_table_of_today() -> None:
    page = PAGE.read_text(encoding="utf-8")
    shown = page[page.index(BEGIN) + len(BEGIN) : page.index(END)]
    assert shown.strip() == table(), "python -m tests.fault.staged_faults > build/operating.md"
