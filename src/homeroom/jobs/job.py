"""The ``Job`` record, its states, the arguments of job kinds, and backoff (pure)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

import msgspec


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: 0 to ``base * 2**(attempt - 1)``."""

    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=10)

    def ceiling(self, attempt: int) -> timedelta:
        """Return the longest wait after a failed attempt; attempts count from 1."""
        doublings = min(max(attempt - 1, 0), 62)
        seconds = min(self.base.total_seconds() * 2.0**doublings, self.cap.total_seconds())
        return timedelta(seconds=seconds)

    def delay(self, attempt: int, random_source: random.Random) -> timedelta:
        """Return a wait after a failed attempt, drawn evenly from zero to its ceiling."""
        return self.ceiling(attempt) * random_source.random()


@dataclass(frozen=True, slots=True)
class FixedDelays:
    """One wait before each retry, longer or shorter by up to ``jitter`` at random."""

    delays: tuple[timedelta, ...]
    jitter: float = 0.2
    """Share of a wait, 0 to 1: jobs that failed together do not come back together."""

    def delay(self, attempt: int, random_source: random.Random) -> timedelta:
        """Return the wait after a failed attempt; attempts count from 1."""
        listed = self.delays[min(max(attempt, 1), len(self.delays)) - 1]
        return listed * (1 + self.jitter * (2 * random_source.random() - 1))


RetryDelays = Backoff | FixedDelays
PARTNER_DELAYS = FixedDelays(
    (
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
    )
)
"""The waits of jobs that call partners, three days in all (https://www.standardwebhooks.com)."""


class JobState(StrEnum):
    """The states of a job, in BullMQ's words so that Bull Board shows the same."""

    WAITING = "waiting"
    DELAYED = "delayed"
    WAITING_CHILDREN = "waiting-children"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"


FINISHED = frozenset({JobState.COMPLETED, JobState.FAILED})

TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.WAITING_CHILDREN: frozenset({JobState.WAITING, JobState.DELAYED, JobState.FAILED}),
    JobState.DELAYED: frozenset({JobState.WAITING, JobState.FAILED}),
    JobState.WAITING: frozenset({JobState.ACTIVE, JobState.FAILED}),
    JobState.ACTIVE: frozenset(
        {JobState.COMPLETED, JobState.FAILED, JobState.DELAYED, JobState.WAITING}
    ),
    JobState.FAILED: frozenset({JobState.WAITING}),
    JobState.COMPLETED: frozenset(),
}
"""Legal transitions. A failed job waits again only after an operator or a feature retries it."""


class JobReason(StrEnum):
    """Why a job ended, or why it waits again: the codes of ``docs/jobs.md``."""

    HANDLER_ERROR = "handler_error"
    """The attempt failed, and another one follows."""
    TIMED_OUT = "timed_out"
    """The attempt exceeded its timeout, and another one follows."""
    WORKER_DIED = "worker_died"
    """The lease of the attempt expired."""
    SNOOZED = "snoozed"
    """The handler asked to run later."""
    NEWER_RELEASE = "newer_release"
    """The payload was written by a newer release, whose worker has to run it."""
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    """The last attempt that was allowed failed."""
    HANDLER_FAILED = "handler_failed"
    """The handler returned ``Fail``."""
    UNDECODABLE = "undecodable"
    """The payload does not fit the arguments of its kind."""
    CANCELLED = "cancelled"
    """An operator, a feature or the handler cancelled the job."""
    DEPENDENCY_FAILED = "dependency_failed"
    """A job that this one waited for failed."""
    PARTNER_AWAY = "partner_away"
    """The partner does not answer; the job runs when it is back."""
    PARTNER_REFUSED = "partner_refused"
    """The partner refuses the key; the job runs when it accepts one."""
    DESTINATION_DISABLED = "destination_disabled"
    """The receiver answered 410; the job runs when an operator has switched it on."""


HOLD_REASONS = frozenset(
    {JobReason.PARTNER_AWAY, JobReason.PARTNER_REFUSED, JobReason.DESTINATION_DISABLED}
)
"""The codes of jobs that ended with ``Hold``."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job, as its row states. Instants are microseconds UTC."""

    id: str
    queue: str
    kind: str
    state: JobState
    priority: int
    payload: Mapping[str, Any]
    version: int
    attempts: int
    """Attempts that were started and counted; a snoozed or released run is not counted."""
    max_attempts: int
    run_at: int
    created_at: int
    started_at: int | None
    finished_at: int | None
    last_error: str | None
    result: Any
    progress: Any
    cancel_requested: bool
    worker: str | None
    lease_until: int | None
    reason_code: str | None = None
    """A ``JobReason``, or a code of a newer release."""
    trace_context: str | None = None
    """The ``traceparent`` of what added the job, while traces are on."""


HIGH, NORMAL, LOW = 10, 5, 1
"""Priorities are 1 to 10, and 10 is the most urgent."""


class JobArgs(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=False
):
    """The arguments of a job kind; subclasses add fields, ``kind`` and ``queue``.

    A field that is added later needs a default, so that payloads of the previous version are read;
    a payload that changes shape raises ``version`` and reads the old one in ``upgrade``.
    """

    kind: ClassVar[str]
    """``feature.verb``, unique in the program."""
    queue: ClassVar[str]
    """The queue that runs it; no colons."""
    priority: ClassVar[int] = NORMAL
    max_retries: ClassVar[int] = 3
    """Attempts after the first one."""
    timeout: ClassVar[timedelta] = timedelta(seconds=60)
    backoff: ClassVar[RetryDelays] = Backoff()
    version: ClassVar[int] = 1
    public: ClassVar[bool] = False
    """Other programs may add jobs of this kind through a queue that they share with us."""
    of_consequence: ClassVar[bool] = False
    """People or partners receive what a job of this kind makes for a slot of its schedule: a slot
    that was missed is recorded and reported. All other schedules run their latest slot."""

    def log_fields(self) -> dict[str, str | int]:
        """Return the ids that a log line about the job has besides its own; no person's."""
        return {}

    def natural_id(self) -> str | None:
        """Return the one id that a job with these arguments may have; None: any id."""
        return None

    @classmethod
    def upgrade(cls, payload: dict[str, object], version: int) -> dict[str, object]:
        """Return a payload of an older ``version`` in today's shape."""
        return payload


class SlotArgs(JobArgs, frozen=True, kw_only=True):
    """Arguments of a job kind that schedules add and that needs to know its slot."""

    schedule: str = ""
    slot: str = ""
    """The slot's name, ``2026-11-23T09:00[Europe/Berlin]``."""
    slot_at: int = 0
    """Microseconds UTC."""
    late: bool = False
    """The slot was caught up after a downtime."""
    by_hand: bool = False
    """An operator asked for this run."""


Args = TypeVar("Args", bound=JobArgs)


class InvalidJobArgs(ValueError):
    """A payload does not fit the argument type of its kind."""


class NewerJobArgs(InvalidJobArgs):
    """A payload was written by a newer release than this one."""


def decode_args(kind: type[Args], payload: Mapping[str, Any], version: int) -> Args:
    """Decode a stored payload; raise ``InvalidJobArgs`` or ``NewerJobArgs``."""
    if version > kind.version:
        raise NewerJobArgs(
            f"The payload of {kind.kind} has version {version}, and this release reads versions up"
            f" to {kind.version}. A worker of the newer release will run the job."
        )
    try:
        if version < kind.version:
            payload = kind.upgrade(dict(payload), version)
        return msgspec.convert(payload, type=kind, str_keys=True)
    except Exception as error:  # an upgrade may raise anything, and a retry would not help
        raise InvalidJobArgs(f"The payload does not fit {kind.kind}: {error}") from error
