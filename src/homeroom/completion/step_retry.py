"""Retry of all steps that match a filter, in bounded and audited transactions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from homeroom.access import api as access
from homeroom.completion.api import CompletionFilter, Completions, StepFilter
from homeroom.db.database import Database
from homeroom.instant import to_rfc3339

RetryableStatus = Literal["failed", "skipped", "waiting"]


@dataclass(frozen=True, slots=True)
class StepRetry:
    """The steps to retry: of one name, and of completions that match."""

    step: str
    status: RetryableStatus = "failed"
    """``waiting``: run those now whose next attempt is later."""
    reason: str | None = None
    user_id: str | None = None
    course_id: str | None = None
    recorded_since: int | None = None
    """Microseconds UTC."""

    def details(self) -> dict[str, str]:
        """Return the set members for the audit trail."""
        since = None if self.recorded_since is None else to_rfc3339(self.recorded_since)
        members = {
            "status": self.status,
            "reason": self.reason,
            "userId": self.user_id,
            "courseId": self.course_id,
            "since": since,
        }
        return {name: value for name, value in members.items() if value is not None}


async def retry_all(
    db: Database, completions: Completions, retry: StepRetry, actor: str, *, dry_run: bool = False
) -> int:
    """Retry all steps that match, the oldest first; return their number.

    Each transaction writes an audit line with the number of steps that it retried. ``dry_run``
    counts and changes nothing. Raises ``Invalid`` for a step that is not declared.
    """
    query = CompletionFilter(
        user_id=retry.user_id, course_id=retry.course_id, recorded_since=retry.recorded_since
    )
    steps = StepFilter(name=retry.step, status=retry.status, reason=retry.reason)
    count, after = 0, None
    while True:
        async with db.read() if dry_run else db.write() as tx:
            progress = await completions.retry_matching(tx, query, steps, after, dry_run=dry_run)
            if progress.count and not dry_run:
                details = {"filter": retry.details(), "count": progress.count}
                await access.record_audit(tx, actor, "steps.retried", retry.step, details)
        count, after = count + progress.count, progress.after
        if after is None:
            return count
