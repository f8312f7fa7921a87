"""Count what happens, for Prometheus and for the dashboard; one object, no global registry."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.exposition import generate_latest

from homeroom.monitoring.memory import resident_bytes

WINDOW_SECONDS = 60
"""Rates are those of the last minute."""
_COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_BATCH_EVENTS = (1, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000)
JOBS = "homeroom_jobs"
FAULTY = frozenset({"rejected", "conflict", "refused"})
"""Statuses of events that count as errors; ``refused`` is what a 4xx or 5xx turned away."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_KEPT_REQUESTS = 250
"""How many requests of a kind are noted before they are counted, which takes 0.3 ms."""


class Figures(msgspec.Struct, frozen=True):
    """What the short summary is made of; sums, so that those of several processes add up."""

    queued: float
    stored: float
    faulty: float
    seen: float
    commits: float
    commit_seconds: float
    resident_bytes: float
    uptime_seconds: float


class Family(msgspec.Struct, frozen=True):
    """One metric of one process with all its samples."""

    name: str
    text: str
    type: str
    samples: list[tuple[str, dict[str, str], float]]


class Snapshot(msgspec.Struct, frozen=True):
    """All metrics of one process, as another process is given them."""

    process: str
    figures: Figures
    families: list[Family]


class _Families:
    """What ``generate_latest`` asks: the families of several processes, each under one head."""

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> list[Metric]:
        found: dict[str, Metric] = {}
        for snapshot in self._snapshots:
            for family in snapshot.families:
                metric = found.setdefault(
                    family.name, Metric(family.name, family.text, family.type)
                )
                for name, labels, value in family.samples:
                    metric.add_sample(name, {**labels, "process": snapshot.process}, value)
        return list(found.values())


class _Window:
    """Sums per second over the last minute; adding costs an index and an addition."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._second = [0] * WINDOW_SECONDS
        self._sum = [0.0] * WINDOW_SECONDS

    def add(self, amount: float, second: int | None = None) -> None:
        if second is None:
            second = int(self._now())
        index = second % WINDOW_SECONDS
        if self._second[index] != second:
            self._second[index], self._sum[index] = second, 0.0
        self._sum[index] += amount

    def total(self) -> float:
        oldest = int(self._now()) - WINDOW_SECONDS
        return sum(
            amount
            for second, amount in zip(self._second, self._sum, strict=True)
            if second > oldest
        )


class Metrics:
    """All metrics of one process. Every call is cheap enough for the hot path.

    What every request tells (``events`` and ``request``) is noted only, and counted when somebody
    looks, when the second is over, or when there is much of it: with Prometheus's own objects
    called each time, a request took 1.06 of its time before the commit.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Take what tells the seconds that rates are made of."""
        self._now, self.started_at = now, now()
        self.registry = registry = CollectorRegistry()
        self._events = Counter(
            "homeroom_ingest_events",
            "Progress events by what became of them",
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
            "homeroom_job_attempt_seconds", "Time of one attempt", ["kind"], registry=registry
        )
        self._notifications = Counter(
            "homeroom_notifications",
            "Deliveries of messages by the state they came to; repeated: the key was known",
            ["type", "channel", "status"],
            registry=registry,
        )
        self._schedules = Counter(
            "homeroom_schedule_runs",
            "Slots of schedules: ok, late or missed",
            ["schedule", "outcome"],
            registry=registry,
        )
        self._jobs = Gauge(JOBS, "Jobs by queue and state", ["queue", "state"], registry=registry)
        Gauge(
            "homeroom_process_resident_bytes", "Memory of this process", registry=registry
        ).set_function(resident_bytes)
        self._queue_size: Callable[[], int] = lambda: 0
        self._noted_second = 0
        self._noted_events: dict[str, int] = {}
        self._noted_requests: dict[tuple[str, str, int], list[float]] = {}
        self._stored, self._faulty, self._seen = _Window(now), _Window(now), _Window(now)
        self._commits, self._commit_time = _Window(now), _Window(now)

    def watch_queue(self, size: Callable[[], int]) -> None:
        """Take the function that says how many events wait."""
        self._queue_size = size
        self._queue.set_function(size)

    def events(self, status: str, count: int = 1) -> None:
        """Count events: accepted, duplicate, conflict, quarantined, rejected or refused."""
        second = int(self._now())
        if second != self._noted_second:
            self._count_events()
            self._noted_second = second
        self._noted_events[status] = self._noted_events.get(status, 0) + count

    def _count_events(self) -> None:
        for status, count in self._noted_events.items():
            if not count:
                continue
            self._events.labels(status).inc(count)
            self._seen.add(count, self._noted_second)
            if status in FAULTY:
                self._faulty.add(count, self._noted_second)
            elif status == "accepted":
                self._stored.add(count, self._noted_second)
        self._noted_events.clear()

    def commit(self, events: int, seconds: float) -> None:
        """Count one ingest commit."""
        self._commit.observe(seconds)
        self._batch.observe(events)
        self._commits.add(1)
        self._commit_time.add(seconds)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request; ``route`` is a template, so that there are few of them."""
        kind = (method if method in _METHODS else "other", route, status)
        noted = self._noted_requests.setdefault(kind, [])
        noted.append(seconds)
        if len(noted) >= _KEPT_REQUESTS:
            self._count_requests(kind)

    def _count_requests(self, kind: tuple[str, str, int]) -> None:
        method, route, status = kind
        noted = self._noted_requests[kind]
        self._requests.labels(method, route, str(status)).inc(len(noted))
        timer = self._request.labels(route)
        for seconds in noted:
            timer.observe(seconds)
        noted.clear()

    def _count_noted(self) -> None:
        self._count_events()
        for kind in self._noted_requests:
            self._count_requests(kind)

    def attempt(self, kind: str, outcome: str, seconds: float) -> None:
        """Count one ended attempt of a job."""
        self._attempts.labels(kind, outcome).inc()
        self._attempt.labels(kind).observe(seconds)

    def notification(self, type: str, channel: str, status: str, count: int = 1) -> None:
        """Count deliveries that came to a state."""
        self._notifications.labels(type, channel, status).inc(count)

    def schedule(self, name: str, outcome: str) -> None:
        """Count a slot of a schedule."""
        self._schedules.labels(name, outcome).inc()

    def jobs(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Take the number of jobs by queue and state, as the database has them now."""
        self._jobs.clear()
        for queue, states in counts.items():
            for state, count in states.items():
                self._jobs.labels(queue, state).set(count)

    def text(self, process: str | None = None, others: Sequence[Snapshot] = ()) -> bytes:
        """Return all of it in Prometheus's text format.

        One of several processes gives its name and the snapshots of the others. Every sample then
        says of which process it is, but for the jobs, which are counted in the database for all.
        """
        if process is None:
            self._count_noted()
            return generate_latest(self.registry)
        rows = CollectorRegistry()
        rows.register(self._jobs)
        return generate_latest(_Families([self.snapshot(process), *others])) + generate_latest(rows)

    def snapshot(self, process: str) -> Snapshot:
        """Return the metrics of this process for another one; without the jobs."""
        self._count_noted()
        families = [
            Family(
                metric.name,
                metric.documentation,
                metric.type,
                [(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
            )
            for metric in self.registry.collect()
            if metric.name != JOBS
        ]
        return Snapshot(process, self._figures(), families)

    def _figures(self) -> Figures:
        self._count_events()
        return Figures(
            queued=self._queue_size(),
            stored=self._stored.total(),
            faulty=self._faulty.total(),
            seen=self._seen.total(),
            commits=self._commits.total(),
            commit_seconds=self._commit_time.total(),
            resident_bytes=resident_bytes(),
            uptime_seconds=self._now() - self.started_at,
        )

    def summary(self, others: Sequence[Snapshot] = ()) -> dict[str, float]:
        """Return what ``useProgressMetrics`` shows: rates of the last minute, and what is now.

        The figures of other processes are added to those of this one.
        """
        all_of_them = [self._figures(), *(other.figures for other in others)]
        seen = sum(each.seen for each in all_of_them)
        commits = sum(each.commits for each in all_of_them)
        uptime = max(each.uptime_seconds for each in all_of_them)
        span = min(WINDOW_SECONDS, max(1.0, uptime))
        seconds = sum(each.commit_seconds for each in all_of_them)
        memory = sum(each.resident_bytes for each in all_of_them)
        return {
            "queueSize": round(sum(each.queued for each in all_of_them)),
            "eventsPerSecond": round(sum(each.stored for each in all_of_them) / span, 3),
            "errorRate": (
                round(sum(each.faulty for each in all_of_them) / seen, 6) if seen else 0.0
            ),
            "averageProcessingMs": round(seconds / commits * 1_000, 3) if commits else 0.0,
            "memoryMb": round(memory / 1_048_576, 1),
            "uptimeSeconds": round(uptime, 3),
        }
