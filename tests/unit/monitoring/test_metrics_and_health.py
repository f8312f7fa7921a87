"""Metrics, health checks and change hints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from homeroom.db.database import Database
from homeroom.db.migrate import head_revision
from homeroom.errors import TooBusy
from homeroom.monitoring import hint_stream as hints_module
from homeroom.monitoring.health import Health
from homeroom.monitoring.hint_stream import (
    HINTS_LOST,
    Hint,
    HintStreams,
    VisibleHints,
    show_all,
)
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
    metrics.watch_queue(lambda: 7, {"high": lambda: 5, "low": lambda: 2})
    now.at += 120
    metrics.count_events("accepted", 540)
    now.at += 30
    metrics.count_events("accepted", 60)
    metrics.count_events("rejected", 100)
    metrics.count_events("duplicate", 100)
    metrics.observe_commit(300, 0.010)
    metrics.observe_commit(300, 0.030)
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


def test_prometheus_text_has_all_counts() -> None:
    metrics = Metrics()
    metrics.watch_queue(lambda: 7, {"high": lambda: 5, "low": lambda: 2})
    metrics.count_too_busy("low", 30)
    metrics.count_events("accepted", 3)
    metrics.count_events("accepted", 2)
    metrics.observe_commit(5, 0.004)
    metrics.observe_request("GET", "/api/v1/courses/{courseId}", 200, 0.01)
    metrics.observe_request("BREW", "unmatched", 404, 0.01)
    metrics.observe_request("MELT", "unmatched", 404, 0.01)
    metrics.observe_attempt("credentials", "credential.issue", "done", 0.2, 3)
    metrics.set_job_counts({"partners": {"waiting": 4, "failed": 1}})
    text = metrics.render().decode()
    for line in (
        'homeroom_ingest_events_total{status="accepted"} 5.0',
        "homeroom_ingest_queue_events 7.0",
        'homeroom_ingest_waiting_events{priority="high"} 5.0',
        'homeroom_ingest_waiting_events{priority="low"} 2.0',
        'homeroom_ingest_too_busy_events_total{priority="high"} 0.0',
        'homeroom_ingest_too_busy_events_total{priority="low"} 30.0',
        'homeroom_ingest_commit_seconds_bucket{le="0.005"} 1.0',
        'homeroom_http_requests_total{method="GET",route="/api/v1/courses/{courseId}",status="200"}'
        " 1.0",
        'homeroom_http_requests_total{method="other",route="unmatched",status="404"} 2.0',
        'homeroom_job_attempts_total{kind="credential.issue",outcome="done"} 1.0',
        'homeroom_jobs{queue="partners",state="waiting"} 4.0',
    ):
        assert line in text
    metrics.set_job_counts({"partners": {"waiting": 1}})
    assert 'state="failed"' not in metrics.render().decode()


def test_memory_is_that_of_this_process() -> None:
    before = resident_bytes()
    ballast = b"x" * 64_000_000
    assert 32_000_000 < resident_bytes() - before < 128_000_000
    del ballast


async def test_health_without_faults_is_ok(db: Database) -> None:
    async def no_fault() -> None:
        return None

    found = await Health(db, head_revision(), {"workers": no_fault}).ready()
    assert found.is_ready
    assert found.status == "ok"
    assert list(found.checks) == ["database", "migrations", "workers"]


async def test_a_faulty_part_degrades_and_shows_its_fault(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeroom.monitoring.health.PROBE_SECONDS", 1.5)

    async def fault() -> str:
        return "No worker is alive."

    async def broken() -> str:
        raise RuntimeError("swordfish")

    async def silent() -> str:
        await asyncio.Event().wait()
        return ""

    health = Health(db, head_revision(), {"workers": fault})
    health.add("broken", broken)
    health.add("silent", silent)
    found = await health.ready()
    assert found.is_ready
    assert found.status == "degraded"
    assert found.checks["workers"].detail == "No worker is alive."
    assert "swordfish" not in str(found)
    assert "1.5 seconds" in str(found.checks["silent"].detail)


async def test_an_old_schema_or_no_database_is_a_failure(db: Database) -> None:
    health = Health(db, head_revision())
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
        (HINTS_LOST, True),
    ],
)
def test_a_learner_receives_hints_about_own_records_only(hint: Hint, own: bool) -> None:
    assert VisibleHints({"ada"}, "ada").show(hint) == (hint if own else None)


def test_hints_about_people_come_without_the_id_of_the_record() -> None:
    manager = VisibleHints({"boss", "ada"}, "boss", "boss", ("courses",))
    cases: list[tuple[Hint, Hint | None]] = [
        (("person", "completions/ada"), ("completions", "*")),
        (("person", "completions/bob"), None),
        (("person", "completions/bob/ada"), None),
        (("person", "programmes/boss"), ("programmes", "*")),
        (("person", "programmes/ada"), None),
        (("notifications", "boss"), ("notifications", "boss")),
        (("notifications", "ada"), None),
        (("completions", "0199"), None),
        (("courses", "fire"), ("courses", "fire")),
    ]
    assert [manager.show(hint) for hint, _ in cases] == [shown for _, shown in cases]
    assert show_all(("person", "completions/ada")) is None
    assert show_all(("completions", "0199")) == ("completions", "0199")


async def commit(db: Database, *pairs: Hint) -> None:
    async with db.write() as tx:
        for topic, id in pairs:
            tx.notify(topic, id)


async def next_hint(stream: AsyncIterator[Hint | None]) -> Hint | None:
    async with asyncio.timeout(5):
        return await anext(stream)


async def test_each_hint_is_published_once_after_the_commit(db: Database) -> None:
    hints = HintStreams(db)
    stream = aiter(hints.stream("ada", lambda hint: None if hint[0] == "jobs" else hint))
    assert await next_hint(stream) is None

    async def roll_back() -> None:
        async with db.write() as tx:
            tx.notify("courses", "never")
            raise ValueError("rolled back")

    with pytest.raises(ValueError, match="rolled back"):
        await roll_back()
    await commit(db, ("courses", "a"), ("jobs", "j"), ("courses", "a"), ("courses", "b"))
    assert await next_hint(stream) == ("courses", "a")
    assert await next_hint(stream) == ("courses", "b")
    hints.close()
    with pytest.raises(StopAsyncIteration):
        await next_hint(stream)
    assert hints.stream_count == 0
    assert db._listeners == []


async def test_a_slow_subscriber_learns_that_hints_were_lost(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "MAX_PENDING_HINTS", 10)
    hints = HintStreams(db)
    stream = aiter(hints.stream("ada", show_all))
    await next_hint(stream)
    await commit(db, *(("courses", str(index)) for index in range(25)))
    assert await next_hint(stream) == HINTS_LOST
    await commit(db, ("courses", "later"))
    assert await next_hint(stream) == ("courses", "later")


async def test_a_quiet_stream_has_heartbeats_and_ends_in_time(db: Database) -> None:
    hints = HintStreams(db, heartbeat_seconds=0.01, stream_seconds=0.2)
    beats = [hint async for hint in hints.stream("ada", show_all)]
    assert len(beats) > 3
    assert set(beats) == {None}


async def test_the_number_of_streams_is_limited(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "MAX_STREAMS", 1)
    hints = HintStreams(db)
    hints.check_capacity("ada")
    stream = aiter(hints.stream("ada", show_all))
    await next_hint(stream)
    with pytest.raises(TooBusy):
        hints.check_capacity("ben")


async def test_the_number_of_streams_of_one_identity_is_limited(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "MAX_STREAMS_PER_IDENTITY", 1)
    hints = HintStreams(db)
    stream = aiter(hints.stream("ada", show_all))
    await next_hint(stream)
    hints.check_capacity("ben")
    with pytest.raises(TooBusy, match="close one first"):
        hints.check_capacity("ada")
    hints.close()
    with pytest.raises(StopAsyncIteration):
        await next_hint(stream)
    hints.check_capacity("ada")


async def test_a_thousand_streams_get_the_hints_of_many_commits_at_once(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hints = HintStreams(db)
    streams = [aiter(hints.stream(str(index), show_all)) for index in range(120)]
    for stream in streams:
        await next_hint(stream)
    wakes: list[int] = []
    add = hints_module._HintSubscriber.add
    monkeypatch.setattr(
        hints_module._HintSubscriber,
        "add",
        lambda each, batch: (wakes.append(len(batch)), add(each, batch)),
    )
    monkeypatch.setattr(hints_module, "PUBLISH_SECONDS", 0.5)
    await asyncio.gather(*(commit(db, ("courses", str(index))) for index in range(20)))
    assert {await next_hint(stream) for stream in streams} == {("courses", "0")}
    assert len(wakes) == len(streams)
    hints.close()
