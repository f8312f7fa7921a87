"""Gauges that are read from the database, for ``/metrics`` of every process.

They describe all processes, so a query takes those of one scrape target and sums nothing up.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, pairwise

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from homeroom.activity.obligation_store import count_obligations
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.instant import SECOND
from homeroom.jobs import queue_store, schedule_store
from homeroom.jobs.schedule import iter_slots
from homeroom.jobs.schedule_store import Schedule
from homeroom.notify.suppression import count_suppressions
from homeroom.progress.quarantine import count_quarantined

_SLOTS_OF_INTERVAL = 8
"""Coming slots whose distances are compared: more than a week of a daily cron has."""
Sample = tuple[tuple[str, ...], float]


async def read_database_gauges(db: Database) -> list[Metric]:
    """Return the gauges as they are now, in one snapshot of the database."""
    async with db.read() as tx:
        return [
            *await _queue_gauges(tx),
            *await _worker_gauges(tx),
            *await _schedule_gauges(tx),
            *await _feature_gauges(tx),
        ]


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Iterable[Sample]) -> Metric:
    family = GaugeMetricFamily(f"homeroom_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


async def _queue_gauges(tx: Tx) -> list[Metric]:
    queues = await queue_store.queues(tx)
    oldest = await queue_store.oldest_waiting(tx)
    ages = {name: max(tx.now - since, 0) / SECOND for name, since in oldest.items()}
    return [
        _gauge(
            "queue_oldest_job_age_seconds",
            "Time for which the oldest waiting job is due, 0 for none",
            ("queue",),
            [((queue.name,), ages.get(queue.name, 0.0)) for queue in queues],
        ),
        _gauge(
            "queue_paused",
            "1 for a paused queue",
            ("queue",),
            [((queue.name,), int(queue.paused)) for queue in queues],
        ),
    ]


async def _worker_gauges(tx: Tx) -> list[Metric]:
    workers = await queue_store.workers(tx)
    busy = await queue_store.active_by_worker(tx)
    slots = [(worker.id, queue, n) for worker in workers for queue, n in worker.queues.items()]
    return [
        _gauge(
            "worker_up",
            "1 for a worker whose heartbeat is not older than its lease",
            ("worker",),
            [((worker.id,), int(worker.state == "running")) for worker in workers],
        ),
        _gauge(
            "worker_last_heartbeat_timestamp_seconds",
            "Last heartbeat of a worker in Unix time",
            ("worker",),
            [((worker.id,), worker.heartbeat_at / SECOND) for worker in workers],
        ),
        _gauge(
            "worker_slots",
            "Jobs of a queue that a worker may run at once",
            ("worker", "queue"),
            [((worker, queue), number) for worker, queue, number in slots],
        ),
        _gauge(
            "worker_slots_busy",
            "Jobs of a queue that a worker runs",
            ("worker", "queue"),
            [((worker, queue), busy.get((worker, queue), 0)) for worker, queue, _ in slots],
        ),
    ]


async def _schedule_gauges(tx: Tx) -> list[Metric]:
    schedules = await schedule_store.schedules(tx)
    successes: list[Sample] = []
    for schedule in schedules:
        at = await schedule_store.last_success(tx, schedule.name)
        if at is not None:
            successes.append(((schedule.name,), at / SECOND))
    running = [each for each in schedules if not each.paused and each.next_slot_at is not None]
    return [
        _gauge(
            "schedule_last_success_timestamp_seconds",
            "End of the last job of a slot that was done, in Unix time; none before the first",
            ("schedule",),
            successes,
        ),
        _gauge(
            "schedule_next_run_timestamp_seconds",
            "Next slot of a schedule that is not paused, in Unix time",
            ("schedule",),
            [((each.name,), (each.next_slot_at or 0) / SECOND) for each in running],
        ),
        _gauge(
            "schedule_interval_seconds",
            "Longest time between two of the coming slots of a schedule that is not paused",
            ("schedule",),
            [((each.name,), interval_seconds(each)) for each in running],
        ),
    ]


def interval_seconds(schedule: Schedule) -> float:
    """Return the longest time between two of the next slots, 0 for a single one."""
    slots = iter_slots(schedule.cron, schedule.time_zone, schedule.last_slot_at)
    instants = [slot.at for slot in islice(slots, _SLOTS_OF_INTERVAL)]
    return max((later - earlier for earlier, later in pairwise(instants)), default=0) / SECOND


async def _feature_gauges(tx: Tx) -> list[Metric]:
    suppressed = await count_suppressions(tx)
    quarantined = await count_quarantined(tx)
    return [
        _gauge(
            "obligations",
            "Weekly logs that facilitators owe or owed, by state",
            ("programme", "state"),
            [((programme, state), n) for programme, state, n in await count_obligations(tx)],
        ),
        _gauge(
            "suppressed_addresses",
            "Addresses that no message is sent to, by reason",
            ("reason",),
            [((reason,), number) for reason, number in suppressed.items()],
        ),
        _gauge(
            "quarantined_events",
            "Events that wait for their course, chapter or enrolment, by reason",
            ("reason",),
            [((reason,), number) for reason, number in quarantined.items()],
        ),
    ]
