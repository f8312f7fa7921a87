"""Rows of the history of metrics, by minute for a day and by hour for a month."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from homeroom.db.tx import Tx
from homeroom.instant import DAY, SECOND
from homeroom.monitoring.history import Measure
from homeroom.monitoring.tables import METRIC_HISTORY

MINUTE_SECONDS, HOUR_SECONDS = 60, 3_600
RETENTION: Mapping[int, int] = {MINUTE_SECONDS: DAY, HOUR_SECONDS: 31 * DAY}
"""The time for which rows of a resolution are kept, in microseconds."""

_ADD = (
    "INSERT INTO metric_history (resolution, metric, at, count, total, peak)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (resolution, metric, at) DO UPDATE SET"
    " count = metric_history.count + excluded.count,"
    " total = metric_history.total + excluded.total,"
    " peak = CASE WHEN excluded.peak > metric_history.peak THEN excluded.peak"
    " ELSE metric_history.peak END"
)


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """One span of one metric; ``at`` is its begin in microseconds UTC."""

    metric: str
    at: int
    count: int
    total: int
    peak: int


def span_start(at: int, resolution: int) -> int:
    """Return the begin of the span of a resolution in which an instant lies."""
    return at - at % (resolution * SECOND)


async def add_measures(tx: Tx, at: int, measures: Mapping[str, Measure]) -> None:
    """Add what happened at an instant to its minute and its hour.

    Several processes add to the same rows, each what happened in it.
    """
    rows = [
        (resolution, metric, span_start(at, resolution), each.count, each.total, each.peak)
        for resolution in RETENTION
        for metric, each in sorted(measures.items())
    ]
    if rows:
        await tx.executemany(_ADD, rows)


async def prune_history(tx: Tx) -> None:
    """Delete the rows whose retention has ended."""
    for resolution, kept in RETENTION.items():
        await tx.execute(
            "DELETE FROM metric_history WHERE resolution = ? AND at < ?",
            (resolution, tx.now - kept),
        )


async def list_points(
    tx: Tx, metrics: Sequence[str], resolution: int, start: int, end: int
) -> list[HistoryPoint]:
    """Return the points of metrics that begin from ``start`` to before ``end``."""
    history = METRIC_HISTORY.c
    return await tx.fetch_into(
        HistoryPoint,
        select(METRIC_HISTORY)
        .where(
            history.resolution == resolution,
            history.metric.in_(list(metrics)),
            history.at >= start,
            history.at < end,
        )
        .order_by(history.metric, history.at),
    )


async def sum_since(tx: Tx, metrics: Sequence[str], since: int) -> dict[str, int]:
    """Return the counts of metrics by minute since an instant, added up."""
    totals = dict.fromkeys(metrics, 0)
    for point in await list_points(tx, metrics, MINUTE_SECONDS, since, tx.now + 1):
        totals[point.metric] += point.count
    return totals
