"""The writer of ingest when it is flooded, poisoned, hanging or stuck; nothing is faked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from anyio.lowlevel import checkpoint
from tests.service.progress_school import School, chapter, event, school

from homeroom.db.database import Database
from homeroom.db.group_commit import Limits
from homeroom.db.postgres import PostgresDatabase
from homeroom.db.sqlite import SqliteDatabase

pytestmark = pytest.mark.anyio
QUICK = Limits(timeout_seconds=0.5, interrupt_seconds=0.5, retry_delay_seconds=0.01)
FEW = Limits(max_waiting=21)
# Triggers of SQLite may hold no WITH of their own, so the endless one is a view.
ENDLESS = {
    "sqlite": (
        "CREATE VIEW endless AS WITH RECURSIVE c(n) AS"
        " (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 100000000000) SELECT n FROM c",
        "CREATE TRIGGER hang AFTER INSERT ON progress_event WHEN new.id = 'slow'"
        " BEGIN SELECT count(*) FROM endless; END",
    ),
    "postgresql": (
        "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN PERFORM pg_sleep(1000); RETURN NULL; END $$",
        "CREATE TRIGGER hang AFTER INSERT ON progress_event FOR EACH ROW"
        " WHEN (new.id = 'slow') EXECUTE FUNCTION hang()",
    ),
}
HANG_NO_MORE = {
    "sqlite": "DROP TRIGGER hang",
    "postgresql": "DROP TRIGGER hang ON progress_event",
}
POISON = {
    "sqlite": (
        "CREATE TRIGGER poison BEFORE INSERT ON progress_event WHEN new.id = 'poison'"
        " BEGIN SELECT RAISE(ABORT, 'poison'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$",
        "CREATE TRIGGER poison BEFORE INSERT ON progress_event FOR EACH ROW"
        " WHEN (new.id = 'poison') EXECUTE FUNCTION poison()",
    ),
}
BLOCKED = (
    "CREATE TRIGGER block AFTER INSERT ON progress_event WHEN new.id = 'stuck'"
    " BEGIN SELECT block(); END",
)


@pytest.fixture
def stuck() -> list[str]:
    return []


@pytest.fixture
async def house(db: Database, stuck: list[str]) -> AsyncIterator[School]:
    async with school(db, limits=QUICK, on_stuck=stuck.append) as opened:
        await opened.publish("fire", chapter("a"))
        yield opened


@pytest.fixture
async def small_house(db: Database) -> AsyncIterator[School]:
    async with school(db, limits=FEW) as opened:
        await opened.publish("fire", chapter("a"))
        yield opened


def wants_to_write(house: School) -> bool:
    """Say whether a commit with what was sent waits for the writer, which the test holds."""
    if isinstance(house.db, SqliteDatabase):
        return any(house.db._lock._waiting.values())
    assert isinstance(house.db, PostgresDatabase)
    return bool(house.db._busy) and not house.ingest.writer.waiting_weight


def waiting(house: School, behind: int) -> bool:
    """Say whether so much waits behind the first commit.

    On SQLite that one waits, too: what it takes is decided when it gets the writer.
    """
    itself = int(isinstance(house.db, SqliteDatabase))
    return house.ingest.writer.waiting_weight == behind + itself


@asynccontextmanager
async def ledger_held(db: Database) -> AsyncIterator[None]:
    """Let no event be stored meanwhile."""
    async with db.write() as tx:
        if tx.dialect == "postgresql":
            await tx.execute("LOCK TABLE progress_event IN EXCLUSIVE MODE")
        yield


async def run(db: Database, *statements: str) -> None:
    async with db.write() as tx:
        for statement in statements:
            await tx.execute(statement)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await checkpoint()


async def test_a_flood_is_refused_with_a_time_to_come_back_and_counts_once(
    small_house: School,
) -> None:
    house = small_house
    async with ledger_held(house.db):
        first = asyncio.ensure_future(house.post(event("0", timeSpent=1)))
        await until(lambda: wants_to_write(house))
        others = [
            asyncio.ensure_future(house.post(*(event(f"{n}.{i}", timeSpent=1) for i in range(10))))
            for n in range(2)
        ]
        await until(lambda: waiting(house, 20))
        too_much = [event(f"too much {number}", timeSpent=1) for number in range(2)]
        refused = await house.post(*too_much)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_busy")
        assert int(refused.headers["retry-after"]) >= 1
    answers = [answer.json()["accepted"] for answer in await asyncio.gather(first, *others)]
    assert answers == [1, 10, 10]
    assert (await house.send(*too_much))["accepted"] == 2
    assert (await house.progress())["timeSpent"] == 23


async def test_a_request_that_cannot_be_stored_does_not_fail_its_neighbours(
    small_house: School,
) -> None:
    house = small_house
    await run(house.db, *POISON[house.db.dialect])
    async with ledger_held(house.db):
        first = asyncio.ensure_future(house.post(event("0", timeSpent=1)))
        await until(lambda: wants_to_write(house))
        ids = ["left", "poison", "right"]
        others = [asyncio.ensure_future(house.post(event(id, timeSpent=1))) for id in ids]
        await until(lambda: waiting(house, 3))
    answers = await asyncio.gather(first, *others)
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
    assert "poison" not in answers[2].json()["detail"]
    stored = await house.rows("SELECT id FROM progress_event ORDER BY id")
    assert stored == [("0",), ("left",), ("right",)]
    assert (await house.progress())["timeSpent"] == 3


async def test_a_hanging_commit_is_interrupted_and_tried_again(
    house: School, stuck: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(house.db, *ENDLESS[house.db.dialect])
    interrupted = asyncio.Event()
    really = house.db.interrupt

    async def interrupt() -> None:
        interrupted.set()
        await really()

    monkeypatch.setattr(house.db, "interrupt", interrupt)
    sent = asyncio.ensure_future(house.post(event("slow", timeSpent=5)))
    async with asyncio.timeout(10):
        await interrupted.wait()
        # This gets its turn once the interrupt has worked.
        await run(house.db, HANG_NO_MORE[house.db.dialect])
        answer = await sent
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    assert (await house.progress())["timeSpent"] == 5
    assert stuck == []


async def test_a_commit_that_hangs_each_time_is_refused_and_nothing_of_it_is_stored(
    house: School, stuck: list[str]
) -> None:
    await run(house.db, *ENDLESS[house.db.dialect])
    before = await house.tables()
    async with asyncio.timeout(20):
        answer = await house.post(event("slow", timeSpent=5))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert await house.tables() == before
    assert stuck == []
    assert (await house.send(event("next", timeSpent=1)))["accepted"] == 1


async def test_a_commit_that_cannot_be_interrupted_gives_the_process_up(
    sqlite: SqliteDatabase, stuck: list[str]
) -> None:
    async with school(sqlite, limits=QUICK, on_stuck=stuck.append) as house:
        await house.publish("fire", chapter("a"))
        await give_up(house, sqlite, stuck)


async def give_up(house: School, sqlite: SqliteDatabase, stuck: list[str]) -> None:
    gate = threading.Event()
    writer = sqlite._writer
    assert writer is not None
    # SQLite looks for an interrupt between its own steps; within a function it cannot.
    await writer.create_function("block", 0, lambda: gate.wait(30))
    await run(house.db, *BLOCKED)
    try:
        async with asyncio.timeout(10):
            sent = asyncio.ensure_future(house.post(event("stuck", timeSpent=5)))
            await until(lambda: house.ingest.writer.waiting_weight == 0)
            behind = asyncio.ensure_future(house.post(event("behind", timeSpent=5)))
            answers = await asyncio.gather(sent, behind)
            late = await house.post(event("late", timeSpent=5))
        for answer in (*answers, late):
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
        assert stuck == ["ingest"]
        assert await house.rows("SELECT count(*) FROM progress_event") == [(0,)]
    finally:
        gate.set()
