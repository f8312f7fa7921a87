"""What has to be done about jobs though nobody asks: promote, rescue, fire, prune, reconcile.

Any number of processes may run it at once: every step is a short transaction that finds what is
still to do, so a step that two of them take is done once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import structlog

from homeroom.clock import SECOND, Clock, microseconds
from homeroom.db.database import ANYTHING, Database, Lane
from homeroom.db.tx import Tx
from homeroom.errors import HomeroomError, Unavailable
from homeroom.jobs import operate, queue_store, schedule_store, store
from homeroom.jobs.ending import Lost
from homeroom.jobs.engine import DispatchingEngine, Engine
from homeroom.jobs.enqueue import DELAYED_TOPIC, JOBS_TOPIC
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import JobState
from homeroom.jobs.settle import ChangedFailed, Ending, announce, settle
from homeroom.jobs.store import marks

log = structlog.get_logger(__name__)
Value = TypeVar("Value")
Missed = Callable[[Tx, schedule_store.FiredSlot], Awaitable[None]]
"""Told of a slot that came due too long ago, in the transaction that records it."""
Observe = Callable[[str, str], None]
"""Told of every slot: its schedule, and ``ok``, ``late`` or ``missed``."""
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Pace:
    """How often upkeep looks, and how long things are kept."""

    tick: timedelta = timedelta(seconds=1)
    prune: timedelta = timedelta(seconds=15)
    reconcile: timedelta = timedelta(seconds=5)
    """How long a job stays lost that Redis has lost."""
    worker_silence: timedelta = timedelta(minutes=2)
    """A worker without a sign of life for so long is taken off the list."""
    slots_kept: timedelta = timedelta(days=90)
    made_up_kept: timedelta = timedelta(days=7)
    """How long pruned jobs keep an id that stands for a number in Redis, which may come again."""


class Upkeep:
    """Keep the job rows in order; one in every process that works."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        engine: Engine,
        clock: Clock | None = None,
        pace: Pace | None = None,
        *,
        missed: Missed | None = None,
        observe: Observe | None = None,
    ) -> None:
        """Take what the workers of this process have too."""
        self._missed, self._observe = missed, observe
        self._db, self._registry, self._engine = db, registry, engine
        self._clock = clock or db.clock
        self._pace = pace or Pace()
        self._wake = asyncio.Event()
        self._stopping = False
        self._pruned_at: int | None = None
        self._reconciled_at = self._clock.now()

    async def run(self) -> None:
        """Tick until ``stop`` is called; a database that is away is asked again."""
        loop = asyncio.get_running_loop()
        forget = self._db.subscribe(self._heard)
        try:
            while not self._stopping:
                self._wake.clear()
                seconds = self._pace.tick.total_seconds()
                try:
                    await self._tick(prune=self._prune_is_due())
                    seconds = await self._until_next(seconds)
                except HomeroomError as error:
                    log.warning("upkeep_failed", error=error.message)
                timer = loop.call_later(seconds, self._wake.set)
                await self._wake.wait()
                timer.cancel()
        finally:
            forget()

    def stop(self) -> None:
        """Let ``run`` return after the tick at hand."""
        self._stopping = True
        self._wake.set()

    async def tick(self) -> None:
        """Do once everything that there is to do."""
        await self._tick(prune=True)

    async def _tick(self, *, prune: bool) -> None:
        steps: list[Callable[[], Awaitable[object]]] = [
            self.rescue,
            self.promote,
            self.announce_owed,
            self.fire_schedules,
            self.reconcile,
        ]
        if prune:
            steps.append(self.prune)
        for step in steps:
            try:
                await step()
            except HomeroomError:
                raise
            except Exception:
                log.exception("upkeep_step_failed", step=step.__name__)

    def _heard(self, topics: Sequence[tuple[str, str]]) -> None:
        for topic, _ in topics:
            if topic in (DELAYED_TOPIC, schedule_store.SCHEDULES_TOPIC, ANYTHING):
                self._wake.set()
                return

    def _prune_is_due(self) -> bool:
        last = self._pruned_at
        return last is None or self._clock.now() - last >= microseconds(self._pace.prune)

    async def _until_next(self, seconds: float) -> float:
        """Return how long to wait: until the next delayed job, but no longer than a tick."""
        async with self._db.read() as tx:
            row = await tx.fetch_one("SELECT MIN(run_at) FROM job WHERE state = 'delayed'")
        if row is None or row[0] is None:
            return seconds
        until: int = row[0] - self._clock.now()
        return min(max(until / SECOND, 0.0), seconds)

    async def _read(self, ask: Callable[[Tx], Awaitable[Value]]) -> Value:
        async with self._db.read() as tx:
            return await ask(tx)

    async def rescue(self) -> int:
        """End the runs whose lease has ended; return how many there were."""

        async def ended(tx: Tx) -> list[tuple[str, str]]:
            rows = await tx.fetch(
                "SELECT id, lease_token FROM job WHERE state = 'active' AND lease_until < ?"
                " ORDER BY lease_until LIMIT ?",
                (tx.now, _BATCH),
            )
            return [(row[0], row[1]) for row in rows]

        rescued = 0
        for job_id, token in await self._read(ended):
            try:
                rescued += await self._rescue(job_id, token, tell=True)
            except ChangedFailed:
                log.exception("rescue_not_announced", job=job_id)
                rescued += await self._rescue(job_id, token, tell=False)
        return rescued

    async def _rescue(self, job_id: str, token: str, *, tell: bool) -> int:
        async with self._db.write(Lane.JOBS) as tx:
            row = await tx.fetch_one(
                "SELECT COUNT(*) FROM job_attempt WHERE job = ? AND outcome = 'lost'", (job_id,)
            )
            still = await tx.fetch_one(
                "SELECT 1 FROM job WHERE id = ? AND lease_token = ? AND lease_until < ?"
                + tx.row_lock,
                (job_id, token, tx.now),
            )
            if still is None:  # renewed or settled since it was read
                return 0
            ending = Ending(job_id, token, Lost(1 + (row[0] if row else 0)), announce=tell)
            (job,) = await settle(tx, self._registry, [ending])
        if job is not None:
            log.warning("job_rescued", job=job_id, kind=job.kind, state=job.state.value)
        return int(job is not None)

    async def promote(self) -> int:
        """Let delayed jobs wait whose time has come; return how many there were."""
        if not await self._read(_has_due):
            return 0
        async with self._db.write(Lane.JOBS) as tx:
            skip = f"{tx.row_lock} SKIP LOCKED" if tx.row_lock else ""  # another upkeep has them
            rows = await tx.fetch(
                "UPDATE job SET state = 'waiting' WHERE seq IN (SELECT seq FROM job"
                f" WHERE state = 'delayed' AND run_at <= ? ORDER BY run_at LIMIT ?{skip})"
                " AND state = 'delayed' RETURNING queue",
                (tx.now, 10 * _BATCH),
            )
            for queue in {row[0] for row in rows}:
                tx.notify(JOBS_TOPIC, queue)
        return len(rows)

    async def announce_owed(self) -> int:
        """Tell features of changes that were made where their kind is not known."""
        kinds = self._registry.kinds()

        async def owed(tx: Tx) -> list[str]:
            rows = await tx.fetch(
                "SELECT id FROM job WHERE unannounced = 1"
                f" AND kind IN ({marks(len(kinds))}) ORDER BY seq LIMIT ?",
                (*kinds, _BATCH),
            )
            return [row[0] for row in rows]

        told = 0
        for job_id in await self._read(owed) if kinds else ():
            try:
                async with self._db.write(Lane.JOBS) as tx:
                    claimed = await tx.execute(
                        "UPDATE job SET unannounced = 0 WHERE id = ? AND unannounced = 1", (job_id,)
                    )
                    if claimed:
                        await announce(tx, self._registry, [await store.get(tx, job_id)])
                        told += 1
            except ChangedFailed:
                log.exception("job_not_announced", job=job_id)
        return told

    async def fire_schedules(self) -> int:
        """Fire the slots that are due, each once in the database; return how many here."""
        kinds = self._registry.kinds()
        fired = 0
        for name in await self._read(lambda tx: schedule_store.due_schedules(tx, kinds)):
            try:
                async with self._db.write(Lane.JOBS) as tx:
                    slots = await schedule_store.fire(tx, self._registry, name)
                    for slot in slots:
                        if slot.state == "missed" and self._missed is not None:
                            await self._missed(tx, slot)
            except HomeroomError:
                raise
            except Exception:  # one broken schedule must not hold up the others
                log.exception("schedule_failed", schedule=name)
                continue
            fired += sum(slot.state == "fired" for slot in slots)
            for slot in slots:
                if slot.state == "missed":
                    log.warning("schedule_slot_missed", schedule=name, slot=slot.slot)
                if self._observe is not None:
                    self._observe(name, slot.outcome)
        return fired

    async def reconcile(self) -> None:
        """Find out which dispatched rows the engine's own store has lost, if it has one."""
        due = microseconds(self._pace.reconcile)
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
                return  # the engine has said so; the rows wait

    async def prune(self) -> int:
        """Drop what is kept no longer: jobs by each queue's settings, slots, silent workers."""
        self._pruned_at = self._clock.now()
        pruned = 0
        for queue in await self._read(queue_store.queues):
            for state, keep in (
                (JobState.COMPLETED, queue.keep_completed),
                (JobState.FAILED, queue.keep_failed),
            ):
                pruned += await self._prune_queue(queue, state, keep)
        async with self._db.write(Lane.JOBS) as tx:
            silence = microseconds(self._pace.worker_silence)
            await queue_store.forget_silent_workers(tx, tx.now - silence)
            before = tx.now - microseconds(self._pace.slots_kept)
            await operate.forget(tx, await schedule_store.forget_slots(tx, before))
            await operate.forget_made_up(tx, tx.now - microseconds(self._pace.made_up_kept), _BATCH)
        return pruned

    async def _prune_queue(self, queue: queue_store.Queue, state: JobState, keep: int) -> int:
        pruned = 0
        while await self._read(lambda tx: self._has_outlived(tx, queue, state, keep)):
            async with self._db.write(Lane.JOBS) as tx:
                ids = await self._outlived(tx, queue, state, keep, _BATCH)
                pruned += await operate.prune(tx, ids)
        return pruned

    async def _has_outlived(
        self, tx: Tx, queue: queue_store.Queue, state: JobState, keep: int
    ) -> bool:
        return bool(await self._outlived(tx, queue, state, keep, 1))

    async def _outlived(
        self, tx: Tx, queue: queue_store.Queue, state: JobState, keep: int, limit: int
    ) -> list[str]:
        before = 0 if queue.keep_age is None else tx.now - queue.keep_age
        return await operate.outlived(tx, queue.name, state, keep, before, limit)


async def _has_due(tx: Tx) -> bool:
    row = await tx.fetch_one(
        "SELECT 1 FROM job WHERE state = 'delayed' AND run_at <= ? LIMIT 1", (tx.now,)
    )
    return row is not None
