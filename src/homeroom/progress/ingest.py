"""Take events in: many requests wait together, are committed together, and are answered after that.

There is no acknowledged event that exists only in memory. The writer is watched (``GroupCommit``):
one that hangs is interrupted and tried again, and if it cannot be interrupted the process goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from homeroom.completion.api import Completions
from homeroom.db.database import Database, Lane
from homeroom.db.group_commit import GroupCommit, Limits
from homeroom.db.tx import Tx
from homeroom.progress.batch import Batch
from homeroom.progress.event import Event, Rejected
from homeroom.progress.verdict import ACCEPTED, Verdict


@dataclass(frozen=True, slots=True)
class CommitStats:
    """What one ingest transaction did, for the metrics."""

    requests: int
    events: int
    finished: int
    """Courses that it finished."""
    seconds: float
    """From the start of the transaction to just before its COMMIT."""


class Ingest:
    """The one way by which events become progress, whoever brings them."""

    def __init__(
        self,
        db: Database,
        completions: Completions,
        *,
        limits: Limits | None = None,
        on_stuck: Callable[[str], None] | None = None,
        observe: Callable[[CommitStats], None] | None = None,
    ) -> None:
        """Take the limits of the queue and of a commit; ``on_stuck`` ends the process."""
        self._completions = completions
        self._observe = observe
        self.writer = GroupCommit[Sequence[Event], list[Verdict]](
            db,
            Lane.INGEST,
            self._apply,
            name="ingest",
            limits=limits,
            on_stuck=on_stuck,
            at_once=db.commits_at_once,
        )

    async def put(self, events: Sequence[Event]) -> list[Verdict]:
        """Store events and return a verdict for each once all of it is durable.

        Raises ``TooBusy`` if too many events wait, ``Unavailable`` if the database is away: then
        nothing was acknowledged, and everything can be sent again without counting twice.
        """
        if not events:
            return []
        return await self.writer.put(events, weight=len(events))

    async def run(self) -> None:
        """Commit what comes in until ``close`` is called."""
        await self.writer.run()

    def close(self) -> None:
        """Take no more events; ``run`` returns once what waits is committed."""
        self.writer.close()

    async def _apply(self, tx: Tx, requests: Sequence[Sequence[Event]]) -> list[list[Verdict]]:
        started = perf_counter()
        events = [event for request in requests for event in request]
        batch = Batch(tx, events, self._completions)
        verdicts = await batch.run()
        answers, start = [], 0
        for request in requests:
            answers.append(verdicts[start : start + len(request)])
            start += len(request)
        if self._observe is not None:
            seconds = perf_counter() - started
            stats = CommitStats(len(requests), len(events), batch.finished, seconds)
            # Only then: a commit that fails is tried again and would be counted twice.
            tx.after_commit(partial(self._observe, stats))
        return answers


@dataclass(frozen=True, slots=True)
class Result:
    """One line of an answer: an event that was not plainly accepted."""

    id: str | None
    status: str
    code: str | None
    message: str | None


_NONE = {"accepted": 0, "duplicate": 0, "conflict": 0, "quarantined": 0, "rejected": 0}


async def take(
    ingest: Ingest, judged: Sequence[Event | Rejected]
) -> tuple[dict[str, int], list[Result]]:
    """Store the readable events of a request; return the count by status, and what stands out."""
    events = [event for event in judged if isinstance(event, Event)]
    found = await ingest.put(events)
    if found.count(ACCEPTED) == len(judged):  # the usual case
        return {**_NONE, "accepted": len(judged)}, []
    verdicts = iter(found)
    counts = dict(_NONE)
    results = []
    for each in judged:
        if isinstance(each, Rejected):
            counts["rejected"] += 1
            results.append(Result(each.id, "rejected", each.code, each.message))
            continue
        verdict = next(verdicts)
        counts[verdict.status] += 1
        if verdict.status != "accepted" or verdict.code is not None:
            results.append(Result(each.id, verdict.status.value, verdict.code, verdict.message))
    return counts, results
