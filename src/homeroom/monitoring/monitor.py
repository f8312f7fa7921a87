"""Record the history each minute, and evaluate alerts in one process at a time.

Every process adds its own counters to the history. The process that holds the lease also samples
what the database counts, and evaluates alerts. All of it is one write a minute, and an idle process
beside it on its machine writes nothing; between them an evaluation reads, and writes where an alert
changes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from homeroom.db.database import Database, WriteClass
from homeroom.db.tx import Tx
from homeroom.errors import DatabaseFault, HomeroomError, StorageFull, StorageReadOnly
from homeroom.instant import SECOND
from homeroom.monitoring import alert_store, history_store
from homeroom.monitoring.alert_evaluation import Figures
from homeroom.monitoring.alerts import Alerts
from homeroom.monitoring.history import HistoryRecorder, Measure
from homeroom.monitoring.history_store import HOUR_SECONDS, MINUTE_SECONDS, span_start

log = structlog.get_logger(__name__)
EVALUATE_SECONDS = 15.0
SLOWEST_SECONDS = 60.0
_LEAVE_SECONDS = 2.0
"""Longest time for the last transaction of a process that stops."""
COST_FACTOR = 40
"""An evaluation is repeated after 40 times as long as it took: a large database is read rarely."""

ReadReport = Callable[[], Mapping[str, int | None]]
"""Return what a process reports of itself and its machine."""
ReadFigures = Callable[[], Awaitable[Figures]]
ReadSamples = Callable[[Tx], Awaitable[Mapping[str, int]]]
"""Return the values by metric that the history samples."""
CountCompletions = Callable[[Tx, int, int], Awaitable[int]]
"""Return how many completions were recorded from an instant to before another."""


@dataclass(frozen=True, slots=True)
class MonitorSources:
    """The sources of records and figures; ``bootstrap`` builds them."""

    report: ReadReport
    samples: ReadSamples
    completions: CountCompletions
    figures: ReadFigures


class Monitor:
    """The monitoring of one process."""

    def __init__(
        self,
        db: Database,
        process_id: str,
        host: str,
        recorder: HistoryRecorder,
        alerts: Alerts,
        sources: MonitorSources,
        *,
        evaluate_seconds: float = EVALUATE_SECONDS,
    ) -> None:
        """Monitor as the process ``process_id``, unique over all processes."""
        self._db, self._id, self._host = db, process_id, host
        self._recorder, self._alerts, self._sources = recorder, alerts, sources
        self._evaluate_seconds = evaluate_seconds
        self._stopped = asyncio.Event()
        self._observed_from: int | None = None
        """Set while this process holds the lease."""
        self._recorded_at: int | None = None
        self._pruned_at = 0
        self._costs = deque([0.0], maxlen=3)
        """Seconds of the last ticks; the lowest counts, as a machine may be busy for a moment."""

    @property
    def leads(self) -> bool:
        """Return whether this process evaluates alerts."""
        return self._observed_from is not None

    async def run(self) -> None:
        """Record and evaluate until ``stop`` is called; then store what is not stored."""
        while not self._stopped.is_set():
            seconds = await self._tick_safely()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopped.wait()
        with suppress(HomeroomError, TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):  # a database may hang
                await self._leave()

    def stop(self) -> None:
        """End ``run``."""
        self._stopped.set()

    async def _tick_safely(self) -> float:
        """Tick; return the seconds until the next time."""
        started = time.monotonic()
        try:
            await self.tick()
        except HomeroomError as error:
            if not isinstance(error, DatabaseFault):  # its cause is logged once
                log.warning("monitor_failed", error=error.message)
        except Exception:  # a monitor that ends would end the process
            log.exception("monitor_failed")
        self._costs.append(time.monotonic() - started)
        slow = min(COST_FACTOR * min(self._costs), SLOWEST_SECONDS)
        return max(min(self._seconds_to_minute(), max(self._evaluate_seconds, slow)), 0.05)

    def _seconds_to_minute(self) -> float:
        now = self._db.clock.now()
        return (span_start(now, MINUTE_SECONDS) - now) / SECOND + MINUTE_SECONDS

    async def tick(self) -> None:
        """Record if a minute has begun, and evaluate if this process leads.

        Where nothing can be stored, every process evaluates for itself: alerts are held in memory,
        and no lease can be renewed.
        """
        now = self._db.clock.now()
        fault: DatabaseFault | None = None
        if await self._is_record_due(now):
            try:
                await self._record_unless_idle(now)
            except (StorageFull, StorageReadOnly) as error:
                fault = error
        if self._observed_from is not None or fault is not None:
            figures = await self._sources.figures()
            since = now if self._observed_from is None else self._observed_from
            await self._alerts.evaluate(figures, since)
        else:
            self._alerts.release_held()
        if fault is not None:
            raise fault

    async def _is_record_due(self, now: int) -> bool:
        recorded_at = self._recorded_at
        return (
            recorded_at is None
            or abs(now - recorded_at) > alert_store.LEASE
            or span_start(recorded_at, MINUTE_SECONDS) != span_start(now, MINUTE_SECONDS)
            or (not self.leads and await self._is_lease_free())
        )

    async def _is_lease_free(self) -> bool:
        async with self._db.read() as tx:
            lease = await alert_store.read_lease(tx)
        return lease is None or not tx.now < lease.until <= tx.now + alert_store.LEASE

    async def _record_unless_idle(self, now: int) -> None:
        """Record, unless another process of this machine says all that there is.

        That one evaluates with the same disk and the same memory limit, so an idle machine writes
        once a minute, however many processes it has.
        """
        has_news = self._recorded_at is None or bool(self._sources.report().get("stuck"))
        if not self.leads and not has_news and self._recorder.is_idle():
            async with self._db.read() as tx:
                lease = await alert_store.read_lease(tx)
            is_held = lease is not None and tx.now < lease.until <= tx.now + alert_store.LEASE
            if lease is not None and is_held and lease.holder.startswith(f"{self._host}."):
                self._recorded_at = now
                return
        await self.record()

    async def record(self) -> None:
        """Store what happened since the last time, and renew the lease: one transaction."""
        changed, mark_stored = self._recorder.changes()
        report = self._sources.report()
        async with self._db.write(WriteClass.JOBS) as tx:
            await self._add_changes(tx, changed)
            await alert_store.save_process(
                tx, alert_store.ProcessRow(self._id, self._host, tx.now, report)
            )
            lease = await alert_store.renew_lease(tx, self._id)
            if lease is not None:
                await self._add_samples(tx, lease.counted_until)
                if abs(tx.now - self._pruned_at) > HOUR_SECONDS * SECOND:
                    await history_store.prune_history(tx)
                    await alert_store.prune_alerts(tx)
                    self._pruned_at = tx.now
        mark_stored()
        self._recorded_at = tx.now
        self._observed_from = None if lease is None else lease.observed_from

    async def _add_changes(self, tx: Tx, changed: Mapping[str, Measure]) -> None:
        """Add to the minute that has just ended, which the changes are about."""
        since = tx.now if self._recorded_at is None else self._recorded_at
        await history_store.add_measures(tx, min(max(since, 0), tx.now), changed)

    async def _add_samples(self, tx: Tx, counted_until: int) -> None:
        samples = await self._sources.samples(tx)
        measures = {metric: Measure.sample(value) for metric, value in samples.items()}
        await history_store.add_measures(tx, tx.now, measures)
        completed = await self._sources.completions(tx, counted_until, tx.now)
        if completed:
            at = max(counted_until, tx.now - MINUTE_SECONDS * SECOND)
            await history_store.add_measures(tx, at, {"completions": Measure(completed)})

    async def _leave(self) -> None:
        """Store the rest, and let another process evaluate at once."""
        changed, mark_stored = self._recorder.changes()
        async with self._db.write(WriteClass.JOBS) as tx:
            await self._add_changes(tx, changed)
            await alert_store.release_lease(tx, self._id)
        mark_stored()
