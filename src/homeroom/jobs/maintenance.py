"""Rescue, promote, announce, reconcile and prune jobs; fire schedules.

Any number of processes may run it at once. Every step is a short transaction that selects what is
still to do, so work that two processes find is done once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import structlog

from homeroom.clock import Clock
from homeroom.db.database import HINT_WILDCARD, Database, WriteClass
from homeroom.db.tx import Tx
from homeroom.errors import DatabaseFault, HomeroomError, Unavailable
from homeroom.instant import SECOND, to_microseconds
from homeroom.jobs import downtime, job_actions, queue_store, schedule_store, slot_firing, store
from homeroom.jobs.claim import among_unlocked
from homeroom.jobs.engine import DispatchingEngine, Engine
from homeroom.jobs.enqueue import DELAYED_TOPIC, JOBS_TOPIC
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import InvalidJobArgs, Job, JobState, decode_args
from homeroom.jobs.outcome import DEATH_WINDOW, LeaseExpired
from homeroom.jobs.settle import OnChangedFailed, RunResult, announce_changes, settle
from homeroom.jobs.store import placeholders

log = structlog.get_logger(__name__)
Value = TypeVar("Value")
OnSlotsMissed = Callable[[Tx], Awaitable[None]]
"""Called in a transaction that records missed slots. It enqueues a job that reports them, so that
messages to many people are written outside the schedule's lock."""
MaintenanceStep = Callable[[], Awaitable[object]]
_MAINTENANCE_BATCH = 500
_TRANSACTIONS_PER_SCHEDULE = 10
"""Most transactions that fire the slots of one schedule before other steps have their turn."""


@dataclass(frozen=True, slots=True)
class MaintenanceIntervals:
    """Intervals of the maintenance steps, and retention periods."""

    tick: timedelta = timedelta(seconds=1)
    prune: timedelta = timedelta(seconds=15)
    reconcile: timedelta = timedelta(seconds=5)
    """Longest time until a job that Redis lost is dispatched again."""
    worker_silence: timedelta = timedelta(minutes=10)
    """Time without a heartbeat after which a worker that is gone is removed from the list."""
    slots_kept: timedelta = schedule_store.SLOT_RETENTION
    generated_ids_kept: timedelta = timedelta(days=7)
    """Retention of ids generated from a number of Redis, which Redis may use again."""


class JobMaintenance:
    """Run the maintenance steps; one in every process that has a worker."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        engine: Engine,
        clock: Clock | None = None,
        intervals: MaintenanceIntervals | None = None,
        *,
        missed: OnSlotsMissed | None = None,
        records_uptime: bool = False,
        release_held: MaintenanceStep | None = None,
    ) -> None:
        """Use the registry and the engine of this process's workers.

        ``records_uptime`` is for schedulers that run all the time: a command that runs some jobs
        itself ends no downtime. ``release_held`` releases jobs whose gates have opened
        (``held_jobs``).
        """
        self._records_uptime, self._heartbeat_at = records_uptime, 0
        self._release_held = release_held
        self._missed = missed
        self._db, self._registry, self._engine = db, registry, engine
        self._clock = clock or db.clock
        self._intervals = intervals or MaintenanceIntervals()
        self._wake = asyncio.Event()
        self._stopping = False
        self._pruned_at: int | None = None
        self._asked_after = 0
        """Sequence number of the last failed job whose feature was asked whether it waits."""
        self._reconciled_at = self._clock.now()

    async def run(self) -> None:
        """Tick until ``stop`` is called; retry while the database does not answer."""
        loop = asyncio.get_running_loop()
        unsubscribe = self._db.subscribe(self._on_notification)
        try:
            while not self._stopping:
                self._wake.clear()
                seconds = self._intervals.tick.total_seconds()
                try:
                    await self._tick(prune=self._is_prune_due())
                    seconds = await self._until_next(seconds)
                except HomeroomError as error:
                    if not isinstance(error, DatabaseFault):  # its cause is logged once
                        log.warning("maintenance_failed", error=error.message)
                timer = loop.call_later(seconds, self._wake.set)
                await self._wake.wait()
                timer.cancel()
        finally:
            unsubscribe()

    def stop(self) -> None:
        """Make ``run`` return after the current tick."""
        self._stopping = True
        self._wake.set()

    async def tick(self) -> None:
        """Run every step once."""
        await self._tick(prune=True)

    async def _tick(self, *, prune: bool) -> None:
        steps: list[MaintenanceStep] = [
            self.record_uptime,  # first: what catches up has to know of the downtime
            self.rescue,
            self.promote,
            self.announce_pending,
            self.fire_schedules,
            self.reconcile,
        ]
        if self._release_held is not None:
            steps.append(self._release_held)
        if prune:
            steps += [self.release_outstanding, self.prune]
        for step in steps:
            try:
                await step()
            except HomeroomError:
                raise
            except Exception:
                log.exception("maintenance_step_failed", step=step.__name__)

    def _on_notification(self, topics: Sequence[tuple[str, str]]) -> None:
        for topic, _ in topics:
            if topic in (DELAYED_TOPIC, schedule_store.SCHEDULES_TOPIC, HINT_WILDCARD):
                self._wake.set()
                return

    def _is_prune_due(self) -> bool:
        last = self._pruned_at
        return last is None or self._clock.now() - last >= to_microseconds(self._intervals.prune)

    async def _until_next(self, seconds: float) -> float:
        """Return the seconds until the next delayed job, at most those of a tick."""
        async with self._db.read() as tx:
            [(run_at,)] = await tx.fetch("SELECT MIN(run_at) FROM job WHERE state = 'delayed'")
        if run_at is None:
            return seconds
        until: int = run_at - self._clock.now()
        return min(max(until / SECOND, 0.0), seconds)

    async def _read(self, read: Callable[[Tx], Awaitable[Value]]) -> Value:
        async with self._db.read() as tx:
            return await read(tx)

    async def record_uptime(self) -> None:
        """Record once a minute that a scheduler is alive, and a downtime."""
        silence = abs(self._clock.now() - self._heartbeat_at)  # the clock may have gone back
        if not self._records_uptime or silence < to_microseconds(downtime.HEARTBEAT_INTERVAL):
            return
        async with self._db.write(WriteClass.JOBS) as tx:
            await downtime.record_scheduler_heartbeat(tx)
        self._heartbeat_at = self._clock.now()

    async def rescue(self) -> int:
        """End the runs whose lease has expired; return their number."""

        async def expired(tx: Tx) -> list[tuple[str, str]]:
            rows = await tx.fetch(
                "SELECT id, lease_token FROM job WHERE state = 'active' AND lease_until < ?"
                " ORDER BY lease_until LIMIT ?",
                (tx.now, _MAINTENANCE_BATCH),
            )
            return [(job_id, token) for job_id, token in rows]

        rescued = 0
        for job_id, token in await self._read(expired):
            try:
                rescued += await self._rescue(job_id, token, announce=True)
            except OnChangedFailed:
                log.exception("rescue_announcement_failed", job_id=job_id)
                rescued += await self._rescue(job_id, token, announce=False)
        return rescued

    async def _rescue(self, job_id: str, token: str, *, announce: bool) -> int:
        async with self._db.write(WriteClass.JOBS) as tx:
            expired = await tx.fetch_one(
                "SELECT alone_from FROM job WHERE id = ? AND lease_token = ? AND lease_until < ?"
                + tx.row_lock,
                (job_id, token, tx.now),
            )
            if expired is None:  # renewed or settled since it was read
                return 0
            end = await _lease_expired(tx, job_id, expired[0])
            result = RunResult(job_id, token, end, announce=announce)
            (job,) = await settle(tx, self._registry, [result])
            if end.isolates:
                await tx.execute("UPDATE job SET alone_from = attempts WHERE id = ?", (job_id,))
        if job is not None:
            log.warning("job_rescued", job_id=job_id, kind=job.kind, state=job.state.value)
        return int(job is not None)

    async def promote(self) -> int:
        """Set delayed jobs that are due to waiting; return their number."""
        if not await self._read(_has_due_jobs):
            return 0
        async with self._db.write(WriteClass.JOBS) as tx:
            due = (
                "SELECT seq FROM job WHERE state = 'delayed' AND run_at <= ?"
                " ORDER BY run_at LIMIT ?"
            )
            rows = await tx.fetch(
                "UPDATE job SET state = 'waiting', held_by = NULL"
                f" WHERE {among_unlocked(tx.dialect, due)} AND state = 'delayed' RETURNING queue",
                (tx.now, 10 * _MAINTENANCE_BATCH),
            )
            for (queue,) in set(rows):
                tx.notify(JOBS_TOPIC, queue)
        return len(rows)

    async def announce_pending(self) -> int:
        """Notify features of changes that were made by programs without their kinds."""
        kinds = self._registry.kinds()

        async def pending(tx: Tx) -> list[str]:
            rows = await tx.fetch(
                "SELECT id FROM job WHERE unannounced = 1"
                f" AND kind IN ({placeholders(len(kinds))}) ORDER BY seq LIMIT ?",
                (*kinds, _MAINTENANCE_BATCH),
            )
            return [job_id for (job_id,) in rows]

        announced = 0
        for job_id in await self._read(pending) if kinds else ():
            try:
                async with self._db.write(WriteClass.JOBS) as tx:
                    claimed = await tx.execute(
                        "UPDATE job SET unannounced = 0 WHERE id = ? AND unannounced = 1", (job_id,)
                    )
                    if claimed:
                        await announce_changes(tx, self._registry, [await store.get(tx, job_id)])
                        announced += 1
            except OnChangedFailed:
                log.exception("job_announcement_failed", job_id=job_id)
        return announced

    async def fire_schedules(self) -> int:
        """Fire the due slots, each once in the database; return the number fired here."""
        kinds = self._registry.kinds()
        fired = 0
        for name in await self._read(lambda tx: schedule_store.due_schedules(tx, kinds)):
            try:
                fired += await self._fire_schedule(name)
            except HomeroomError:
                raise
            except Exception:  # one broken schedule must not block the others
                log.exception("schedule_failed", schedule=name)
        return fired

    async def _fire_schedule(self, name: str) -> int:
        """Fire the due slots of a schedule in short transactions; return their number."""
        fired = 0
        missed: list[schedule_store.SlotRecord] = []
        for _ in range(_TRANSACTIONS_PER_SCHEDULE):
            async with self._db.write(WriteClass.JOBS) as tx:
                slots = await slot_firing.fire_due_slots(tx, self._registry, name)
                if slots.missed and self._missed is not None:
                    await self._missed(tx)
                for slot in slots.records:
                    tx.count("schedule_runs", name, slot.outcome)
            fired += len(slots.records) - len(slots.missed)
            missed += slots.missed
            if not slots.has_more:
                break
        if missed:
            log.warning(
                "schedule_slots_missed",
                schedule=name,
                slots=len(missed),
                first=missed[0].slot,
                last=missed[-1].slot,
            )
        return fired

    async def reconcile(self) -> None:
        """Find the dispatched rows that the engine's own store has lost, if it has one."""
        due = to_microseconds(self._intervals.reconcile)
        engine = self._engine
        if (
            not isinstance(engine, DispatchingEngine)
            or self._clock.now() - self._reconciled_at < due
        ):
            return
        self._reconciled_at = self._clock.now()
        for queue in self._registry.queues():
            try:
                await engine.reconcile(queue)
            except Unavailable:
                return  # the engine has logged it; the rows wait

    async def release_outstanding(self) -> int:
        """Let failed jobs be pruned that nothing waits for any more; return their number.

        Each call asks the features about the next jobs, so all are asked in turn.
        """
        kinds = self._registry.kinds()
        async with self._db.read() as tx:
            failed = await job_actions.list_outstanding(
                tx, kinds, self._asked_after, _MAINTENANCE_BATCH
            )
            released = [job for _, job in failed if not await self._is_outstanding(tx, job)]
        self._asked_after = failed[-1][0] if len(failed) == _MAINTENANCE_BATCH else 0
        if not released:
            return 0
        async with self._db.write(WriteClass.JOBS) as tx:
            await job_actions.release_outstanding(tx, released)
        return len(released)

    async def _is_outstanding(self, tx: Tx, job: Job) -> bool:
        handler = self._registry.get(job.kind)
        if handler.is_outstanding is None:
            return False
        try:
            arguments = decode_args(handler.args, job.payload, job.version)
        except InvalidJobArgs:
            return True  # its feature cannot be asked
        return await handler.is_outstanding(tx, job, arguments)

    async def prune(self) -> int:
        """Delete finished jobs and slots after their retention, and silent workers."""
        self._pruned_at = self._clock.now()
        pruned = 0
        for queue in await self._read(queue_store.queues):
            for state, keep in (
                (JobState.COMPLETED, queue.keep_completed),
                (JobState.FAILED, queue.keep_failed),
            ):
                pruned += await self._prune_queue(queue, state, keep)
        async with self._db.write(WriteClass.JOBS) as tx:
            silence = to_microseconds(self._intervals.worker_silence)
            await queue_store.remove_silent_workers(tx, tx.now - silence)
            before = tx.now - to_microseconds(self._intervals.slots_kept)
            await job_actions.delete_finished_jobs(
                tx, await schedule_store.delete_slots(tx, before)
            )
            await job_actions.delete_generated_ids(
                tx, tx.now - to_microseconds(self._intervals.generated_ids_kept), _MAINTENANCE_BATCH
            )
        return pruned

    async def _prune_queue(
        self, queue: queue_store.QueueSettings, state: JobState, keep: int
    ) -> int:
        pruned = 0
        while await self._read(lambda tx: self._has_prunable(tx, queue, state, keep)):
            async with self._db.write(WriteClass.JOBS) as tx:
                ids = await self._prunable_ids(tx, queue, state, keep, _MAINTENANCE_BATCH)
                pruned += await job_actions.prune(tx, ids)
        return pruned

    async def _has_prunable(
        self, tx: Tx, queue: queue_store.QueueSettings, state: JobState, keep: int
    ) -> bool:
        return bool(await self._prunable_ids(tx, queue, state, keep, 1))

    async def _prunable_ids(
        self, tx: Tx, queue: queue_store.QueueSettings, state: JobState, keep: int, limit: int
    ) -> list[str]:
        before = 0 if queue.keep_age is None else tx.now - queue.keep_age
        return await job_actions.prunable_ids(tx, queue.name, state, keep, before, limit)


async def _lease_expired(tx: Tx, job_id: str, alone_from: int | None) -> LeaseExpired:
    """Return the end of a run whose lease expired, with the deaths that count."""
    condition, value = (
        ("finished_at >= ?", tx.now - to_microseconds(DEATH_WINDOW))
        if alone_from is None
        else ("number > ?", alone_from)
    )
    [(earlier,)] = await tx.fetch(
        f"SELECT COUNT(*) FROM job_attempt WHERE job = ? AND outcome = 'lost' AND {condition}",
        (job_id, value),
    )
    return LeaseExpired(1 + earlier, was_alone=alone_from is not None)


async def _has_due_jobs(tx: Tx) -> bool:
    row = await tx.fetch_one(
        "SELECT 1 FROM job WHERE state = 'delayed' AND run_at <= ? LIMIT 1", (tx.now,)
    )
    return row is not None
