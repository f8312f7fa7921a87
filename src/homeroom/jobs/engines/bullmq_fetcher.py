"""Fetch the jobs of a queue with BullMQ's worker and report their ends to Redis."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from bullmq import Job as BullJob
from bullmq import Worker as BullWorker
from bullmq.custom_errors import DelayedError
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from homeroom.cancellation import cancel_and_wait
from homeroom.clock import Clock
from homeroom.errors import Conflict, DatabaseFault, HomeroomError, NotFound, Unavailable
from homeroom.instant import MILLISECOND
from homeroom.jobs.claim import Claim
from homeroom.jobs.engines.payload import (
    JOB_PRUNED,
    REDIS_KEY_PREFIX,
    RedisJob,
    decode_external_job,
    own_row_id,
)
from homeroom.jobs.enqueue import ExternalJobRefused
from homeroom.jobs.job import Job, JobState
from homeroom.jobs.queue_runner import QueueRunner
from homeroom.redaction import redact_json, redact_text

log = structlog.get_logger(__name__)
REDIS_ERRORS = (RedisError, OSError, TimeoutError)
"""Errors that the client raises while Redis cannot do what is requested."""
_MAX_STALLED_COUNT = 1_000_000_000
"""Stalls after which BullMQ would fail a job: never, because the row's lease decides."""
_RETRY_DELAY_MS = 1_000
"""Delay of a job that was fetched while the database did not answer, or another ran alone."""
_MAX_POLL_DELAY_MS = 60_000
"""Longest interval between checks of an external job whose row has not ended."""
_REMOVAL_DELAY_MS = 60_000
"""Delay of a job for the moment between leaving ``active`` and its removal."""
_FETCH_TIMEOUT_SECONDS = 2.0
_LATE_FAILURE_SECONDS = 1.0
"""Time after a recovery in which a failed connection may still be one begun before it."""
_KEEP_EXTERNAL = {"count": 100, "age": 60}
"""Retention of completed external jobs (``age`` in seconds), so that producers can read them."""


class RedisHealth:
    """Availability of Redis for all queues of a process, logged at each change."""

    def __init__(
        self, on_unavailable: Callable[[], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        """Call ``on_unavailable`` after each failed call; ``now`` is in seconds."""
        self._on_unavailable, self._now = on_unavailable, now
        self._recovered_at = -math.inf
        self.is_available = True
        """The state that was logged last."""
        self._refused_write = False

    def record_failure(self, error: BaseException) -> None:
        """Record that a call to Redis failed.

        Just after a recovery a failed connection changes nothing but what ``on_unavailable`` does:
        it may have begun before. If Redis is away again, the next call says so.
        """
        self._on_unavailable()
        refused = isinstance(error, ResponseError)
        if not refused and self._now() - self._recovered_at < _LATE_FAILURE_SECONDS:
            return
        # A full or a read-only Redis still answers reads.
        self._refused_write = refused
        if self.is_available:
            self.is_available = False
            log.warning("redis_unavailable", error=str(error) or type(error).__name__)

    def record_success(self, *, wrote: bool) -> None:
        """Record that Redis answered, and whether it accepted a write."""
        if not self.is_available and (wrote or not self._refused_write):
            self.is_available = True
            self._recovered_at = self._now()
            log.info("redis_recovered")

    @property
    def refuses_writes(self) -> bool:
        """Return whether Redis answers but refused the last write."""
        return not self.is_available and self._refused_write

    @contextmanager
    def track_call(self, *, writes: bool = False) -> Iterator[None]:
        """Raise ``Unavailable`` where a call to Redis in the block fails."""
        try:
            yield
        except REDIS_ERRORS as error:
            self.record_failure(error)
            raise Unavailable(
                f"Redis cannot be used: {str(error) or type(error).__name__}"
            ) from error
        self.record_success(wrote=writes)


@dataclass(frozen=True, slots=True)
class BullmqTimings:
    """Times of BullMQ's worker."""

    lock_ms: int
    stalled_ms: int
    response_timeout_seconds: float = 15.0
    """Longest time for a response; BullMQ's longest blocking call takes 10 s."""

    @classmethod
    def of(cls, lease: timedelta) -> BullmqTimings:
        """Return times at which Redis releases a dead worker's job with the lease."""
        lock = int(lease / timedelta(milliseconds=1))
        return cls(lock, max(lock // 4, 250))


class _BullmqWorker(BullWorker):  # type: ignore[misc]  # published without types
    """BullMQ's worker, with as many fetches as there may be jobs in Redis.

    BullMQ's own fetches once for every free slot whenever a job was added or ended. With 64 slots a
    lone job waited for 63 empty responses: 17 ms until it ran instead of 6. It also does not report
    connection errors while it tries again.
    """

    health: RedisHealth
    queue_runner: QueueRunner
    busy = 0
    """Jobs that were fetched and have not ended. BullMQ's ``jobs`` lacks those that are about to
    begin: counted by it, an empty response that came in between left no fetch beside a long job."""

    def adjust_concurrency(self, has_jobs: bool) -> None:
        """Limit the jobs fetched or run: many while jobs are found, else one more."""
        concurrency = 2 * self.busy + 3 if has_jobs else self.busy + 1
        self.opts["concurrency"] = min(concurrency, self.queue_runner.concurrency)

    async def getNextJob(self, token: str) -> BullJob | None:  # noqa: N802 - BullMQ's name
        """Fetch a job, or wait for one; None if there was none."""
        job = await super().getNextJob(token)
        self.busy += job is not None
        self.adjust_concurrency(job is not None)
        return job

    def end_job(self) -> None:
        """Record that a job that was fetched has ended."""
        self.busy -= 1
        self.adjust_concurrency(has_jobs=True)

    def isConnectionError(self, error: Exception) -> bool:  # noqa: N802 - BullMQ's name
        """Return whether BullMQ shall try again; record that Redis did not answer."""
        is_one = bool(super().isConnectionError(error))
        if is_one:
            self.health.record_failure(error)
        return is_one


class BullmqFetcher:
    """BullMQ's worker for one queue runner."""

    def __init__(
        self,
        queue_runner: QueueRunner,
        health: RedisHealth,
        timings: BullmqTimings,
        keep_failed: int,
        forget: Callable[[str, Iterable[str]], None],
    ) -> None:
        """Prepare a fetcher; ``forget`` is called for waiting rows that left Redis."""
        self._queue_runner, self._health, self._timings = queue_runner, health, timings
        self._keep_failed, self._forget = keep_failed, forget
        self._slots: set[asyncio.Task[Any]] = set()
        self._runs: set[asyncio.Task[None]] = set()

    async def run(self, client: Redis, waiting_client: Redis) -> None:
        """Fetch and run jobs until the runner stops or Redis fails; wait for all runs.

        ``waiting_client`` is for the call that waits for a job.
        """
        worker = _BullmqWorker(self._queue_runner.queue, self._process, self._options(client))
        worker.health, worker.queue_runner = self._health, self._queue_runner
        # The call that waits has a connection of its own, and its name: Node counts one worker by
        # it. BullMQ would give that name to the connections that all queues share.
        worker.backend.blocking_connection.conn = waiting_client
        worker._client_name_set = True
        worker.on("error", self._on_error)
        fetching = asyncio.create_task(worker.run())
        stopping = asyncio.create_task(self._wait_for_stop(worker))
        try:
            await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() and not fetching.done():
                await self._stop_fetching(worker)
            while self._runs:
                await asyncio.wait(self._runs)
        finally:
            await cancel_and_wait(stopping, fetching)
        if not fetching.cancelled() and (error := fetching.exception()) is not None:
            self._on_error(error)

    def _options(self, client: Redis) -> dict[str, Any]:
        return {
            "connection": client,
            "prefix": REDIS_KEY_PREFIX,
            "autorun": False,
            "concurrency": 1,  # adjusted by ``adjust_concurrency``
            "lockDuration": self._timings.lock_ms,
            "stalledInterval": self._timings.stalled_ms,
            "maxStalledCount": _MAX_STALLED_COUNT,
            "drainDelay": 5,
            "runRetryDelay": 500,
        }

    async def _wait_for_stop(self, worker: _BullmqWorker) -> None:
        """Return once the runner stops; apply changes of its concurrency until then."""
        while not self._queue_runner.stopping:
            self._queue_runner.wake.clear()
            worker.adjust_concurrency(has_jobs=True)
            await self._queue_runner.wake.wait()

    async def _stop_fetching(self, worker: _BullmqWorker) -> None:
        """Fetch no more jobs; postpone those that are being fetched at this moment."""
        await worker.pause(do_not_wait_active=True)
        fetches = set(worker.processing) - self._slots
        if not fetches:
            return
        done, _ = await asyncio.wait(fetches, timeout=_FETCH_TIMEOUT_SECONDS)
        for task in done:
            job = None if task.cancelled() or task.exception() else task.result()
            if isinstance(job, BullJob):
                await self._report(self._postpone(job, 0))

    def _on_error(self, error: BaseException, *_: object) -> None:
        if isinstance(error, REDIS_ERRORS):
            self._health.record_failure(error)
        elif "renew lock" in str(error):  # the event loop was blocked; the rows' leases decide
            log.debug("bullmq_lock_lost", queue=self._queue_runner.queue, error=str(error))
        else:
            log.warning("bullmq_failed", queue=self._queue_runner.queue, error=repr(error))

    # One job.

    async def _process(self, job: BullJob, token: str) -> None:
        slot = asyncio.current_task()
        assert slot is not None
        self._slots.add(slot)
        self._health.record_success(wrote=False)
        slot.add_done_callback(self._slots.discard)
        # In a task of its own: BullMQ's worker cancels its processors when its loop fails.
        run = asyncio.create_task(self._handle_safely(job))
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)
        await asyncio.shield(run)
        raise DelayedError

    async def _handle_safely(self, job: BullJob) -> None:
        queue = self._queue_runner.queue
        try:
            await self._handle(job)
        except ExternalJobRefused as error:
            log.warning("external_job_refused", queue=queue, job_id=job.id, reason=error.message)
            await self._report(self._report_failed(job, error.message))
        except HomeroomError as error:  # the database does not answer: try again later
            if not isinstance(error, DatabaseFault):  # its cause is logged once
                log.warning("jobs_claim_failed", queue=queue, error=error.message)
            await self._report(self._postpone(job, _RETRY_DELAY_MS))
        except Exception as error:
            log.exception("bullmq_job_failed", queue=queue, job_id=job.id)
            await self._report(self._report_failed(job, repr(error)))
        finally:
            worker: _BullmqWorker = job.queue
            worker.end_job()

    async def _handle(self, job: BullJob) -> None:
        if self._queue_runner.stopping:
            await self._report(self._postpone(job, 0))
            return
        if self._queue_runner.suspended:  # another process may run it meanwhile
            await self._report(self._postpone(job, _RETRY_DELAY_MS))
            return
        redis_job = RedisJob(job.id, job.name, job.data, job.timestamp, job.priority)
        row_id, claim = await self._claim(redis_job)
        row: Job | None = None
        if claim is not None:
            row = await self._queue_runner.run(claim)
        if row is None:
            row = await self._queue_runner.find_job(row_id)
        if row is None:
            raise ExternalJobRefused(JOB_PRUNED)
        is_external = own_row_id(redis_job) is None
        if row.state is JobState.COMPLETED:
            keep = _KEEP_EXTERNAL if is_external else True
            await self._report(self._report_completed(job, row.result, keep))
        elif row.state is not JobState.FAILED:
            await self._report(
                self._poll_later(job, row) if is_external else self._remove_from_redis(job)
            )
            # A waiting row that could not be claimed was locked by another transaction, or its
            # queue allows no start; the dispatcher finds out which.
            if claim is not None or row.state is JobState.WAITING:
                self._forget(self._queue_runner.queue, [row_id])
        elif claim is None and job.attemptsMade:
            await self._retry_failed(job, row_id)
        else:
            await self._report(self._report_failed(job, row.last_error or "failed"))
            self._forget(self._queue_runner.queue, [row_id])  # a retry may have come meanwhile

    async def _claim(self, redis_job: RedisJob) -> tuple[str, Claim | None]:
        """Claim the row of a job; add that of an external job first."""
        if own_row_id(redis_job) == redis_job.id:
            return redis_job.id, await self._queue_runner.claim_one(redis_job.id)
        external = decode_external_job(self._queue_runner.queue, redis_job)
        return await self._queue_runner.accept_external_job(external)

    async def _retry_failed(self, job: BullJob, row_id: str) -> None:
        """Retry the row of a failed job that a user retried in Redis, as Bull Board does.

        BullMQ counts attempts of a job that was among the failed; a job that came back because its
        worker died has none.
        """
        try:
            await self._queue_runner.retry_failed(row_id)
        except (Conflict, NotFound) as error:
            await self._report(self._report_failed(job, error.message))
            return
        await self._report(self._remove_from_redis(job))
        self._forget(self._queue_runner.queue, [row_id])

    # Reports to Redis. A job whose lock was lost belongs to another worker; the row is the truth.

    async def _report(self, call: Awaitable[Any]) -> None:
        try:
            await call
        except REDIS_ERRORS as error:
            self._health.record_failure(error)
        except Exception as error:  # bullmq raises TypeError for a job without its lock or key
            log.debug("bullmq_report_failed", queue=self._queue_runner.queue, error=str(error))

    async def _report_completed(self, job: BullJob, result: Any, keep: Any) -> None:
        await job.backend.moveToCompleted(
            job, redact_json(result), keep, job.token, fetch_next=False
        )

    async def _report_failed(self, job: BullJob, reason: str) -> None:
        shown = redact_text(reason)
        fields = {"failedReason": shown, "stacktrace": json.dumps([shown])}
        keep = {"count": self._keep_failed}
        await job.backend.moveToFailed(job, shown, keep, job.token, False, fields)

    async def _postpone(self, job: BullJob, delay_ms: int) -> None:
        await job.moveToDelayed(_now_ms() + delay_ms, job.token)

    async def _poll_later(self, job: BullJob, row: Job) -> None:
        """Check an external job again later, so that its producer learns its end.

        Its row is delayed or active elsewhere, or its queue is paused: the interval doubles.
        """
        until_run = row.run_at // MILLISECOND - _now_ms()
        interval = _RETRY_DELAY_MS << min(job.attemptsStarted, 6)
        await self._postpone(job, min(max(until_run, interval), _MAX_POLL_DELAY_MS))

    async def _remove_from_redis(self, job: BullJob) -> None:
        """Remove a job from Redis; its row is dispatched again when it may run."""
        await job.moveToDelayed(_now_ms() + _REMOVAL_DELAY_MS, job.token)
        await job.backend.remove(job.id, False)


def _now_ms() -> int:
    return Clock().now() // MILLISECOND  # the real clock: Redis and Node do not use that of tests
