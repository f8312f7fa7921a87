"""One run of a job: its handler in a task of its own, what it may do, and why it was stopped."""

from __future__ import annotations

import asyncio
import traceback
from datetime import timedelta
from enum import Enum
from typing import Any

import msgspec
import structlog

from homeroom.db.database import Database, Lane
from homeroom.db.tx import Tx
from homeroom.jobs import store
from homeroom.jobs.args import FromTheFuture, JobArgs, Undecodable, decode
from homeroom.jobs.claim import Claim
from homeroom.jobs.ending import Ended, HandBack
from homeroom.jobs.handler import Handler, LeaseLost, Registry
from homeroom.jobs.outcome import Cancel, Done, Fail, Outcome, Retry, Snooze
from homeroom.jobs.settle import JOB_TOPIC, Ending, settle

log = structlog.get_logger(__name__)
STOP_PATIENCE_SECONDS = 5.0
"""A handler that ignores its cancellation for so long is left behind and its run ended."""
_NEWER_RELEASE_WAIT = timedelta(seconds=30)
_OUTCOMES = (Done, Retry, Snooze, Fail, Cancel)


class Stop(Enum):
    """Why the kernel stopped a handler."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LEASE_LOST = "lease_lost"
    SHUTDOWN = "shutdown"


class Run:
    """The ``JobContext`` of one run, and the hand that can stop it."""

    def __init__(self, db: Database, registry: Registry, claim: Claim) -> None:
        """Take the claimed row."""
        self._db, self._registry, self.claim = db, registry, claim
        self.job = claim.job
        self.stopped: Stop | None = None
        self.settled: Outcome | None = None
        """The outcome that the handler has committed itself."""
        self._task: asyncio.Task[Outcome] | None = None
        self._ended: asyncio.Future[None] | None = None

    async def progress(self, value: Any) -> None:
        """Store how far the job is; raise ``LeaseLost`` if another worker has it."""
        text = msgspec.json.encode(value).decode()
        async with self._db.write(Lane.REQUEST) as tx:
            changed = await tx.execute(
                "UPDATE job SET progress = ? WHERE id = ? AND lease_token = ?",
                (text, self.job.id, self.claim.token),
            )
            if not changed:
                raise LeaseLost
            tx.notify(JOB_TOPIC, self.job.id)

    async def log(self, line: str) -> None:
        """Add a line to the job's log."""
        async with self._db.write(Lane.REQUEST) as tx:
            await store.add_log(tx, self.job.id, line)

    async def settle(self, tx: Tx, outcome: Outcome) -> None:
        """Settle the job in the transaction of its effect; raise ``LeaseLost``."""
        if not isinstance(outcome, _OUTCOMES):
            raise TypeError(_not_an_outcome(outcome))
        ending = Ending(self.job.id, self.claim.token, outcome)
        (job,) = await settle(tx, self._registry, [ending])
        if job is None:
            raise LeaseLost

        def committed() -> None:
            self.settled = outcome

        tx.after_commit(committed)

    def stop(self, why: Stop) -> None:
        """Cancel the handler; the first reason counts."""
        if self.stopped is not None or self._task is None or self._ended is None:
            return
        self.stopped = why
        self._task.cancel()
        asyncio.get_running_loop().call_later(STOP_PATIENCE_SECONDS, _finish, self._ended)

    def hand_back(self) -> Ending:
        """End the run before it began: the worker stops."""
        return self._end(HandBack())

    async def handle(self) -> Ending | None:
        """Run the handler to its end; None if there is nothing to settle."""
        handler = self._registry.get(self.job.kind)
        try:
            arguments = decode(handler.args, self.job.payload, self.job.version)
        except FromTheFuture as error:
            return self._end(Snooze(_NEWER_RELEASE_WAIT, str(error)))
        except Undecodable as error:
            return self._end(Fail(str(error)))
        await self._watch(handler, arguments)
        return self._ending(handler)

    async def _watch(self, handler: Handler[Any], arguments: JobArgs) -> None:
        loop = asyncio.get_running_loop()
        self._ended = ended = loop.create_future()
        self._task = task = loop.create_task(_outcome_of(handler, self, arguments))
        task.add_done_callback(lambda _: _finish(ended))
        seconds = handler.args.timeout.total_seconds()
        timer = loop.call_later(seconds, self.stop, Stop.TIMEOUT)
        try:
            await ended
        finally:
            timer.cancel()
        if not task.done():
            log.error("job_ignores_cancellation", job=self.job.id, kind=self.job.kind)
            task.add_done_callback(_forget)

    def _ending(self, handler: Handler[Any]) -> Ending | None:
        """Turn how the handler's task ended into how the run ended."""
        task = self._task
        assert task is not None
        if self.settled is not None or self.stopped is Stop.LEASE_LOST:
            if task.done():
                _forget(task)
            return None
        if task.done() and not task.cancelled():
            error = task.exception()
            if error is None:
                return self._returned(task.result())
            if isinstance(error, LeaseLost):
                return None
            if self.stopped is None:
                text = "".join(traceback.format_exception(error))
                return self._end(Retry(_describe(error)), text)
        return self._end(self._interrupted(handler))

    def _interrupted(self, handler: Handler[Any]) -> Ended:
        if self.stopped is Stop.TIMEOUT:
            return Retry(f"timed out after {handler.args.timeout.total_seconds():g} s")
        if self.stopped is Stop.CANCELLED:
            return Cancel()
        if self.stopped is Stop.SHUTDOWN:
            return HandBack()
        return Retry("the handler cancelled itself")

    def _returned(self, outcome: Any) -> Ending:
        if not isinstance(outcome, _OUTCOMES):
            return self._end(Retry(_not_an_outcome(outcome)))
        if isinstance(outcome, Done):
            try:
                msgspec.json.encode(outcome.result)
            except (TypeError, ValueError, msgspec.MsgspecError) as error:
                return self._end(Retry(f"the result is not JSON: {error}"))
        return self._end(outcome)

    def _end(self, ended: Ended, text: str | None = None) -> Ending:
        return Ending(self.job.id, self.claim.token, ended, text)


async def _outcome_of(handler: Handler[Any], run: Run, arguments: JobArgs) -> Outcome:
    return await handler.run(run, arguments)


def _not_an_outcome(outcome: object) -> str:
    return (
        f"the handler returned {type(outcome).__name__}"
        " and not one of Done, Retry, Snooze, Fail, Cancel"
    )


def _describe(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _finish(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _forget(task: asyncio.Task[Outcome]) -> None:
    """Look at a task's error, so that the loop does not complain that nobody did."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("job_error_after_end", error=_describe(error))
