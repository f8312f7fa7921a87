"""Times in which no process ran jobs: found by a heartbeat of all schedulers.

A downtime ends when a scheduler writes the heartbeat again. What nothing ran in it was not lost:
jobs wait, and schedules catch up. Features ask for downtimes to be fair to people.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from homeroom.db.tx import Tx
from homeroom.instant import SECOND, to_microseconds, to_rfc3339
from homeroom.jobs.store import downtime_table, uptime_table

log = structlog.get_logger(__name__)
HEARTBEAT_INTERVAL = timedelta(minutes=1)
DOWNTIME_THRESHOLD = timedelta(minutes=10)
"""A shorter silence is a restart, or a database that was busy."""
_CLOCK_TOLERANCE = timedelta(minutes=1)
_ROW = 1


@dataclass(frozen=True, slots=True)
class Downtime:
    """A time in which no process ran jobs. Instants are microseconds UTC."""

    started_at: int
    ended_at: int


@dataclass(frozen=True, slots=True)
class Uptime:
    """The last heartbeat of any scheduler. Instants are microseconds UTC."""

    alive_at: int
    latest_at: int
    """The latest heartbeat ever; later than ``alive_at`` after a clock has gone back."""
    id: int = _ROW


def find_downtime(last: Uptime, now: int) -> Downtime | None:
    """Return the downtime that a heartbeat at ``now`` ends, if there is one.

    A machine without a clock battery starts in the past and leaps ahead: its downtime began at the
    latest heartbeat, not at the one of the wrong clock.
    """
    started_at = last.latest_at if last.alive_at < last.latest_at <= now else last.alive_at
    if now - started_at < to_microseconds(DOWNTIME_THRESHOLD):
        return None
    return Downtime(started_at, now)


async def record_scheduler_heartbeat(tx: Tx) -> Downtime | None:
    """Record that a scheduler is alive; return the downtime that has ended, if any.

    A clock that has gone back was ahead before: what it wrote about the future is corrected.
    """
    await tx.insert(uptime_table, [Uptime(tx.now, tx.now)], on_conflict="ignore")
    last = await tx.fetch_one_into(
        Uptime, f"SELECT * FROM uptime WHERE id = ?{tx.row_lock}", (_ROW,)
    )
    assert last is not None  # inserted above
    if tx.now < last.alive_at - to_microseconds(_CLOCK_TOLERANCE):
        await _follow_clock_back(tx, last.alive_at)
    elif tx.now < last.alive_at:  # another machine's clock is a little ahead
        return None
    await tx.execute(
        "UPDATE uptime SET alive_at = ?, latest_at = ? WHERE id = ?",
        (tx.now, max(tx.now, last.latest_at), _ROW),
    )
    downtime = find_downtime(last, tx.now)
    if downtime is not None:
        await tx.insert(downtime_table, [downtime], on_conflict="update")
        tx.after_commit(partial(_log_downtime, downtime))
    return downtime


async def _follow_clock_back(tx: Tx, ahead_at: int) -> None:
    """Correct what a clock ahead of time wrote; its last beat was at ``ahead_at``.

    Without it a retry, or the lease of a worker that died, would wait until the right time is as
    late as the wrong one was.
    """
    by = ahead_at - tx.now
    log.warning("clock_set_back", seconds=by // SECOND)
    await tx.execute("DELETE FROM downtime WHERE ended_at > ?", (tx.now,))
    await tx.execute(
        "UPDATE job SET run_at = run_at - ? WHERE state = 'delayed' AND run_at > ?", (by, ahead_at)
    )
    await tx.execute(
        "UPDATE job SET lease_until = lease_until - ? WHERE state = 'active' AND lease_until > ?",
        (by, ahead_at),
    )
    await tx.execute(
        "UPDATE worker SET heartbeat_at = ? WHERE heartbeat_at > ?",
        (tx.now, tx.now + to_microseconds(_CLOCK_TOLERANCE)),
    )


def _log_downtime(downtime: Downtime) -> None:
    log.warning(
        "downtime_recorded",
        started_at=to_rfc3339(downtime.started_at),
        ended_at=to_rfc3339(downtime.ended_at),
    )


async def downtimes(tx: Tx, since: int) -> list[Downtime]:
    """Return the downtimes that ended after an instant, the earliest first."""
    return await tx.fetch_into(
        Downtime, "SELECT * FROM downtime WHERE ended_at > ? ORDER BY started_at", (since,)
    )
