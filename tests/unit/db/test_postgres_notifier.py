"""Hints of commits reach other processes soon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from time import perf_counter

import pytest
from tools.servers.postgres import Postgres

from homeroom.clock import Clock
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.db.postgres.notifier import (
    LOST_HINTS,
    MAX_HINTS_AT_ONCE,
    MAX_PAYLOAD_BYTES,
    encode_hints,
)
from homeroom.db.tx import Tx

pytestmark = pytest.mark.anyio
PATIENCE_SECONDS = 20
Pairs = Sequence[tuple[str, str]]


class HintRecorder:
    """Hints that one process has received."""

    def __init__(self, db: PostgresDatabase) -> None:
        self.received: list[tuple[str, str]] = []
        self.changed = asyncio.Event()
        db.subscribe(self._record)

    def _record(self, topics: Pairs) -> None:
        self.received += topics
        self.changed.set()

    async def wait_for(self, pair: tuple[str, str]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while pair not in self.received:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def other_process(postgres_url: str, clock: Clock) -> AsyncIterator[PostgresDatabase]:
    """Open the same database once more, as another process would."""
    opened = PostgresDatabase(postgres_url, clock)
    await opened.open()
    yield opened
    await opened.close()


async def commit_hints(db: PostgresDatabase, *pairs: tuple[str, str]) -> None:
    async with db.write() as tx:
        for pair in pairs:
            tx.notify(*pair)


async def wait_until_listening(there: HintRecorder, sender: PostgresDatabase) -> None:
    """Wait until hints arrive: listening begins a moment after the subscription."""
    number = 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not there.received:
            number += 1
            await commit_hints(sender, ("warm", str(number)))
            await asyncio.wait([asyncio.ensure_future(there.changed.wait())], timeout=0.05)
    await commit_hints(sender, ("warm", "last"))
    await there.wait_for(("warm", "last"))


async def test_a_commit_is_hinted_to_another_process_and_once_to_its_own(
    postgresql: PostgresDatabase, other_process: PostgresDatabase
) -> None:
    here, there = HintRecorder(postgresql), HintRecorder(other_process)
    await wait_until_listening(there, postgresql)
    await wait_until_listening(here, other_process)
    await commit_hints(postgresql, ("jobs", "mail"), ("progress", "ada/fire"), ("jobs", "mail"))
    await commit_hints(other_process, ("jobs", "end"))
    await there.wait_for(("progress", "ada/fire"))
    await here.wait_for(("jobs", "end"))
    assert there.received.count(("jobs", "mail")) == 1
    assert here.received.count(("jobs", "mail")) == 2  # as it was published here
    assert here.received.count(("progress", "ada/fire")) == 1


async def test_a_rolled_back_transaction_sends_no_hint(
    postgresql: PostgresDatabase, other_process: PostgresDatabase
) -> None:
    there = HintRecorder(other_process)
    await wait_until_listening(there, postgresql)

    async def fail(tx: Tx) -> None:
        tx.notify("jobs", "never")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await postgresql.transact(fail)
    await commit_hints(postgresql, ("jobs", "after"))
    await there.wait_for(("jobs", "after"))
    assert ("jobs", "never") not in there.received


async def test_hints_take_a_few_milliseconds(
    postgresql: PostgresDatabase, other_process: PostgresDatabase
) -> None:
    there = HintRecorder(other_process)
    await wait_until_listening(there, postgresql)
    took = []
    for number in range(30):
        started = perf_counter()
        await commit_hints(postgresql, ("jobs", str(number)))
        await there.wait_for(("jobs", str(number)))
        took.append(perf_counter() - started)
    assert sorted(took)[len(took) // 2] < 0.1, took  # 3 ms where nothing else runs


async def test_closing_sends_all_hints(
    postgresql: PostgresDatabase, postgres_url: str, clock: Clock
) -> None:
    there = HintRecorder(postgresql)
    first = await opened(postgres_url, clock)
    await wait_until_listening(there, first)
    await first.close()
    for number in range(5):
        brief = await opened(postgres_url, clock)
        await commit_hints(brief, ("jobs", f"brief {number}"))
        await brief.close()
        await there.wait_for(("jobs", f"brief {number}"))


async def opened(url: str, clock: Clock) -> PostgresDatabase:
    db = PostgresDatabase(url, clock)
    await db.open()
    return db


async def test_a_lost_connection_is_replaced_and_lost_hints_are_announced(
    postgresql: PostgresDatabase,
    other_process: PostgresDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("homeroom.db.postgres.notifier._RETRY_SECONDS", 0.05)
    there = HintRecorder(other_process)
    await wait_until_listening(there, postgresql)
    async with postgresql.read() as tx:
        await tx.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            " AND datname = current_database()"
        )
    await there.wait_for(LOST_HINTS)
    await commit_hints(postgresql, ("jobs", "again"))
    await there.wait_for(("jobs", "again"))


def test_payloads_fit_the_limit_of_notify() -> None:
    pairs = [
        ("progress", f"{'ü' * 100}{number}/{'c' * 128}") for number in range(MAX_HINTS_AT_ONCE)
    ]
    texts = list(encode_hints(pairs))
    assert len(texts) > 1
    assert all(len(text.encode()) <= MAX_PAYLOAD_BYTES for text in texts)
    assert [tuple(pair) for text in texts for pair in json.loads(text)] == pairs
    assert list(encode_hints([])) == []


def test_too_many_hints_are_replaced_by_the_one_for_lost_hints() -> None:
    [text] = encode_hints([("progress", str(number)) for number in range(MAX_HINTS_AT_ONCE + 1)])
    assert json.loads(text) == [list(LOST_HINTS)]


async def test_an_idle_process_is_seen_as_connected(
    postgres: Postgres, postgres_url: str, postgresql: PostgresDatabase
) -> None:
    """Pools close connections after five idle minutes; here the server terminates them."""
    name = postgres_url.rpartition("/")[2]
    others = f"FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'homeroom'"

    async def count() -> int:
        [[found]] = await asyncio.to_thread(postgres.rows, f"SELECT count(*) {others}", "postgres")
        return int(found)

    async def terminate() -> None:
        await asyncio.to_thread(postgres.run, f"SELECT pg_terminate_backend(pid) {others}")

    await terminate()
    assert await count() == 0
    postgresql.keep_connection()
    for _ in range(2):  # also after a loss
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await count() == 0:  # noqa: ASYNC110  # only the server knows
                await asyncio.sleep(0.05)
        await terminate()
