"""Ingest writer under a flood, a poisoned request, a hanging and a stuck commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from anyio.lowlevel import checkpoint
from tests.support.progress_school import ADA, School, chapter, event, open_school

from homeroom.commit_priority import CommitPriority
from homeroom.db.database import Database
from homeroom.db.group_commit import GroupCommitLimits
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.db.sqlite.database import SqliteDatabase

pytestmark = pytest.mark.anyio
QUICK = GroupCommitLimits(timeout_seconds=0.5, interrupt_seconds=0.5, retry_delay_seconds=0.01)
FEW = GroupCommitLimits(max_waiting=23)
"""21 events of normal priority may wait, and 23 of high."""
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
async def school(db: Database, stuck: list[str]) -> AsyncIterator[School]:
    async with open_school(db, limits=QUICK, on_stuck=stuck.append) as opened:
        await opened.publish("fire", chapter("a"))
        yield opened


@pytest.fixture
async def small_school(db: Database) -> AsyncIterator[School]:
    async with open_school(db, limits=FEW) as opened:
        await opened.publish("fire", chapter("a"))
        yield opened


def wants_to_write(school: School) -> bool:
    """Tell whether a commit waits for the writer, which the test holds."""
    if isinstance(school.db, SqliteDatabase):
        return any(school.db._lock._waiting.values())
    assert isinstance(school.db, PostgresDatabase)
    return bool(school.db._busy) and not school.ingest.writer.waiting_weight


def waiting(school: School, behind: int) -> bool:
    """Tell whether ``behind`` events wait behind the first commit.

    On SQLite that one waits as well: it chooses its events when it gets the writer.
    """
    itself = int(isinstance(school.db, SqliteDatabase))
    return school.ingest.writer.waiting_weight == behind + itself


@asynccontextmanager
async def ledger_held(db: Database) -> AsyncIterator[None]:
    """Block the ledger for writers."""
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


async def test_a_flood_is_refused_with_retry_after_and_counts_once(
    small_school: School,
) -> None:
    school = small_school
    async with ledger_held(school.db):
        first = asyncio.ensure_future(school.post(event("0", timeSpent=1)))
        await until(lambda: wants_to_write(school))
        others = [
            asyncio.ensure_future(school.post(*(event(f"{n}.{i}", timeSpent=1) for i in range(10))))
            for n in range(2)
        ]
        await until(lambda: waiting(school, 20))
        too_much = [event(f"too much {number}", timeSpent=1) for number in range(2)]
        refused = await school.post(*too_much)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_busy")
        assert int(refused.headers["retry-after"]) >= 1
        finished = [event(f"done {number}", "chapter_complete") for number in range(2)]
        # More urgent: there is room left for it.
        others.append(asyncio.ensure_future(school.post(*finished)))
        await until(lambda: waiting(school, 22))
    answers = [answer.json()["accepted"] for answer in await asyncio.gather(first, *others)]
    assert answers == [1, 10, 10, 2]
    assert (await school.send(*too_much))["accepted"] == 2
    assert (await school.progress())["timeSpent"] == 23


async def test_completions_of_a_backlog_are_stored_before_heartbeats(db: Database) -> None:
    limits = GroupCommitLimits(max_batch=10)
    async with open_school(db, limits=limits) as school:
        await school.publish("fire", chapter("a"))
        sent = []
        async with ledger_held(db):
            sent.append(asyncio.ensure_future(school.post(event("0", timeSpent=1))))
            await until(lambda: wants_to_write(school))
            for n in range(8):
                beat = event(f"beat {n}", "heartbeat", timeSpent=1, chapterId=None)
                sent.append(asyncio.ensure_future(school.post(beat, who=ADA)))
            await until(lambda: waiting(school, 8))
            for n in range(8):
                done = event(f"done {n}", "chapter_complete")
                sent.append(asyncio.ensure_future(school.post(done, who=ADA)))
            await until(lambda: waiting(school, 16))
            low, high = CommitPriority.LOW, CommitPriority.HIGH
            assert school.ingest.writer.waiting_weight_of(low) == 8
            assert school.ingest.writer.waiting_weight_of(high) == 8
        answers = await asyncio.gather(*sent)
        assert [answer.status_code for answer in answers] == [200] * 17
        stored = [id for (id,) in await school.rows("SELECT id FROM progress_event ORDER BY seq")]
        assert {id for id in stored[:11] if id.startswith("done")} == {
            f"done {n}" for n in range(8)
        }


async def test_a_request_that_cannot_be_stored_does_not_fail_its_neighbours(
    small_school: School,
) -> None:
    school = small_school
    await run(school.db, *POISON[school.db.dialect])
    async with ledger_held(school.db):
        first = asyncio.ensure_future(school.post(event("0", timeSpent=1)))
        await until(lambda: wants_to_write(school))
        ids = ["left", "poison", "right"]
        others = [asyncio.ensure_future(school.post(event(id, timeSpent=1))) for id in ids]
        await until(lambda: waiting(school, 3))
    answers = await asyncio.gather(first, *others)
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
    assert "poison" not in answers[2].json()["detail"]
    stored = await school.rows("SELECT id FROM progress_event ORDER BY id")
    assert stored == [("0",), ("left",), ("right",)]
    assert (await school.progress())["timeSpent"] == 3


async def test_a_hanging_commit_is_interrupted_and_tried_again(
    school: School, stuck: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(school.db, *ENDLESS[school.db.dialect])
    interrupted = asyncio.Event()
    really = school.db.interrupt

    async def interrupt() -> None:
        interrupted.set()
        await really()

    monkeypatch.setattr(school.db, "interrupt", interrupt)
    sent = asyncio.ensure_future(school.post(event("slow", timeSpent=5)))
    async with asyncio.timeout(10):
        await interrupted.wait()
        # This commit runs once the interrupt has worked.
        await run(school.db, HANG_NO_MORE[school.db.dialect])
        answer = await sent
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    assert (await school.progress())["timeSpent"] == 5
    assert stuck == []


async def test_a_commit_that_hangs_repeatedly_is_refused_and_stores_nothing(
    school: School, stuck: list[str]
) -> None:
    await run(school.db, *ENDLESS[school.db.dialect])
    before = await school.tables()
    async with asyncio.timeout(20):
        answer = await school.post(event("slow", timeSpent=5))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert await school.tables() == before
    assert stuck == []
    assert (await school.send(event("next", timeSpent=1)))["accepted"] == 1


async def test_a_commit_that_cannot_be_interrupted_ends_the_process(
    sqlite: SqliteDatabase, stuck: list[str]
) -> None:
    async with open_school(sqlite, limits=QUICK, on_stuck=stuck.append) as school:
        await school.publish("fire", chapter("a"))
        await give_up(school, sqlite, stuck)


async def give_up(school: School, sqlite: SqliteDatabase, stuck: list[str]) -> None:
    gate = threading.Event()
    writer = sqlite._writer
    assert writer is not None
    # SQLite looks for an interrupt between its own steps; within a function it cannot.
    await writer.create_function("block", 0, lambda: gate.wait(30))
    await run(school.db, *BLOCKED)
    try:
        async with asyncio.timeout(10):
            sent = asyncio.ensure_future(school.post(event("stuck", timeSpent=5)))
            await until(lambda: school.ingest.writer.waiting_weight == 0)
            behind = asyncio.ensure_future(school.post(event("behind", timeSpent=5)))
            answers = await asyncio.gather(sent, behind)
            late = await school.post(event("late", timeSpent=5))
        for answer in (*answers, late):
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
        assert stuck == ["ingest"]
        assert await school.rows("SELECT count(*) FROM progress_event") == [(0,)]
    finally:
        gate.set()
