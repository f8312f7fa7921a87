"""Handlers of job kinds, their registry, and the context of a running handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from homeroom.db.tx import Tx
from homeroom.errors import HomeroomError
from homeroom.jobs.job import FixedDelays, Job, JobArgs, RetryDelays
from homeroom.jobs.outcome import Outcome


class UnknownJobKind(HomeroomError):
    """No handler is registered for this kind of job."""

    code = "unknown_job_kind"


class LeaseLost(HomeroomError):
    """This worker no longer holds the lease of the job; another one may run it."""

    code = "lease_lost"
    status = 409


class JobContext(Protocol):
    """The operations that a running handler has besides returning an outcome."""

    job: Job

    async def progress(self, value: Any) -> None:
        """Store the progress of the job: a percentage or any JSON value."""

    async def log(self, line: str) -> None:
        """Add a line to the job's log. Operators see it, so it must hold no secrets."""

    async def settle(self, tx: Tx, outcome: Outcome) -> None:
        """Settle the job in the transaction of its effect, then return the same outcome.

        Raises ``LeaseLost`` if this worker lost its lease: the transaction must then fail.
        """

    async def commit(self, save: SaveEffect) -> Outcome:
        """Commit the effect of a call to a partner, and settle the job.

        ``save`` writes in a transaction of its own and returns the outcome. It is called again
        until the database can commit it, because the call shall not be made again; so it may await
        its transaction and nothing else. Raises ``LeaseLost``.
        """


Args = TypeVar("Args", bound=JobArgs)
SaveEffect = Callable[[Tx], Awaitable[Outcome]]
RunHandler = Callable[[JobContext, Args], Awaitable[Outcome]]
OnJobChanged = Callable[[Tx, Job, Args], Awaitable[None]]
PreviewHandler = Callable[[Tx, Args], Awaitable[Any]]
OutstandingCheck = Callable[[Tx, Job, Args], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class LogSubject:
    """The learner and the course that a job is for, and the partner that it calls."""

    user_id: str | None = None
    course_id: str | None = None
    partner: str | None = None


FindSubject = Callable[[Tx, Args], Awaitable[LogSubject]]


@dataclass(frozen=True, slots=True)
class Handler(Generic[Args]):
    """The functions of a job kind.

    ``changed`` is called in every transaction that ends an attempt, finishes, cancels or retries
    the job (by the handler's outcome, a timeout, an expired lease or an operator), with the job
    after the change. The feature updates its own row there.

    ``preview`` returns, as JSON, what a run would do, and changes nothing. It is called for the
    kinds that schedules add.

    ``is_outstanding`` returns whether a record of the feature still waits for a failed job. Such a
    job is not pruned, so that it can be retried. Without it, nothing waits for a failed job.

    ``subject`` names the learner for the log line of a failed attempt.
    ``retries`` overrides the number of retries and the waits of the kind where they are a setting.
    """

    args: type[Args]
    run: RunHandler[Args]
    changed: OnJobChanged[Args] | None = None
    preview: PreviewHandler[Args] | None = None
    is_outstanding: OutstandingCheck[Args] | None = None
    subject: FindSubject[Args] | None = None
    retries: FixedDelays | None = None

    @property
    def backoff(self) -> RetryDelays:
        """Return the waits before the retries of a job."""
        return self.args.backoff if self.retries is None else self.retries

    @property
    def allowance(self) -> int | None:
        """Return the attempts of a round; None: those that the job's row names."""
        return None if self.retries is None else 1 + len(self.retries.delays)


class Registry:
    """The handlers of a program by kind; filled in ``bootstrap``."""

    def __init__(self) -> None:
        """Start empty."""
        self._handlers: dict[str, Handler[Any]] = {}

    def add(
        self,
        args: type[Args],
        run: RunHandler[Args],
        changed: OnJobChanged[Args] | None = None,
        preview: PreviewHandler[Args] | None = None,
        *,
        is_outstanding: OutstandingCheck[Args] | None = None,
        subject: FindSubject[Args] | None = None,
        retries: FixedDelays | None = None,
    ) -> None:
        """Register a handler; raise ValueError if its kind has one already."""
        if not args.queue or ":" in args.queue:
            raise ValueError(f"a queue name must not hold a colon (BullMQ): {args.queue!r}")
        if args.kind in self._handlers:
            raise ValueError(f"the job kind {args.kind} has two handlers")
        self._handlers[args.kind] = Handler(
            args, run, changed, preview, is_outstanding, subject, retries
        )

    def get(self, kind: str) -> Handler[Any]:
        """Return the handler of a kind; raise ``UnknownJobKind``."""
        try:
            return self._handlers[kind]
        except KeyError:
            raise UnknownJobKind(f"No handler is registered for the job kind {kind!r}.") from None

    def has_kind(self, kind: str) -> bool:
        """Return whether this program has a handler for a kind."""
        return kind in self._handlers

    def of_queues(self, queues: Collection[str]) -> Registry:
        """Return a registry with the handlers of some queues alone."""
        some = Registry()
        some._handlers = {
            kind: handler
            for kind, handler in self._handlers.items()
            if handler.args.queue in queues
        }
        return some

    def may_be_outstanding(self, kind: str) -> bool:
        """Return whether something may wait for failed jobs of a kind; it may if unknown."""
        handler = self._handlers.get(kind)
        return handler is None or handler.is_outstanding is not None

    def kinds(self) -> list[str]:
        """Return all kinds, sorted."""
        return sorted(self._handlers)

    def queue_and_kinds(self) -> list[tuple[str, str]]:
        """Return each kind with its queue, sorted by kind."""
        return [(self._handlers[kind].args.queue, kind) for kind in self.kinds()]

    def queues(self) -> list[str]:
        """Return the queues that the registered kinds use, sorted."""
        return sorted({handler.args.queue for handler in self._handlers.values()})
