"""Claim and run the jobs of one queue for a worker."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

import msgspec
import structlog

from homeroom.db.database import Database, WriteClass
from homeroom.db.tx import Tx
from homeroom.errors import Unavailable
from homeroom.instant import SECOND
from homeroom.jobs import job_actions, queue_store, store
from homeroom.jobs.claim import Claim, QueueCapacity
from homeroom.jobs.enqueue import (
    AcceptedJob,
    ExternalJob,
    ExternalJobRefused,
    validate_external_job,
)
from homeroom.jobs.handler import Handler, LeaseLost, Registry, SaveEffect
from homeroom.jobs.job import InvalidJobArgs, Job, JobArgs, JobReason, NewerJobArgs, decode_args
from homeroom.jobs.outcome import Cancel, Done, Fail, Hold, Outcome, Released, Retry, RunEnd, Snooze
from homeroom.jobs.settle import JOB_TOPIC, RunResult, settle
from homeroom.tracing import AttributeValue

log = structlog.get_logger(__name__)
CANCEL_TIMEOUT_SECONDS = 5.0
"""Time that a cancelled handler has to end; after that its run ends without it."""
COMMIT_RETRY_SECONDS = 1.0
"""Pause between the tries to commit a result while the database is away."""
_NEWER_RELEASE_SNOOZE = timedelta(seconds=30)
_OUTCOME_TYPES = (Done, Retry, Snooze, Hold, Fail, Cancel)


@dataclass(frozen=True, slots=True)
class ClaimNext:
    """A request for the next rows of a queue."""

    queue: str
    limit: int


@dataclass(frozen=True, slots=True)
class ClaimOne:
    """A request for one row."""

    queue: str
    job_id: str


@dataclass(frozen=True, slots=True)
class ClaimAlone:
    """A request for one row that has to run alone, if this process holds no job."""

    queue: str
    job_id: str


@dataclass(frozen=True, slots=True)
class AcceptExternalJob:
    """A request for the row of an external job and a claim on it."""

    queue: str
    job: AcceptedJob


CommitClaim = Callable[[ClaimNext | ClaimOne | AcceptExternalJob], Awaitable[Any]]
"""Commits a request together with the results of ended runs, and returns its answer."""
RunClaim = Callable[[Claim, Callable[[], None], bool], Awaitable[Job | None]]


class QueueRunner:
    """The operations that a worker offers an engine for one queue."""

    def __init__(
        self,
        queue: str,
        concurrency: int,
        poll_seconds: float,
        commit: CommitClaim,
        run: RunClaim,
        db: Database,
        registry: Registry,
    ) -> None:
        """Start with the worker's own concurrency, which the queue's row may override."""
        self.queue = queue
        self.stopping = False
        """No job may be started any more; ``wake`` is set when this becomes true."""
        self.suspended = False
        """No job may be claimed for now, because one runs alone in this process."""
        self.wake = asyncio.Event()
        """Set when a job may be ready, a slot is free, or the worker stops."""
        self.idle_seconds = poll_seconds
        """Longest wait before the next claim when no job was found."""
        self._default_concurrency = self._concurrency = concurrency
        self._poll_seconds = poll_seconds
        self._refresh_at = 0.0
        self._commit_request, self._run = commit, run
        self._db, self._registry = db, registry

    @property
    def concurrency(self) -> int:
        """Return how many jobs of the queue may run at once; it may change during a run."""
        return self._concurrency

    def follow_concurrency(self, own: int | None) -> None:
        """Use the concurrency of the queue's row, None: the worker's own."""
        concurrency = self._default_concurrency if own is None else own
        if concurrency != self._concurrency:
            self._concurrency = concurrency
            self.wake.set()

    async def refresh_concurrency(self) -> None:
        """Read the concurrency of the queue's row, once a poll; raise ``Unavailable``.

        For a worker that claims nothing because it has no free slot.
        """
        now = asyncio.get_running_loop().time()
        if now < self._refresh_at:
            return
        self._refresh_at = now + self._poll_seconds
        async with self._db.read() as tx:
            self.follow_concurrency((await queue_store.find_queue(tx, self.queue)).concurrency)

    def close(self) -> None:
        """Start no further job."""
        self.stopping = True
        self.wake.set()

    async def claim(self, limit: int) -> Sequence[Claim]:
        """Claim the next rows, by priority and then by age. Raises ``Unavailable``."""
        if self.suspended:
            return ()
        return await self._commit(ClaimNext(self.queue, limit))

    async def claim_one(self, job_id: str) -> Claim | None:
        """Claim this row if it may run here now; else None, until its next dispatch."""
        claims = await self._commit(ClaimOne(self.queue, job_id))
        return claims[0] if claims else None

    async def find_job(self, job_id: str) -> Job | None:
        """Return the row of a job, None without one. Raises ``Unavailable``."""
        async with self._db.read() as tx:
            return (await store.find(tx, [job_id])).get(job_id)

    async def accept_external_job(self, external: ExternalJob) -> tuple[str, Claim | None]:
        """Add the row of an external job once, and claim it if it may run here now.

        Returns the row's id, which is the kind's natural id where it has one. Raises
        ``ExternalJobRefused`` for a job that is not valid, ``Unavailable``.
        """
        accepted = validate_external_job(self._registry, self.queue, external)
        known = await self.find_job(accepted.id)
        if known is not None and known.kind != external.kind:
            raise ExternalJobRefused(
                f"The id {accepted.id} belongs to a job of the kind {known.kind}."
                " Add the job under another id."
            )
        claims = await self._commit(AcceptExternalJob(self.queue, accepted))
        return accepted.id, claims[0] if claims else None

    async def retry_failed(self, job_id: str) -> None:
        """Retry a failed job, because a user retried it in the engine's own tools.

        Raises ``NotFound``; ``Conflict`` where it has not failed or its body was pruned.
        """
        async with self._db.write(WriteClass.JOBS) as tx:
            await job_actions.retry(tx, self._registry, job_id)
            await store.add_log_line(tx, job_id, "retried in Redis, as Bull Board does")

    async def run(self, claim: Claim, on_handled: Callable[[], None] | None = None) -> Job | None:
        """Run a claimed row to its end; a failure of the job raises nothing.

        ``on_handled`` is called when the handler has ended and its outcome is about to be
        committed: the slot is free by then, and a claim made at once shares that commit. Returns
        the updated job; None where the handler or another worker has settled it.
        """
        return await self._run(claim, on_handled or _no_op, self.stopping)

    async def _commit(self, request: ClaimNext | ClaimOne | AcceptExternalJob) -> list[Claim]:
        claims: list[Claim]
        capacity: QueueCapacity
        claims, capacity = await asyncio.shield(self._commit_request(request))
        self.follow_concurrency(capacity.concurrency)
        self.idle_seconds = self._poll_seconds
        if capacity.window_reset_in is not None:
            self.idle_seconds = min(self._poll_seconds, capacity.window_reset_in / SECOND)
        return claims


def _no_op() -> None:
    """Do nothing: the engine did not ask for a callback."""


class StopReason(Enum):
    """The reason for which the kernel stopped a handler."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LEASE_LOST = "lease_lost"
    SHUTDOWN = "shutdown"


class JobRun:
    """Execute one claimed job; may be cancelled from another task."""

    def __init__(self, db: Database, registry: Registry, claim: Claim) -> None:
        """Prepare the run of a claimed row."""
        self._db, self._registry, self.claim = db, registry, claim
        self.job = claim.job
        self.stop_reason: StopReason | None = None
        self.settled: Outcome | None = None
        """The outcome that the handler has committed itself."""
        self._task: asyncio.Task[Outcome] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def progress(self, value: Any) -> None:
        """Store the progress of the job; raise ``LeaseLost`` if another worker has it."""
        text = msgspec.json.encode(value).decode()
        async with self._db.write(WriteClass.REQUEST) as tx:
            changed = await tx.execute(
                "UPDATE job SET progress = ? WHERE id = ? AND lease_token = ?",
                (text, self.job.id, self.claim.token),
            )
            if not changed:
                raise LeaseLost
            tx.notify(JOB_TOPIC, self.job.id)

    async def log(self, line: str) -> None:
        """Add a line to the job's log."""
        async with self._db.write(WriteClass.REQUEST) as tx:
            await store.add_log_line(tx, self.job.id, line)

    async def settle(self, tx: Tx, outcome: Outcome) -> None:
        """Settle the job in the transaction of its effect; raise ``LeaseLost``."""
        if not isinstance(outcome, _OUTCOME_TYPES):
            raise TypeError(_invalid_outcome_message(outcome))
        result = RunResult(self.job.id, self.claim.token, outcome)
        (job,) = await settle(tx, self._registry, [result])
        if job is None:
            raise LeaseLost

        def committed() -> None:
            self.settled = outcome

        tx.after_commit(committed)

    async def commit(self, save: SaveEffect) -> Outcome:
        """Commit the effect of a call and settle the job; raise ``LeaseLost``.

        The handler's work is done, so that only the end of its lease ends the tries.
        """

        async def save_and_settle(tx: Tx) -> Outcome:
            outcome = await save(tx)
            await self.settle(tx, outcome)
            return outcome

        while True:
            try:
                return await self._db.transact(save_and_settle, WriteClass.EFFECTS)
            except Unavailable:
                if self._timer is not None:
                    self._timer.cancel()
                await asyncio.sleep(COMMIT_RETRY_SECONDS)

    def stop(self, reason: StopReason) -> None:
        """Cancel the handler; the first reason counts."""
        if self.stop_reason is not None or self._task is None or self._ended is None:
            return
        self.stop_reason = reason
        self._task.cancel()
        asyncio.get_running_loop().call_later(CANCEL_TIMEOUT_SECONDS, _set_done, self._ended)

    def release_claim(self) -> RunResult:
        """End the run before it began, because the worker shuts down."""
        return self._result(Released())

    async def handle(self) -> RunResult | None:
        """Run the handler to its end; None if there is nothing to settle."""
        handler = self._registry.get(self.job.kind)
        try:
            arguments = decode_args(handler.args, self.job.payload, self.job.version)
        except NewerJobArgs as error:
            snooze = Snooze(_NEWER_RELEASE_SNOOZE, str(error))
            return self._result(snooze, reason=JobReason.NEWER_RELEASE)
        except InvalidJobArgs as error:
            return self._result(Fail(str(error)), reason=JobReason.UNDECODABLE)
        tracer = self._db.tracer
        if tracer is None:
            await self._run_to_end(handler, arguments)
            return self._task_result(handler)
        attributes: dict[str, AttributeValue] = {
            "messaging.system": "homeroom",
            "messaging.operation.type": "process",
            "messaging.destination.name": self.job.queue,
            "messaging.message.id": self.job.id,
            "homeroom.job.attempt": self.job.attempts,
        }
        name, parent = f"process {self.job.kind}", self.job.trace_context
        with tracer.span(name, "consumer", attributes, parent) as span:
            await self._run_to_end(handler, arguments)
            result = self._task_result(handler)
            end = self.settled if result is None else result.end
            if isinstance(end, Retry | Fail) or end is None:
                span.fail("lease_lost" if end is None else type(end).__name__.lower())
        return result

    async def _run_to_end(self, handler: Handler[Any], arguments: JobArgs) -> None:
        loop = asyncio.get_running_loop()
        self._ended = ended = loop.create_future()
        self._task = task = loop.create_task(_run_handler(handler, self, arguments))
        task.add_done_callback(lambda _: _set_done(ended))
        seconds = handler.args.timeout.total_seconds()
        self._timer = timer = loop.call_later(seconds, self.stop, StopReason.TIMEOUT)
        try:
            await ended
        finally:
            timer.cancel()
        if not task.done():
            log.error("job_cancellation_ignored", job_id=self.job.id, kind=self.job.kind)
            task.add_done_callback(_log_late_error)

    def _task_result(self, handler: Handler[Any]) -> RunResult | None:
        """Return the result of the run after the handler's task ended or was abandoned."""
        task = self._task
        assert task is not None
        if self.settled is not None or self.stop_reason is StopReason.LEASE_LOST:
            if task.done():
                _log_late_error(task)
            return None
        if task.done() and not task.cancelled():
            error = task.exception()
            if error is None:
                return self._returned(task.result())
            if isinstance(error, LeaseLost):
                return None
            if self.stop_reason is None:
                text = "".join(traceback.format_exception(error))
                return self._result(Retry(_describe_error(error)), traceback=text)
        return self._stopped_result(handler)

    def _stopped_result(self, handler: Handler[Any]) -> RunResult:
        if self.stop_reason is StopReason.TIMEOUT:
            seconds = handler.args.timeout.total_seconds()
            return self._result(Retry(f"timed out after {seconds:g} s"), reason=JobReason.TIMED_OUT)
        if self.stop_reason is StopReason.CANCELLED:
            return self._result(Cancel())
        if self.stop_reason is StopReason.SHUTDOWN:
            return self._result(Released())
        return self._result(Retry("the handler raised CancelledError without a request to cancel"))

    def _returned(self, outcome: Any) -> RunResult:
        if not isinstance(outcome, _OUTCOME_TYPES):
            return self._result(Retry(_invalid_outcome_message(outcome)))
        if isinstance(outcome, Done):
            try:
                msgspec.json.encode(outcome.result)
            except (TypeError, ValueError, msgspec.MsgspecError) as error:
                return self._result(Retry(f"the result is not JSON: {error}"))
        return self._result(outcome)

    def _result(
        self, end: RunEnd, *, traceback: str | None = None, reason: JobReason | None = None
    ) -> RunResult:
        return RunResult(self.job.id, self.claim.token, end, traceback, reason=reason)


async def _run_handler(handler: Handler[Any], run: JobRun, arguments: JobArgs) -> Outcome:
    return await handler.run(run, arguments)


def _invalid_outcome_message(outcome: object) -> str:
    return (
        f"the handler returned {type(outcome).__name__}"
        " and not one of Done, Retry, Snooze, Hold, Fail, Cancel"
    )


def _describe_error(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _set_done(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _log_late_error(task: asyncio.Task[Outcome]) -> None:
    """Log a task's error, so that the loop does not report it as unretrieved."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("job_failed_after_end", error=_describe_error(error))
