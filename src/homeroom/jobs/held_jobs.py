"""Jobs that a gate holds, such as a partner that is away, and their release.

The gates belong to other packages; this one knows only their names (``job.held_by``). A gate may
have a second part, as in ``hr/disabled``: its jobs are counted with those of ``hr``, and are
released after ``move_held``.
"""

from __future__ import annotations

from typing import Any

from homeroom.db.tx import Tx
from homeroom.jobs.claim import among_unlocked
from homeroom.jobs.enqueue import JOBS_TOPIC
from homeroom.jobs.job import HOLD_REASONS
from homeroom.jobs.store import placeholders

_HELD = "state = 'delayed' AND held_by = ?"
_REASONS = tuple(sorted(HOLD_REASONS))
_FAILED_BEFORE = f" AND (reason_code IN ({placeholders(len(_REASONS))}) OR started_at < ?)"
"""A job that failed after the gate had opened again keeps its own wait."""


async def count_held(tx: Tx) -> dict[str, int]:
    """Return the number of held jobs by gate, those of its second parts included."""
    rows = await tx.fetch(
        "SELECT held_by, COUNT(*) FROM job WHERE state = 'delayed' AND held_by IS NOT NULL"
        " GROUP BY held_by"
    )
    held: dict[str, int] = {}
    for gate, number in rows:
        name = str(gate).partition("/")[0]
        held[name] = held.get(name, 0) + int(number)
    return held


async def move_held(tx: Tx, gate: str, to: str) -> int:
    """Let another gate hold the jobs of a gate; return their number."""
    return await tx.execute(
        "UPDATE job SET held_by = ? WHERE state = 'delayed' AND held_by = ?", (to, gate)
    )


async def has_held(tx: Tx, gate: str, failed_before: int | None = None) -> bool:
    """Return whether a gate holds jobs; see ``release_held`` for ``failed_before``."""
    where, values = _condition(gate, failed_before)
    return await tx.fetch_one(f"SELECT 1 FROM job WHERE {where} LIMIT 1", values) is not None


async def release_held(tx: Tx, gate: str, limit: int, failed_before: int) -> int:
    """Let the oldest jobs of a gate run now; return their number, at most ``limit``.

    Jobs that failed and wait for a retry are among them if that run began before
    ``failed_before``, the instant (microseconds UTC) at which the gate opened again.
    """
    where, values = _condition(gate, failed_before)
    return await _release(tx, f"{where} ORDER BY seq", values, limit)


async def release_for_probe(tx: Tx, gate: str) -> int:
    """Let one job of a gate run now: the one that has not run for the longest time.

    So one job whose own data fails at the partner cannot be every probe.
    """
    return await _release(tx, f"{_HELD} ORDER BY started_at, seq", (gate,), 1)


def _condition(gate: str, failed_before: int | None) -> tuple[str, tuple[Any, ...]]:
    if failed_before is None:
        return _HELD, (gate,)
    return _HELD + _FAILED_BEFORE, (gate, *_REASONS, failed_before)


async def _release(tx: Tx, where: str, values: tuple[Any, ...], limit: int) -> int:
    select = f"SELECT seq FROM job WHERE {where} LIMIT ?"
    rows = await tx.fetch(
        "UPDATE job SET state = 'waiting', run_at = ?, held_by = NULL"
        f" WHERE {among_unlocked(tx.dialect, select)} AND state = 'delayed'"
        " RETURNING queue",
        (tx.now, *values, limit),
    )
    for (queue,) in set(rows):
        tx.notify(JOBS_TOPIC, queue)
    return len(rows)
