"""Counters of committed transactions, and gauges that are read from the database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.kernel import Task

from homeroom.bootstrap.database_metrics import read_database_gauges
from homeroom.db.database import Database
from homeroom.instant import SECOND
from homeroom.jobs import queue_store, schedule_store
from homeroom.jobs.api import enqueue
from homeroom.jobs.store import schedule_slot_table
from homeroom.monitoring.metrics import Metrics

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)
Samples = dict[tuple[str, ...], float]


async def _samples(db: Database) -> dict[str, Samples]:
    metrics = Metrics()
    metrics.watch_counts(db.counts)
    metrics.set_database_gauges(await read_database_gauges(db))
    found: dict[str, Samples] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in sorted(sample.labels))
            found.setdefault(sample.name.removeprefix("homeroom_"), {})[labels] = sample.value
    return found


async def test_what_is_rolled_back_is_not_counted(db: Database) -> None:
    async def roll_back() -> None:
        async with db.write() as tx:
            tx.count("completions", amount=7)
            raise ValueError("rolled back")

    with pytest.raises(ValueError, match="rolled back"):
        await roll_back()
    async with db.write() as tx:
        tx.count("completions", amount=2)
        tx.count("completions")
        tx.count("jobs_failed", "dispatch", "completion.hr", "handler_failed")
    found = await _samples(db)
    assert found["completions_total"] == {(): 3}
    assert found["jobs_failed_total"] == {("handler_failed", "completion.hr", "dispatch"): 1}


async def test_queues_workers_and_schedules_are_read_in_one_snapshot(db: Database) -> None:
    async with db.write() as tx:
        now = tx.now
        await queue_store.record_heartbeat(tx, "mine", "host", 1, {Task.queue: 4}, 30 * SECOND)
        waiting, done, failed = [await enqueue(tx, Task()) for _ in range(3)]
        await tx.execute("UPDATE job SET run_at = ? WHERE id = ?", (now - 90 * SECOND, waiting))
        await tx.execute(
            "UPDATE job SET state = 'completed', finished_at = ? WHERE id = ?", (now - 5, done)
        )
        await tx.execute(
            "UPDATE job SET state = 'failed', finished_at = ? WHERE id = ?", (now, failed)
        )
        active = await enqueue(tx, Task())
        await tx.execute(
            "UPDATE job SET state = 'active', worker = 'mine', lease_until = ? WHERE id = ?",
            (now + SECOND, active),
        )
        await queue_store.pause(tx, Task.queue)
        await schedule_store.declare_schedule(tx, "weekdays", "0 9 * * 1-5", "UTC", Task())
        await schedule_store.declare_schedule(tx, "off", "0 * * * *", "UTC", Task())
        await schedule_store.pause_schedule(tx, "off")
        await tx.insert(
            schedule_slot_table,
            [
                schedule_store.SlotRecord("weekdays", slot, now, "fired", 0, now, job)
                for slot, job in (("1", done), ("2", failed))
            ],
        )
        due = (await schedule_store.get_schedule(tx, "weekdays")).next_slot_at
    found = await _samples(db)
    queue = Task.queue
    assert 90 <= found["queue_oldest_job_age_seconds"].pop((queue,)) < 90 + 60
    assert found["queue_paused"] == {(queue,): 1}
    assert found["worker_up"] == {("mine",): 1}
    assert found["worker_slots"] == {(queue, "mine"): 4}
    assert found["worker_slots_busy"] == {(queue, "mine"): 1}
    assert found["schedule_last_success_timestamp_seconds"] == {
        ("weekdays",): pytest.approx((now - 5) / SECOND)
    }
    assert due is not None
    assert found["schedule_next_run_timestamp_seconds"] == {("weekdays",): due / SECOND}
    weekend = (3 * 24 * HOUR).total_seconds()
    assert found["schedule_interval_seconds"] == {("weekdays",): weekend}
