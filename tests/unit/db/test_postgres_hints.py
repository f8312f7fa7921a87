"""Hints from process to process: what was committed here is heard there, and soon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from time import perf_counter

import pytest
from tools.servers.postgres import Postgres

from homeroom.clock import Clock
from homeroom.db.postgres import PostgresDatabase
from homeroom.db.postgres_hint import MISSED, MOST_AT_ONCE, PAYLOAD_BYTES, payloads
from homeroom.db.tx import Tx

pytestmark = pytest.mark.anyio
PATIENCE_SECONDS = 20
Pairs = Sequence[tuple[str, str]]


class Ear:
    """What one process has heard."""

    def __init__(self, db: PostgresDatabase) -> None:
        self.heard: list[tuple[str, str]] = []
        self._stirred = asyncio.Event()
        db.subscribe(self._hear)

    def _hear(self, topics: Pairs) -> None:
        self.heard += topics
        self._stirred.set()

    async def hears(self, pair: tuple[str, str]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while pair not in self.heard:
                self._stirred.clear()
                await self._stirred.wait()


@pytest.fixture
async def elsewhere(postgres_url: str, clock: Clock) -> AsyncIterator[PostgresDatabase]:
    """Open the same database once more, as another process would."""
    opened = PostgresDatabase(postgres_url, clock)
    await opened.open()
    yield opened
    await opened.close()


async def tell(db: PostgresDatabase, *pairs: tuple[str, str]) -> None:
    async with db.write() as tx:
        for pair in pairs:
            tx.notify(*pair)


async def listening(ear: Ear, teller: PostgresDatabase) -> None:
    """Wait until hints arrive: listening begins a moment after the subscription."""
    number = 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not ear.heard:
            number += 1
            await tell(teller, ("warm", str(number)))
            await asyncio.wait([asyncio.ensure_future(ear._stirred.wait())], timeout=0.05)
    await tell(teller, ("warm", "last"))
    await ear.hears(("warm", "last"))


async def test_a_commit_is_heard_in_another_process_and_once_in_its_own(
    postgresql: PostgresDatabase, elsewhere: PostgresDatabase
) -> None:
    here, there = Ear(postgresql), Ear(elsewhere)
    await listening(there, postgresql)
    await listening(here, elsewhere)
    await tell(postgresql, ("jobs", "mail"), ("progress", "ada/fire"), ("jobs", "mail"))
    await tell(elsewhere, ("jobs", "end"))
    await there.hears(("progress", "ada/fire"))
    await here.hears(("jobs", "end"))
    assert there.heard.count(("jobs", "mail")) == 1
    assert here.heard.count(("jobs", "mail")) == 2  # as it was told here
    assert here.heard.count(("progress", "ada/fire")) == 1


async def test_what_is_rolled_back_is_not_heard(
    postgresql: PostgresDatabase, elsewhere: PostgresDatabase
) -> None:
    there = Ear(elsewhere)
    await listening(there, postgresql)

    async def fail(tx: Tx) -> None:
        tx.notify("jobs", "never")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await postgresql.transact(fail)
    await tell(postgresql, ("jobs", "after"))
    await there.hears(("jobs", "after"))
    assert ("jobs", "never") not in there.heard


async def test_hints_take_a_few_milliseconds(
    postgresql: PostgresDatabase, elsewhere: PostgresDatabase
) -> None:
    there = Ear(elsewhere)
    await listening(there, postgresql)
    took = []
    for number in range(30):
        started = perf_counter()
        await tell(postgresql, ("jobs", str(number)))
        await there.hears(("jobs", str(number)))
        took.append(perf_counter() - started)
    assert sorted(took)[len(took) // 2] < 0.1, took  # 3 ms where nothing else runs


async def test_who_closes_has_told_everything(
    postgresql: PostgresDatabase, postgres_url: str, clock: Clock
) -> None:
    there = Ear(postgresql)
    first = await opened(postgres_url, clock)
    await listening(there, first)
    await first.close()
    for number in range(5):
        brief = await opened(postgres_url, clock)
        await tell(brief, ("jobs", f"brief {number}"))
        await brief.close()
        await there.hears(("jobs", f"brief {number}"))


async def opened(url: str, clock: Clock) -> PostgresDatabase:
    db = PostgresDatabase(url, clock)
    await db.open()
    return db


async def test_a_lost_connection_is_replaced_and_what_was_missed_is_said(
    postgresql: PostgresDatabase,
    elsewhere: PostgresDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("homeroom.db.postgres_hint._RETRY_SECONDS", 0.05)
    there = Ear(elsewhere)
    await listening(there, postgresql)
    async with postgresql.read() as tx:
        await tx.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            " AND datname = current_database()"
        )
    await there.hears(MISSED)
    await tell(postgresql, ("jobs", "again"))
    await there.hears(("jobs", "again"))


def test_payloads_fit_what_notify_takes() -> None:
    pairs = [("progress", f"{'ü' * 100}{number}/{'c' * 128}") for number in range(MOST_AT_ONCE)]
    texts = list(payloads(pairs))
    assert len(texts) > 1
    assert all(len(text.encode()) <= PAYLOAD_BYTES for text in texts)
    assert [tuple(pair) for text in texts for pair in json.loads(text)] == pairs
    assert list(payloads([])) == []


def test_too_many_hints_become_the_one_that_stands_for_all() -> None:
    [text] = payloads([("progress", str(number)) for number in range(MOST_AT_ONCE + 1)])
    assert json.loads(text) == [list(MISSED)]


async def test_who_serves_is_seen_even_if_it_asks_nothing(
    postgres: Postgres, postgres_url: str, postgresql: PostgresDatabase
) -> None:
    """The pools' connections go after five idle minutes; here the server ends them all."""
    name = postgres_url.rpartition("/")[2]
    others = f"FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'homeroom'"

    async def count() -> int:
        [[found]] = await asyncio.to_thread(postgres.rows, f"SELECT count(*) {others}", "postgres")
        return int(found)

    async def ended() -> None:
        await asyncio.to_thread(postgres.run, f"SELECT pg_terminate_backend(pid) {others}")

    await ended()
    assert await count() == 0
    postgresql.stay_connected()
    for _ in range(2):  # also once it was lost
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await count() == 0:  # noqa: ASYNC110  # only the server knows
                await asyncio.sleep(0.05)
        await ended()
