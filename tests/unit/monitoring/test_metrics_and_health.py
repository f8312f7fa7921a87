"""Metrics, health and hints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from homeroom.db.database import Database
from homeroom.db.migrate import head
from homeroom.errors import TooBusy
from homeroom.monitoring import hints as hints_module
from homeroom.monitoring.health import Health
from homeroom.monitoring.hints import MISSED, Hint, Hints, is_about
from homeroom.monitoring.memory import resident_bytes
from homeroom.monitoring.metrics import Metrics

pytestmark = pytest.mark.anyio


class Seconds:
    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


def test_rates_are_those_of_the_last_minute() -> None:
    now = Seconds()
    metrics = Metrics(now)
    metrics.watch_queue(lambda: 7)
    now.at += 120
    metrics.events("accepted", 540)
    now.at += 30
    metrics.events("accepted", 60)
    metrics.events("rejected", 100)
    metrics.events("duplicate", 100)
    metrics.commit(300, 0.010)
    metrics.commit(300, 0.030)
    found = metrics.summary()
    assert found["queueSize"] == 7
    assert found["eventsPerSecond"] == 10
    assert found["errorRate"] == 0.125
    assert found["averageProcessingMs"] == 20
    assert found["uptimeSeconds"] == 150
    now.at += 30
    assert metrics.summary()["eventsPerSecond"] == 1
    now.at += 60
    found = metrics.summary()
    assert (found["eventsPerSecond"], found["errorRate"], found["averageProcessingMs"]) == (0, 0, 0)


def test_prometheus_gets_what_was_counted() -> None:
    metrics = Metrics()
    metrics.events("accepted", 3)
    metrics.events("accepted", 2)
    metrics.commit(5, 0.004)
    metrics.request("GET", "/api/v1/courses/{courseId}", 200, 0.01)
    metrics.request("BREW", "unmatched", 404, 0.01)
    metrics.request("MELT", "unmatched", 404, 0.01)
    metrics.attempt("credential.issue", "done", 0.2)
    metrics.jobs({"partners": {"waiting": 4, "failed": 1}})
    text = metrics.text().decode()
    for line in (
        'homeroom_ingest_events_total{status="accepted"} 5.0',
        'homeroom_ingest_commit_seconds_bucket{le="0.005"} 1.0',
        'homeroom_http_requests_total{method="GET",route="/api/v1/courses/{courseId}",status="200"}'
        " 1.0",
        'homeroom_http_requests_total{method="other",route="unmatched",status="404"} 2.0',
        'homeroom_job_attempts_total{kind="credential.issue",outcome="done"} 1.0',
        'homeroom_jobs{queue="partners",state="waiting"} 4.0',
    ):
        assert line in text
    metrics.jobs({"partners": {"waiting": 1}})
    assert 'state="failed"' not in metrics.text().decode()


def test_memory_is_that_of_this_process() -> None:
    before = resident_bytes()
    ballast = b"x" * 64_000_000
    assert 32_000_000 < resident_bytes() - before < 128_000_000
    del ballast


async def test_all_parts_well_is_ok(db: Database) -> None:
    async def well() -> None:
        return None

    found = await Health(db, head(), {"workers": well}).ready()
    assert found.is_ready
    assert found.status == "ok"
    assert list(found.checks) == ["database", "migrations", "workers"]


async def test_an_ill_part_degrades_and_says_why(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeroom.monitoring.health.PROBE_SECONDS", 1.5)

    async def ill() -> str:
        return "No worker has been heard of."

    async def broken() -> str:
        raise RuntimeError("swordfish")

    async def silent() -> str:
        await asyncio.Event().wait()
        return ""

    health = Health(db, head(), {"workers": ill})
    health.add("broken", broken)
    health.add("silent", silent)
    found = await health.ready()
    assert found.is_ready
    assert found.status == "degraded"
    assert found.checks["workers"].detail == "No worker has been heard of."
    assert "swordfish" not in str(found)
    assert "1.5 seconds" in str(found.checks["silent"].detail)


async def test_an_old_schema_or_no_database_is_a_failure(db: Database) -> None:
    health = Health(db, head())
    async with db.write() as tx:
        await tx.execute("UPDATE alembic_version SET version_num = '0001_jobs'")
    found = await health.ready()
    assert not found.is_ready
    assert "homeroom db upgrade" in str(found.checks["migrations"].detail)
    async with db.write() as tx:
        await tx.execute("DELETE FROM alembic_version")
    assert not (await health.ready()).is_ready


@pytest.mark.parametrize(
    ("hint", "own"),
    [
        (("progress", "ada/course"), True),
        (("progress", "bob/ada"), False),
        (("enrolments", "course/ada"), True),
        (("enrolments", "ada/bob"), False),
        (("people", "ada"), True),
        (("people", "bob"), False),
        (("jobs", "ada"), False),
        (("progress", "ada/x/course"), False),
        (("completion", "0199"), False),
        (MISSED, True),
    ],
)
def test_a_learner_hears_of_own_records_only(hint: Hint, own: bool) -> None:
    assert is_about("ada", hint) is own


async def commit(db: Database, *pairs: Hint) -> None:
    async with db.write() as tx:
        for topic, id in pairs:
            tx.notify(topic, id)


async def next_hint(stream: AsyncIterator[Hint | None]) -> Hint | None:
    async with asyncio.timeout(5):
        return await anext(stream)


async def test_hints_come_after_the_commit_each_once(db: Database) -> None:
    hints = Hints(db)
    stream = aiter(hints.listen("ada", lambda hint: hint[0] != "jobs"))
    assert await next_hint(stream) is None

    async def undone() -> None:
        async with db.write() as tx:
            tx.notify("courses", "never")
            raise ValueError("undone")

    with pytest.raises(ValueError, match="undone"):
        await undone()
    await commit(db, ("courses", "a"), ("jobs", "j"), ("courses", "a"), ("courses", "b"))
    assert await next_hint(stream) == ("courses", "a")
    assert await next_hint(stream) == ("courses", "b")
    hints.close()
    with pytest.raises(StopAsyncIteration):
        await next_hint(stream)
    assert hints.listening == 0
    assert db._listeners == []


async def test_a_slow_listener_is_told_that_it_missed_something(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "MAX_WAITING", 10)
    hints = Hints(db)
    stream = aiter(hints.listen("ada", lambda _: True))
    await next_hint(stream)
    await commit(db, *(("courses", str(index)) for index in range(25)))
    assert await next_hint(stream) == MISSED
    await commit(db, ("courses", "later"))
    assert await next_hint(stream) == ("courses", "later")


async def test_a_quiet_stream_beats_and_ends_in_time(db: Database) -> None:
    hints = Hints(db, heartbeat_seconds=0.01, stream_seconds=0.2)
    beats = [hint async for hint in hints.listen("ada", lambda _: True)]
    assert len(beats) > 3
    assert set(beats) == {None}


async def test_there_is_room_for_so_many_streams(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "MAX_LISTENERS", 1)
    hints = Hints(db)
    hints.check_room("ada")
    stream = aiter(hints.listen("ada", lambda _: True))
    await next_hint(stream)
    with pytest.raises(TooBusy):
        hints.check_room("ben")


async def test_nobody_takes_the_room_of_all_others(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "MAX_OF_ONE", 1)
    hints = Hints(db)
    stream = aiter(hints.listen("ada", lambda _: True))
    await next_hint(stream)
    hints.check_room("ben")
    with pytest.raises(TooBusy, match="close one first"):
        hints.check_room("ada")
    hints.close()
    with pytest.raises(StopAsyncIteration):
        await next_hint(stream)
    hints.check_room("ada")
