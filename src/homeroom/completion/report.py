"""Completions of a period as CSV, read page by page, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta

from homeroom.clock import from_datetime, to_rfc3339
from homeroom.completion.api import Completion, Completions, Filter, StepState
from homeroom.db.database import Database
from homeroom.spreadsheet import harmless

PAGE = 500
"""Rows of one read; none stays open while the caller is slow."""
_COLUMNS = (
    "completionId",
    "userId",
    "courseId",
    "courseTitle",
    "courseVersion",
    "attempt",
    "completedAt",
    "recordedAt",
    "score",
    "timeSpentSeconds",
)


def period(first: str | None, last: str | None) -> Filter:
    """Read a period; raise ValueError for what is neither a date nor an RFC 3339 time."""
    return Filter(
        completed_from=None if first is None else _instant("from", first, timedelta()),
        completed_before=None if last is None else _instant("to", last, timedelta(days=1)),
    )


def _instant(name: str, text: str, whole_day: timedelta) -> int:
    wrong = f"{name} must be a date, such as 2026-11-22, or an RFC 3339 time with a zone."
    try:
        if len(text) == len("2026-11-22"):
            return from_datetime(
                datetime.combine(date.fromisoformat(text), time(), UTC) + whole_day
            )
        # A plus sign that nobody escaped arrives as a space.
        return from_datetime(datetime.fromisoformat(text[:11] + text[11:].replace(" ", "+")))
    except (ValueError, OverflowError) as error:
        raise ValueError(wrong) from error


async def lines(db: Database, completions: Completions, wanted: Filter) -> AsyncIterator[str]:
    """Yield the report in pieces, its head first; each page is a read of its own."""
    names = list(completions.steps)
    yield _csv([[*_COLUMNS, *(f"{name}Status" for name in names)]])
    after: tuple[int, str] | None = None
    while True:
        async with db.read() as tx:
            found = await completions.by_date(tx, wanted, after, PAGE)
            steps = await completions.steps_of(tx, [each.id for each in found])
        if found:
            yield _csv(_cells(each, steps[each.id], names) for each in found)
        if len(found) < PAGE:
            return
        after = (found[-1].completed_at, found[-1].id)


def _cells(found: Completion, steps: Sequence[StepState], names: Sequence[str]) -> list[str]:
    status = {step.name: step.status for step in steps}
    return [
        found.id,
        harmless(found.user_id),
        harmless(found.course_id),
        harmless(found.course_title),
        str(found.course_version),
        str(found.attempt),
        to_rfc3339(found.completed_at),
        to_rfc3339(found.recorded_at),
        "" if found.score is None else f"{found.score / 10_000:g}",
        str(found.time_spent),
        *(status.get(name, "") for name in names),
    ]


def _csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
