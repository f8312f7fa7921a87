"""HTTP route of the history of metrics."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from homeroom.db.database import Database
from homeroom.errors import Invalid
from homeroom.identity import Role
from homeroom.instant import SECOND, from_datetime
from homeroom.monitoring.history import HISTORY_METRICS, HistoryUnit
from homeroom.monitoring.history_store import (
    HOUR_SECONDS,
    MINUTE_SECONDS,
    HistoryPoint,
    list_points,
    span_start,
)
from homeroom.web.identity import Auth
from homeroom.web.model import ResponseModel, Rfc3339Instant, Rfc3339Time

MAX_POINTS = 1_500
"""Points of one metric in an answer: more than a day of minutes or a month of hours."""
_RESOLUTIONS = {"minute": MINUTE_SECONDS, "hour": HOUR_SECONDS}
_DEFAULT_POINTS = {"minute": 60, "hour": 24}


class HistoryPointView(ResponseModel):
    """The record of one span."""

    at: Rfc3339Instant
    """The begin of the span."""
    count: int
    """Number of events or durations; of a value, how often it was sampled."""
    mean: float | None
    """Seconds for a duration; the mean of the samples of a value; null for a count."""
    peak: float | None
    """The highest sample of a value; null for others."""


class HistorySeries(ResponseModel):
    """The points of one metric, the earliest first.

    Spans in which nothing was recorded are left out.
    """

    metric: str
    """Name of the metric."""
    unit: HistoryUnit
    """`count`, `seconds` for durations, or `value` for what is sampled."""
    points: list[HistoryPointView]
    """The spans in which something was recorded."""


class MetricHistory(ResponseModel):
    """The history of some metrics."""

    resolution: Literal["minute", "hour"]
    """The length of each span."""
    resolution_seconds: int
    """The same in seconds."""
    start: Rfc3339Instant
    """The begin of the first span."""
    end: Rfc3339Instant
    """Later spans are not in the answer."""
    series: list[HistorySeries]
    """One entry for each metric that was asked for."""


def router(db: Database, auth: Auth) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["Operations"])
    reader = Depends(auth.require(Role.OPERATOR, Role.VIEWER))

    @routes.get("/api/v1/metrics/history", dependencies=[reader])
    async def get_metrics_history(
        metric: Annotated[
            str, Query(max_length=400, description="One or more of them, separated by commas.")
        ],
        start: Annotated[
            Rfc3339Time | None, Query(alias="from", description="Begin of the first span.")
        ] = None,
        end: Annotated[
            Rfc3339Time | None, Query(alias="to", description="End of the last span.")
        ] = None,
        resolution: Annotated[
            Literal["minute", "hour"], Query(description="Length of a span.")
        ] = "minute",
    ) -> MetricHistory:
        """Return what was recorded of metrics: a day by minute, a month by hour.

        Without `from` it is the last hour by minute, or the last day by hour. The span of `to` is
        not in the answer; without it, the current one is. Spans in which nothing happened are left
        out.
        """
        metrics = _parse_metrics(metric)
        seconds = _RESOLUTIONS[resolution]
        step = seconds * SECOND
        last = db.clock.now() + 1 if end is None else from_datetime(end)
        first = last - _DEFAULT_POINTS[resolution] * step if start is None else from_datetime(start)
        first = span_start(first, seconds)
        if first >= last:
            raise Invalid("`from` must be before `to`.")
        if (last - first) // step > MAX_POINTS:
            raise Invalid(f"At most {MAX_POINTS} spans are returned at once; ask for fewer.")
        async with db.read() as tx:
            points = await list_points(tx, metrics, seconds, first, last)
        return MetricHistory(
            resolution=resolution,
            resolution_seconds=seconds,
            start=first,
            end=last,
            series=_series(metrics, points),
        )

    return routes


def _parse_metrics(text: str) -> list[str]:
    """Return the named metrics, each once; raise ``Invalid`` for an unknown one."""
    metrics = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in metrics:
        if name not in HISTORY_METRICS:
            known = ", ".join(HISTORY_METRICS)
            raise Invalid(f"There is no history of {name!r}. There is one of: {known}.")
    return metrics


def _series(metrics: list[str], points: list[HistoryPoint]) -> list[HistorySeries]:
    by_metric = {
        metric: [_point(HISTORY_METRICS[metric], point) for point in found]
        for metric, found in groupby(points, key=lambda point: point.metric)
    }
    return [
        HistorySeries(metric=metric, unit=HISTORY_METRICS[metric], points=by_metric.get(metric, []))
        for metric in metrics
    ]


def _point(unit: HistoryUnit, point: HistoryPoint) -> HistoryPointView:
    mean = None
    if unit != "count" and point.count:
        mean = point.total / point.count / (SECOND if unit == "seconds" else 1)
    return HistoryPointView(
        at=point.at,
        count=point.count,
        mean=mean,
        peak=point.peak if unit == "value" else None,
    )
