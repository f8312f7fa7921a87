"""How features meet the kernel: a handler a job kind, and what a running handler can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from homeroom.db.tx import Tx
from homeroom.errors import HomeroomError
from homeroom.jobs.args import JobArgs
from homeroom.jobs.job import Job
from homeroom.jobs.outcome import Outcome


class UnknownJobKind(HomeroomError):
    """No handler is registered for this kind of job."""

    code = "unknown_job_kind"


class LeaseLost(HomeroomError):
    """This worker no longer holds the job; another one may be running it."""

    code = "lease_lost"
    status = 409


class JobContext(Protocol):
    """What a running handler can do besides returning an outcome."""

    job: Job

    async def progress(self, value: Any) -> None:
        """Store how far the job is: a number of percent or any JSON value."""

    async def log(self, line: str) -> None:
        """Add a line to the job's log; it is shown to operators, so no secrets."""

    async def settle(self, tx: Tx, outcome: Outcome) -> None:
        """Settle the job in the transaction of its effect, then return the same outcome.

        Raises ``LeaseLost`` if another worker has the job by now: the transaction must then fail.
        """


Args = TypeVar("Args", bound=JobArgs)
Run = Callable[[JobContext, Args], Awaitable[Outcome]]
Settled = Callable[[Tx, Job, Args], Awaitable[None]]
Preview = Callable[[Tx, Args], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Handler(Generic[Args]):
    """What runs for a job kind, and who wants to know in the commit that changes its row.

    ``changed`` is called in every transaction that ends an attempt, finishes, cancels or revives
    the job (whoever did it: the handler's outcome, a time-out, a lost lease, an operator), with the
    job as it is after the change. A feature keeps its own row in step there.

    ``preview`` says, as JSON, what a run would do, and changes nothing; it is asked for the kinds
    that schedules add.
    """

    args: type[Args]
    run: Run[Args]
    changed: Settled[Args] | None = None
    preview: Preview[Args] | None = None


class Registry:
    """All handlers of a program by kind; filled in ``wiring``."""

    def __init__(self) -> None:
        """Start empty."""
        self._handlers: dict[str, Handler[Any]] = {}

    def add(
        self,
        args: type[Args],
        run: Run[Args],
        changed: Settled[Args] | None = None,
        preview: Preview[Args] | None = None,
    ) -> None:
        """Register a handler; raise ValueError if its kind has one already."""
        if not args.queue or ":" in args.queue:
            raise ValueError(f"a queue name has no colon (BullMQ refuses it): {args.queue!r}")
        if args.kind in self._handlers:
            raise ValueError(f"two handlers for the job kind {args.kind}")
        self._handlers[args.kind] = Handler(args, run, changed, preview)

    def get(self, kind: str) -> Handler[Any]:
        """Return the handler of a kind; raise ``UnknownJobKind``."""
        try:
            return self._handlers[kind]
        except KeyError:
            raise UnknownJobKind(f"No handler is registered for the job kind {kind!r}.") from None

    def knows(self, kind: str) -> bool:
        """Say whether this program has a handler for a kind."""
        return kind in self._handlers

    def kinds(self) -> list[str]:
        """Return all kinds, sorted."""
        return sorted(self._handlers)

    def queues(self) -> list[str]:
        """Return the queues that the registered kinds use, sorted."""
        return sorted({handler.args.queue for handler in self._handlers.values()})
