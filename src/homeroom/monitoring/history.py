"""The history of metrics: the changes of a process's counters by minute.

Counters are read once a minute, and the differences are stored: no event, request or job costs more
than its counter does. Decision 0054 has the figures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from homeroom.instant import SECOND
from homeroom.monitoring.metrics import ERROR_STATUSES, Metrics

HistoryUnit = Literal["count", "seconds", "value"]
HISTORY_METRICS: Mapping[str, HistoryUnit] = {
    "events": "count",
    "event_errors": "count",
    "commits": "seconds",
    "requests": "seconds",
    "request_errors": "count",
    "job_attempts": "seconds",
    "job_completions": "count",
    "job_failures": "count",
    "job_retries": "count",
    "job_waits": "seconds",
    "completions": "count",
    "waiting_jobs": "value",
    "failed_jobs": "value",
    "owed_steps": "value",
    "workers": "value",
}
"""The recorded metrics: counts, durations with their sum, and values that are sampled."""
_FINAL_FAILURES = frozenset({"fail", "exhausted"})


@dataclass(frozen=True, slots=True)
class Measure:
    """The events of a span: their number, their sum, and the highest value.

    The sum of durations is in microseconds.
    """

    count: int = 0
    total: int = 0
    peak: int = 0

    @classmethod
    def sample(cls, value: int) -> Measure:
        """Return a value that was read once."""
        return cls(1, value, value)


@dataclass(frozen=True, slots=True)
class _Source:
    """A sample of the process's metrics that a recorded metric sums up."""

    metric: str
    sample: str
    field: Literal["count", "total"] = "count"
    label: str = ""
    matches: Callable[[str], bool] = lambda _: True


def _duration(metric: str, histogram: str) -> tuple[_Source, _Source]:
    return (
        _Source(metric, f"{histogram}_count"),
        _Source(metric, f"{histogram}_sum", "total"),
    )


_SOURCES = (
    _Source("events", "homeroom_ingest_events_total", "count", "status", "accepted".__eq__),
    _Source(
        "event_errors",
        "homeroom_ingest_events_total",
        "count",
        "status",
        ERROR_STATUSES.__contains__,
    ),
    *_duration("commits", "homeroom_ingest_commit_seconds"),
    *_duration("requests", "homeroom_http_request_seconds"),
    _Source(
        "request_errors",
        "homeroom_http_requests_total",
        "count",
        "status",
        lambda status: status.startswith("5"),
    ),
    *_duration("job_attempts", "homeroom_job_duration_seconds"),
    _Source("job_completions", "homeroom_job_attempts_total", "count", "outcome", "done".__eq__),
    _Source(
        "job_failures",
        "homeroom_job_attempts_total",
        "count",
        "outcome",
        _FINAL_FAILURES.__contains__,
    ),
    _Source("job_retries", "homeroom_job_attempts_total", "count", "outcome", "retry".__eq__),
    *_duration("job_waits", "homeroom_job_wait_seconds"),
)
_SOURCES_BY_SAMPLE: dict[str, list[_Source]] = defaultdict(list)
for _source in _SOURCES:
    _SOURCES_BY_SAMPLE[_source.sample].append(_source)


class HistoryRecorder:
    """The differences of a process's counters since they were last stored."""

    def __init__(self, metrics: Metrics) -> None:
        """Start at the present values of ``metrics``."""
        self._metrics = metrics
        self._stored = self._totals()

    def changes(self) -> tuple[dict[str, Measure], Callable[[], None]]:
        """Return the changes since the last store, and the function that marks them so."""
        totals = self._totals()
        stored = self._stored

        def mark_stored() -> None:
            self._stored = totals

        changed: dict[str, Measure] = {}
        for metric, total in totals.items():
            before = stored.get(metric, Measure())
            measure = Measure(total.count - before.count, total.total - before.total)
            if measure.count or measure.total:
                changed[metric] = measure
        return changed, mark_stored

    def is_idle(self) -> bool:
        """Return whether nothing changed since the last store."""
        return not self.changes()[0]

    def _totals(self) -> dict[str, Measure]:
        sums: dict[tuple[str, str], float] = defaultdict(float)
        self._metrics.flush()
        registry = self._metrics.registry.restricted_registry(_SOURCES_BY_SAMPLE)
        for metric in registry.collect():
            for sample in metric.samples:
                for source in _SOURCES_BY_SAMPLE.get(sample.name, ()):
                    if not source.label or source.matches(sample.labels.get(source.label, "")):
                        sums[source.metric, source.field] += sample.value
        return {
            metric: Measure(
                round(sums[metric, "count"]), round(sums.get((metric, "total"), 0.0) * SECOND)
            )
            for metric, field in list(sums)
            if field == "count"
        }
