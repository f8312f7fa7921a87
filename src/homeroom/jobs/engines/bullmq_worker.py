"""Fetching jobs of one queue by BullMQ's worker, and telling Redis what became of each.

BullMQ only says whose turn it is. Whatever its worker would decide on its own (retries, backoff,
failing a job that stalled) is kept from it: the processor always ends by ``DelayedError``, after it
has told Redis itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from bullmq import Job as BullJob
from bullmq import Worker as BullWorker
from bullmq.custom_errors import DelayedError
from redis.asyncio import Redis

from homeroom.clock import MILLISECOND, Clock
from homeroom.errors import Conflict, HomeroomError, NotFound
from homeroom.jobs.claim import Claim
from homeroom.jobs.engine import Desk
from homeroom.jobs.engines.envelope import PREFIX, Letter, named_row, open_offer
from homeroom.jobs.engines.link import AWAY, Link
from homeroom.jobs.job import Job, JobState
from homeroom.jobs.offer import Refused
from homeroom.jobs.redact import redact_text
from homeroom.tasks import cancel

log = structlog.get_logger(__name__)
_NEVER = 1_000_000_000
"""How often a job may stall before BullMQ fails it: the row's lease decides that."""
_AGAIN_MS = 1_000
"""When a job is looked at again that the database could not be asked about."""
_LOOK_AGAIN_MS = 60_000
"""How long another program's job is left alone at most while its row has not ended."""
_ASIDE_MS = 60_000
"""Where a job is for the moment between leaving ``active`` and being removed."""
_FETCH_PATIENCE_SECONDS = 2.0
_KEEP_FOREIGN = {"count": 100, "age": 60}
"""Completed jobs of Node are kept so long, in seconds, that their producers can ask about them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of BullMQ's worker."""

    lock_ms: int
    stalled_ms: int
    answer_seconds: float = 15.0
    """How long an answer may take; BullMQ's longest blocking call takes ten."""

    @classmethod
    def of(cls, lease: timedelta) -> Pace:
        """Return times at which Redis gives up a dead worker about when the row does."""
        lock = int(lease / timedelta(milliseconds=1))
        return cls(lock, max(lock // 4, 250))


class _Worker(BullWorker):  # type: ignore[misc]  # published without types
    """BullMQ's worker, which asks Redis for about as many jobs as it may find there.

    By itself it asks once for every free slot whenever a job has come or ended: with 64 slots a
    lone job waited for 63 answers that there is nothing, 17 ms instead of 6 until it ran. Errors of
    its connection it keeps to itself while it tries again.
    """

    link: Link
    desk: Desk

    def make_room(self, found: bool) -> None:
        """Say how many may be fetched or run: ever more while there are any, and one to wait."""
        busy = len(self.jobs)
        wanted = 2 * busy + 3 if found else busy + 1
        self.opts["concurrency"] = min(wanted, self.desk.concurrency)

    async def getNextJob(self, token: str) -> BullJob | None:  # noqa: N802 - BullMQ's name
        """Fetch a job, or wait for one; None if there was none to be had."""
        job = await super().getNextJob(token)
        self.make_room(job is not None)
        return job

    def isConnectionError(self, error: Exception) -> bool:  # noqa: N802 - BullMQ's name
        """Say whether BullMQ is to try again; note that Redis did not answer."""
        is_one = bool(super().isConnectionError(error))
        if is_one:
            self.link.lost(error)
        return is_one


class Fetcher:
    """BullMQ's worker at one desk."""

    def __init__(
        self,
        desk: Desk,
        link: Link,
        pace: Pace,
        keep_failed: int,
        forget: Callable[[str, Iterable[str]], None],
    ) -> None:
        """Take the desk, and whom to tell that a row is waiting and not in Redis any more."""
        self._desk, self._link, self._pace = desk, link, pace
        self._keep_failed, self._forget = keep_failed, forget
        self._slots: set[asyncio.Task[Any]] = set()
        self._runs: set[asyncio.Task[None]] = set()

    async def run(self, client: Redis) -> None:
        """Fetch and run until the desk stops, or until Redis is away; wait for what runs."""
        worker = _Worker(self._desk.queue, self._process, self._options(client))
        worker.link, worker.desk = self._link, self._desk
        worker.on("error", self._failed)
        fetching = asyncio.create_task(worker.run())
        stopping = asyncio.create_task(self._stopped(worker))
        try:
            await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() and not fetching.done():
                await self._end(worker)
            while self._runs:
                await asyncio.wait(self._runs)
        finally:
            await cancel(stopping, fetching)
        if not fetching.cancelled() and (error := fetching.exception()) is not None:
            self._failed(error)

    def _options(self, client: Redis) -> dict[str, Any]:
        return {
            "connection": client,
            "prefix": PREFIX,
            "autorun": False,
            "concurrency": 1,  # ``make_room`` keeps it
            "lockDuration": self._pace.lock_ms,
            "stalledInterval": self._pace.stalled_ms,
            "maxStalledCount": _NEVER,
            "drainDelay": 5,
            "runRetryDelay": 500,
        }

    async def _stopped(self, worker: _Worker) -> None:
        """Return once the desk stops; keep the number of slots as the queue's row says."""
        while not self._desk.stopping:
            self._desk.wake.clear()
            worker.make_room(found=True)
            await self._desk.wake.wait()

    async def _end(self, worker: _Worker) -> None:
        """Fetch no more; give back what was fetched at this very moment."""
        await worker.pause(do_not_wait_active=True)
        fetches = set(worker.processing) - self._slots
        if not fetches:
            return
        done, _ = await asyncio.wait(fetches, timeout=_FETCH_PATIENCE_SECONDS)
        for task in done:
            found = None if task.cancelled() or task.exception() else task.result()
            if isinstance(found, BullJob):
                await self._tell(self._put_back(found, 0))

    def _failed(self, error: BaseException, *_: object) -> None:
        if isinstance(error, AWAY):
            self._link.lost(error)
        elif "renew lock" in str(error):  # a worker that stood still; its rows' leases decide
            log.debug("bullmq_lock_lost", queue=self._desk.queue, error=str(error))
        else:
            log.warning("bullmq_error", queue=self._desk.queue, error=repr(error))

    # One job.

    async def _process(self, job: BullJob, token: str) -> None:
        slot = asyncio.current_task()
        assert slot is not None
        self._slots.add(slot)
        self._link.answered(wrote=False)
        slot.add_done_callback(self._slots.discard)
        # In a task of its own: BullMQ's worker cancels its processors when its loop fails.
        run = asyncio.create_task(self._work(job))
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)
        await asyncio.shield(run)
        raise DelayedError

    async def _work(self, job: BullJob) -> None:
        try:
            await self._handle(job)
        except Refused as error:
            log.warning(
                "shared_job_refused", queue=self._desk.queue, job=job.id, reason=error.message
            )
            await self._tell(self._fail(job, error.message))
        except HomeroomError as error:  # the database is away; it is asked again
            log.warning("jobs_claim_failed", queue=self._desk.queue, error=error.message)
            await self._tell(self._put_back(job, _AGAIN_MS))
        except Exception as error:
            log.exception("bullmq_job_failed", queue=self._desk.queue, job=job.id)
            await self._tell(self._fail(job, repr(error)))
        finally:
            job.queue.make_room(found=True)

    async def _handle(self, job: BullJob) -> None:
        if self._desk.stopping:
            await self._tell(self._put_back(job, 0))
            return
        letter = Letter(job.id, job.name, job.data, job.timestamp, job.priority)
        foreign = named_row(letter) is None
        row_id, claim = await self._claim(letter)
        row: Job | None = None
        if claim is not None:
            row = await self._desk.run(claim)
        if row is None:
            row = await self._desk.look(row_id)
        if row is None:
            raise Refused("Homeroom does not keep this job any longer")
        if row.state is JobState.COMPLETED:
            keep = _KEEP_FOREIGN if foreign else True
            await self._tell(self._complete(job, row.result, keep))
        elif row.state is not JobState.FAILED:
            await self._tell(self._follow(job, row) if foreign else self._drop(job))
            # One that waits and was not to be had was held by another commit for a moment, or its
            # queue lets nothing through; the dispatcher knows which.
            if claim is not None or row.state is JobState.WAITING:
                self._forget(self._desk.queue, [row_id])
        elif claim is None and job.attemptsMade:
            await self._revive(job, row_id)
        else:
            await self._tell(self._fail(job, row.last_error or "failed"))
            self._forget(self._desk.queue, [row_id])  # it may have been retried meanwhile

    async def _claim(self, letter: Letter) -> tuple[str, Claim | None]:
        """Take the row of one of our own jobs, or make one of somebody else's and take that."""
        if named_row(letter) == letter.id:
            return letter.id, await self._desk.claim_one(letter.id)
        return await self._desk.accept(open_offer(self._desk.queue, letter))

    async def _revive(self, job: BullJob, row_id: str) -> None:
        """Do what somebody wants who has retried a failed job in Redis, as Bull Board does.

        A job that BullMQ counts attempts of has been among the failed; one that only its worker's
        death has brought back has none.
        """
        try:
            await self._desk.revive(row_id)
        except (Conflict, NotFound) as error:
            await self._tell(self._fail(job, error.message))
            return
        await self._tell(self._drop(job))
        self._forget(self._desk.queue, [row_id])

    # What Redis is told. A job whose lock is lost is somebody else's; the row has what matters.

    async def _tell(self, telling: Any) -> None:
        try:
            await telling
        except AWAY as error:
            self._link.lost(error)
        except Exception as error:  # bullmq raises TypeError for a job without its lock or key
            log.debug("bullmq_not_told", queue=self._desk.queue, error=str(error))

    async def _complete(self, job: BullJob, result: Any, keep: Any) -> None:
        await job.backend.moveToCompleted(job, result, keep, job.token, fetch_next=False)

    async def _fail(self, job: BullJob, reason: str) -> None:
        shown = redact_text(reason)
        fields = {"failedReason": shown, "stacktrace": json.dumps([shown])}
        keep = {"count": self._keep_failed}
        await job.backend.moveToFailed(job, shown, keep, job.token, False, fields)

    async def _put_back(self, job: BullJob, delay_ms: int) -> None:
        await job.moveToDelayed(_now_ms() + delay_ms, job.token)

    async def _follow(self, job: BullJob, row: Job) -> None:
        """Look at another program's job again later: whoever waits for it is told its end.

        Its row is delayed, or worked elsewhere, or its queue is paused; so look ever less often.
        """
        until_run = row.run_at // MILLISECOND - _now_ms()
        patience = _AGAIN_MS << min(job.attemptsStarted, 6)
        await self._put_back(job, min(max(until_run, patience), _LOOK_AGAIN_MS))

    async def _drop(self, job: BullJob) -> None:
        """Take a job out of Redis; its row waits for its time, and is dispatched anew."""
        await job.moveToDelayed(_now_ms() + _ASIDE_MS, job.token)
        await job.backend.remove(job.id, False)


def _now_ms() -> int:
    return Clock().now() // MILLISECOND  # Redis and Node know no clock that tests have moved
