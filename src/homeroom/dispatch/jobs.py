"""The jobs that send completions to partner systems, and that send them again."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar

import structlog

from homeroom.completion.api import StepArgs
from homeroom.db.database import Database
from homeroom.db.ids import natural_id
from homeroom.db.tx import Tx
from homeroom.dispatch import store
from homeroom.dispatch.destinations import disabled_gate
from homeroom.dispatch.message import MessageReceiver
from homeroom.dispatch.store import Dispatch
from homeroom.jobs.handler import JobContext
from homeroom.jobs.job import (
    NORMAL,
    PARTNER_DELAYS,
    FixedDelays,
    Job,
    JobArgs,
    JobReason,
    RetryDelays,
)
from homeroom.jobs.outcome import Done, Hold, Outcome, Retry
from homeroom.partner.failure import PartnerError

log = structlog.get_logger(__name__)
TOPIC = "dispatches"
_random_source = random.Random()
HTTP_GONE = 410
"""The receiver rejects all further messages: the destination is switched off."""


class SendAnalytics(StepArgs, frozen=True, kw_only=True):
    """Send a completion to analytics; the payload is ``{"completionId": "..."}``."""

    kind: ClassVar[str] = "completion.analytics"
    queue: ClassVar[str] = "dispatch"
    priority: ClassVar[int] = NORMAL


class SendHrReport(StepArgs, frozen=True, kw_only=True):
    """Send a completion to HR; the payload is ``{"completionId": "..."}``."""

    kind: ClassVar[str] = "completion.hr"
    queue: ClassVar[str] = "dispatch"
    priority: ClassVar[int] = NORMAL


class ReplayDispatch(JobArgs, frozen=True, kw_only=True):
    """Send a stored message again; the payload is ``{"dispatchId": "..."}``."""

    kind: ClassVar[str] = "dispatch.replay"
    queue: ClassVar[str] = "dispatch"
    priority: ClassVar[int] = NORMAL
    timeout: ClassVar[timedelta] = timedelta(seconds=60)
    max_retries: ClassVar[int] = len(PARTNER_DELAYS.delays)
    backoff: ClassVar[RetryDelays] = PARTNER_DELAYS

    dispatch_id: str

    def log_fields(self) -> dict[str, str | int]:
        """Return the id of the dispatch."""
        return {"dispatch_id": self.dispatch_id}


class UpdateDispatch(JobArgs, frozen=True, kw_only=True):
    """Send what was learnt after a message of a completion to a destination."""

    kind: ClassVar[str] = "dispatch.update"
    queue: ClassVar[str] = "dispatch"
    priority: ClassVar[int] = NORMAL
    timeout: ClassVar[timedelta] = timedelta(seconds=60)
    max_retries: ClassVar[int] = len(PARTNER_DELAYS.delays)
    backoff: ClassVar[RetryDelays] = PARTNER_DELAYS

    completion_id: str
    destination: str

    def log_fields(self) -> dict[str, str | int]:
        """Return the ids of the completion and the destination."""
        return {"completion_id": self.completion_id, "destination": self.destination}


@dataclass(frozen=True, slots=True)
class DispatchSender:
    """Send one message; settle its job in the commit that records the result."""

    db: Database

    async def run(
        self,
        ctx: JobContext,
        destination: MessageReceiver,
        dispatch: Dispatch,
        done: Done,
        retries: FixedDelays | None = None,
    ) -> Outcome:
        """Deliver a message and settle the job; ``retries`` replace those of its kind."""
        response_status: int | None = None
        answer: str | None = None
        is_gone = False
        outcome: Outcome = done
        error: str | None = None
        try:
            delivered = await destination.deliver(dispatch.id, dispatch.payload)
            response_status, answer = delivered.status, delivered.answer
        except PartnerError as failure:
            response_status, error = failure.response_status, failure.message
            outcome = failure.to_outcome()
            if failure.kind == "away":
                return outcome  # nothing was sent, so there is no attempt to record
            is_gone = response_status == HTTP_GONE
            if isinstance(outcome, Retry) and outcome.after is None and retries is not None:
                outcome = replace(outcome, after=_wait_before_retry(ctx.job, retries))
        if is_gone:
            log.error(
                "destination_disabled",
                destination=destination.name,
                dispatch_id=dispatch.id,
                completion_id=dispatch.completion_id,
                status=HTTP_GONE,
            )
            outcome = hold_while_disabled(destination.name, "it answered 410")
            error = outcome.reason

        async def save(tx: Tx) -> Outcome:
            if is_gone:
                await store.disable_destination(tx, destination.name, "it answered 410")
            await store.record_attempt(
                tx, dispatch.id, _status_of_outcome(outcome), response_status, error, answer
            )
            tx.count("dispatches", destination.name, _dispatch_outcome(outcome))
            tx.notify(TOPIC, dispatch.id)
            return outcome

        return await ctx.commit(save)


def replay_job_id(dispatch_id: str, number: int) -> str:
    """Return the id of the job of a dispatch's replay; replays count from 1."""
    return natural_id("dispatch", dispatch_id, "replay", str(number))


def hold_while_disabled(name: str, reason: str) -> Hold:
    """Return the outcome of a job whose destination is switched off, with the fix."""
    message = (
        f"the destination {name} is switched off ({reason}); the job runs after homeroom"
        f" destinations switch-on {name}: do so once the partner accepts messages"
    )
    return Hold(disabled_gate(name), message, JobReason.DESTINATION_DISABLED)


def _wait_before_retry(job: Job, retries: FixedDelays) -> timedelta:
    """Return the wait after the running attempt, counted in its round."""
    attempts_left = job.max_attempts - job.attempts
    return retries.delay(1 + len(retries.delays) - attempts_left, _random_source)


def _dispatch_outcome(outcome: Outcome) -> str:
    if isinstance(outcome, Retry | Hold):
        return "retry" if isinstance(outcome, Retry) else "held"
    return _status_of_outcome(outcome)


def _status_of_outcome(outcome: Outcome) -> store.DispatchStatus:
    if isinstance(outcome, Done):
        return "delivered"
    return "waiting" if isinstance(outcome, Retry | Hold) else "failed"
