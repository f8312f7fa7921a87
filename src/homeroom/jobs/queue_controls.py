"""Pauses and limits of queues, the same in the row and in an engine's store.

Other programs pause a queue there, as Bull Board does in Redis. The store also holds the pause that
both sides had last, so the side that differs from it is the one that was changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from homeroom.db.database import Database, WriteClass
from homeroom.jobs import queue_store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class QueueControls:
    """The pause and the limits of a queue in an engine's own store."""

    paused: bool = False
    agreed_pause: bool = False
    """The pause that the row and the store had when they were last the same."""
    limits: queue_store.SharedLimits = queue_store.NO_SHARED_LIMITS


@dataclass(frozen=True, slots=True)
class PauseChange:
    """The writes that make row and store the same; None: nothing to write."""

    row: bool | None = None
    store: bool | None = None
    agreed: bool | None = None


def merge_pause(row_paused: bool, controls: QueueControls) -> PauseChange:
    """Return what to write so that the side that was changed last decides (pure).

    A store that was emptied has no pause and agreed to none, so a paused row pauses it again.
    """
    if row_paused == controls.paused:
        changed = controls.agreed_pause != row_paused
        return PauseChange(agreed=row_paused if changed else None)
    if controls.agreed_pause == row_paused:
        return PauseChange(row=controls.paused, agreed=controls.paused)
    return PauseChange(store=row_paused, agreed=row_paused)


async def adopt_controls(db: Database, queue: str, controls: QueueControls) -> PauseChange:
    """Take over the changes of the store; return the writes to it."""
    async with db.read() as tx:
        row = await queue_store.find_queue(tx, queue)
    change = merge_pause(row.paused, controls)
    if change.row is None and row.shared_limits == controls.limits:
        return change
    async with db.write(WriteClass.JOBS) as tx:
        if change.row is not None and await queue_store.set_paused(tx, queue, change.row):
            tx.after_commit(lambda: _log_pause(queue, paused=bool(change.row)))
        if await queue_store.set_shared_limits(tx, queue, controls.limits):
            tx.after_commit(lambda: _log_limits(queue, controls.limits))
    return change


def _log_pause(queue: str, *, paused: bool) -> None:
    if paused:
        log.warning("queue_paused_in_redis", queue=queue)
    else:
        log.info("queue_resumed_in_redis", queue=queue)


def _log_limits(queue: str, limits: queue_store.SharedLimits) -> None:
    log.warning(
        "queue_limited_in_redis",
        queue=queue,
        concurrency=limits.concurrency,
        rate_max=limits.rate_max,
        rate_window_seconds=limits.rate_window_seconds,
    )
