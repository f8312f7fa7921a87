"""Prometheus metrics of one process, and their summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from homeroom import __version__
from homeroom.db.tx import CounterKey
from homeroom.monitoring.committed_counters import counter_families
from homeroom.monitoring.memory import resident_bytes
from homeroom.monitoring.metrics_snapshot import (
    MetricsSnapshot,
    SnapshotFamilies,
    SummaryFigures,
    metric_families,
)
from homeroom.monitoring.process_metrics import process_metrics
from homeroom.monitoring.sliding_window import WINDOW_SECONDS, SlidingWindow

_COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_JOB_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3_600)
_DELIVERY_SECONDS = (0.5, 1, 5, 15, 60, 300, 900, 3_600, 21_600, 86_400)
_BATCH_EVENTS = (1, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000)
PARTNER_STATES = ("on", "away", "refused", "disabled")
ERROR_STATUSES = frozenset({"rejected", "conflict", "refused"})
"""Event statuses that count as errors; ``refused`` stands for a 4xx or 5xx response."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_BUFFER_SIZE = 250
"""Requests of a kind that are buffered before they are observed, which takes 0.3 ms."""


class _LateCollector:
    """A Prometheus collector whose source is set later."""

    def __init__(self, collect: Callable[[], Iterable[Metric]] = lambda: ()) -> None:
        self.collect = collect


class Metrics:
    """All metrics of one process. Every call is cheap enough for the hot path.

    ``count_events`` and ``observe_request`` only buffer their values. The buffer is flushed on a
    read, after a second, and when it is full: calling Prometheus's objects each time took 6 %
    more time per request up to the commit.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Use ``now``, in seconds, as the clock of the rates."""
        disable_created: Callable[[], None] = disable_created_metrics  # published without types
        disable_created()  # it is a second series beside each counter
        self._now, self.started_at = now, now()
        self.registry = registry = CollectorRegistry()
        self._events = Counter(
            "homeroom_ingest_events",
            "Progress events by their status",
            ["status"],
            registry=registry,
        )
        self._commit = Histogram(
            "homeroom_ingest_commit_seconds",
            "Time of one ingest commit",
            buckets=_COMMIT_SECONDS,
            registry=registry,
        )
        self._batch = Histogram(
            "homeroom_ingest_batch_events",
            "Events in one ingest commit",
            buckets=_BATCH_EVENTS,
            registry=registry,
        )
        self._queue = Gauge(
            "homeroom_ingest_queue_events", "Events that wait to be committed", registry=registry
        )
        self._queue_by_priority = Gauge(
            "homeroom_ingest_waiting_events",
            "Events that wait to be committed by the priority of their batch",
            ["priority"],
            registry=registry,
        )
        self._too_busy = Counter(
            "homeroom_ingest_too_busy_events",
            "Events that were answered with 429 because too many waited, by priority",
            ["priority"],
            registry=registry,
        )
        self._requests = Counter(
            "homeroom_http_requests",
            "HTTP requests",
            ["method", "route", "status"],
            registry=registry,
        )
        self._request = Histogram(
            "homeroom_http_request_seconds",
            "Time of one HTTP request",
            ["route"],
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self._attempts = Counter(
            "homeroom_job_attempts",
            "Ended attempts of jobs",
            ["kind", "outcome"],
            registry=registry,
        )
        self._attempt = Histogram(
            "homeroom_job_attempt_seconds",
            "Old name of homeroom_job_duration_seconds",
            ["kind"],
            registry=registry,
        )
        self._job_duration = Histogram(
            "homeroom_job_duration_seconds",
            "Time of one attempt of a job",
            ["queue", "kind"],
            buckets=_JOB_SECONDS,
            registry=registry,
        )
        self._job_wait = Histogram(
            "homeroom_job_wait_seconds",
            "Time from when a job was due until its attempt began",
            ["queue", "kind"],
            buckets=_JOB_SECONDS,
            registry=registry,
        )
        self._notifications = Counter(
            "homeroom_notifications",
            "Deliveries of messages by the status they reached; repeated: the key was known",
            ["type", "channel", "status"],
            registry=registry,
        )
        self._mail_notices = Counter(
            "homeroom_mail_notices",
            "Bounces, complaints and confirmations by their source: known, unknown or ignored",
            ["source", "outcome"],
            registry=registry,
        )
        self._delivery = Histogram(
            "homeroom_notification_delivery_seconds",
            "Time from when a message was due until its channel accepted it",
            ["channel"],
            buckets=_DELIVERY_SECONDS,
            registry=registry,
        )
        self._shared = CollectorRegistry()
        """What the database counts for all processes."""
        self._jobs = Gauge(
            "homeroom_jobs", "Jobs by queue and state", ["queue", "state"], registry=self._shared
        )
        self._health = Gauge(
            "homeroom_health",
            "Checks of /readyz: 1 for ok, 0 for degraded or failed",
            ["check"],
            registry=self._shared,
        )
        self._workers = Gauge(
            "homeroom_workers", "Workers by state", ["state"], registry=self._shared
        )
        self._steps = Gauge(
            "homeroom_completion_steps",
            "Steps of completions by status; running ones are waiting",
            ["step", "status"],
            registry=self._shared,
        )
        self._oldest_step = Gauge(
            "homeroom_completion_step_oldest_seconds",
            "Age of the oldest completion whose step is outstanding, 0 for none",
            ["step"],
            registry=self._shared,
        )
        self._partners = Gauge(
            "homeroom_partner_state",
            "1 for the state that a partner is in: on, away, refused or disabled",
            ["partner", "state"],
            registry=self._shared,
        )
        self._held_jobs = Gauge(
            "homeroom_partner_held_jobs",
            "Jobs that wait for a partner",
            ["partner"],
            registry=self._shared,
        )
        self._process_metrics = _LateCollector(process_metrics)
        self._counters = _LateCollector(lambda: counter_families({}))
        self._database_gauges = _LateCollector()
        registry.register(self._process_metrics)
        registry.register(self._counters)
        registry.register(_LateCollector(lambda: [_build_info()]))
        self._shared.register(self._database_gauges)
        self._queue_size: Callable[[], int] = lambda: 0
        self._buffered_second = 0
        self._buffered_events: dict[str, int] = {}
        self._buffered_requests: dict[tuple[str, str, int], list[float]] = {}
        self._stored, self._faulty, self._seen = (
            SlidingWindow(now),
            SlidingWindow(now),
            SlidingWindow(now),
        )
        self._commits, self._commit_time = SlidingWindow(now), SlidingWindow(now)

    def watch_process(self, collect: Callable[[], Iterable[Metric]]) -> None:
        """Use ``collect`` as the source of the metrics of the process and its machine."""
        self._process_metrics.collect = collect

    def watch_counts(self, counts: Mapping[CounterKey, float]) -> None:
        """Report what the transactions of this process count, a mapping that changes."""
        self._counters.collect = lambda: counter_families(counts)

    def watch_queue(
        self, size: Callable[[], int], by_priority: Mapping[str, Callable[[], int]]
    ) -> None:
        """Use ``size`` as the number of events that wait to be committed."""
        self._queue_size = size
        self._queue.set_function(size)
        for priority, size_of_one in by_priority.items():
            self._queue_by_priority.labels(priority).set_function(size_of_one)
            self._too_busy.labels(priority)  # 0 is shown, too

    def count_too_busy(self, priority: str, events: int) -> None:
        """Count events that a full queue refused."""
        self._too_busy.labels(priority).inc(events)

    def count_events(self, status: str, count: int = 1) -> None:
        """Count events: accepted, duplicate, conflict, quarantined, rejected or refused."""
        second = int(self._now())
        if second != self._buffered_second:
            self._flush_events()
            self._buffered_second = second
        self._buffered_events[status] = self._buffered_events.get(status, 0) + count

    def _flush_events(self) -> None:
        for status, count in self._buffered_events.items():
            if not count:
                continue
            self._events.labels(status).inc(count)
            self._seen.add(count, self._buffered_second)
            if status in ERROR_STATUSES:
                self._faulty.add(count, self._buffered_second)
            elif status == "accepted":
                self._stored.add(count, self._buffered_second)
        self._buffered_events.clear()

    def observe_commit(self, events: int, seconds: float) -> None:
        """Record one ingest commit."""
        self._commit.observe(seconds)
        self._batch.observe(events)
        self._commits.add(1)
        self._commit_time.add(seconds)

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record one HTTP request; ``route`` is a path template, so that labels are few."""
        kind = (method if method in _METHODS else "other", route, status)
        durations = self._buffered_requests.setdefault(kind, [])
        durations.append(seconds)
        if len(durations) >= _REQUEST_BUFFER_SIZE:
            self._flush_requests(kind)

    def _flush_requests(self, kind: tuple[str, str, int]) -> None:
        method, route, status = kind
        durations = self._buffered_requests[kind]
        self._requests.labels(method, route, str(status)).inc(len(durations))
        timer = self._request.labels(route)
        for seconds in durations:
            timer.observe(seconds)
        durations.clear()

    def flush(self) -> None:
        """Add what was buffered to the counters of ``registry``."""
        self._flush_events()
        for kind in self._buffered_requests:
            self._flush_requests(kind)

    def observe_attempt(
        self, queue: str, kind: str, outcome: str, seconds: float, wait_seconds: float
    ) -> None:
        """Record one ended attempt of a job, and how long it had waited for its turn."""
        self._attempts.labels(kind, outcome).inc()
        self._attempt.labels(kind).observe(seconds)
        self._job_duration.labels(queue, kind).observe(seconds)
        self._job_wait.labels(queue, kind).observe(wait_seconds)

    def observe_delivery(self, channel: str, seconds: float) -> None:
        """Record the time from when a message was due until it was accepted."""
        self._delivery.labels(channel).observe(seconds)

    def count_deliveries(self, type: str, channel: str, status: str, count: int = 1) -> None:
        """Count deliveries of messages that reached a status."""
        self._notifications.labels(type, channel, status).inc(count)

    def count_mail_notices(self, source: str, outcome: str, count: int) -> None:
        """Count reports about mails by the way they came and whether their mail is known."""
        if count:
            self._mail_notices.labels(source, outcome).inc(count)

    def set_job_counts(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Set the number of jobs by queue and state, as read from the database."""
        self._jobs.clear()
        for queue, states in counts.items():
            for state, count in states.items():
                self._jobs.labels(queue, state).set(count)

    def set_database_gauges(self, families: Sequence[Metric]) -> None:
        """Set what was read from the database; the same in all processes."""
        self._database_gauges.collect = lambda: families

    def set_health(self, checks: Mapping[str, bool]) -> None:
        """Set which checks of ``/readyz`` are ok."""
        self._health.clear()
        for check, is_ok in checks.items():
            self._health.labels(check).set(is_ok)

    def set_worker_counts(self, counts: Mapping[str, int]) -> None:
        """Set the number of workers by state, as read from the database."""
        self._workers.clear()
        for state, count in counts.items():
            self._workers.labels(state).set(count)

    def set_step_counts(
        self, counts: Mapping[str, Mapping[str, int]], oldest_seconds: Mapping[str, float]
    ) -> None:
        """Set the number of steps by name and status, and the age of the oldest."""
        self._steps.clear()
        self._oldest_step.clear()
        for step, statuses in counts.items():
            self._oldest_step.labels(step).set(oldest_seconds.get(step, 0.0))
            for status, count in statuses.items():
                self._steps.labels(step, status).set(count)

    def set_partners(self, partners: Mapping[str, tuple[str, int]]) -> None:
        """Set the state of each partner and the number of jobs that wait for it."""
        for name, (current, held_jobs) in partners.items():
            for state in PARTNER_STATES:
                self._partners.labels(name, state).set(state == current)
            self._held_jobs.labels(name).set(held_jobs)

    def render(self, process: str | None = None, peers: Sequence[MetricsSnapshot] = ()) -> bytes:
        """Return all metrics in Prometheus's text format.

        One of several processes passes its name and the snapshots of its peers. Every sample then
        has the label ``process``, but for what the database counts.
        """
        if process is None:
            self.flush()
            own = generate_latest(self.registry)
        else:
            own = generate_latest(SnapshotFamilies([self.snapshot(process), *peers]))
        return own + generate_latest(self._shared)

    def snapshot(self, process: str) -> MetricsSnapshot:
        """Return the metrics of this process, which jobs and workers are no part of."""
        self.flush()
        return MetricsSnapshot(
            process, self._summary_figures(), metric_families(self.registry.collect())
        )

    def _summary_figures(self) -> SummaryFigures:
        self._flush_events()
        return SummaryFigures(
            queued=self._queue_size(),
            stored=self._stored.total(),
            faulty=self._faulty.total(),
            seen=self._seen.total(),
            commits=self._commits.total(),
            commit_seconds=self._commit_time.total(),
            resident_bytes=resident_bytes(),
            uptime_seconds=self._now() - self.started_at,
        )

    def summary(self, peers: Sequence[MetricsSnapshot] = ()) -> dict[str, float]:
        """Return rates of the last minute and current values, for ``useProgressMetrics``.

        The figures of peer processes are added to those of this one.
        """
        figures = [self._summary_figures(), *(peer.figures for peer in peers)]
        seen = sum(each.seen for each in figures)
        commits = sum(each.commits for each in figures)
        uptime = max(each.uptime_seconds for each in figures)
        span = min(WINDOW_SECONDS, max(1.0, uptime))
        seconds = sum(each.commit_seconds for each in figures)
        memory = sum(each.resident_bytes for each in figures)
        return {
            "queueSize": round(sum(each.queued for each in figures)),
            "eventsPerSecond": round(sum(each.stored for each in figures) / span, 3),
            "errorRate": (round(sum(each.faulty for each in figures) / seen, 6) if seen else 0.0),
            "averageProcessingMs": round(seconds / commits * 1_000, 3) if commits else 0.0,
            "memoryMb": round(memory / 1_048_576, 1),
            "uptimeSeconds": round(uptime, 3),
        }


def _build_info() -> Metric:
    info = GaugeMetricFamily("homeroom_build_info", "1, with the release", labels=["version"])
    info.add_metric([__version__], 1)
    return info
