"""Write the completions of a period as CSV, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence

from homeroom.completion.api import Completion, CompletionFilter, Completions, StepState
from homeroom.csv_escape import BYTE_ORDER_MARK, escape_formula
from homeroom.db.database import Database
from homeroom.instant import to_rfc3339

ROWS_PER_READ = 500
"""Each page is a read of its own, so that a slow client keeps no read open."""
_CSV_COLUMNS = (
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


async def stream_csv(
    db: Database, completions: Completions, query: CompletionFilter
) -> AsyncIterator[str]:
    """Yield the report in pieces, beginning with the header."""
    names = list(completions.steps)
    yield BYTE_ORDER_MARK + _format_csv([[*_CSV_COLUMNS, *(f"{name}Status" for name in names)]])
    after: tuple[int, str] | None = None
    while True:
        async with db.read() as tx:
            page = await completions.list_by_date(tx, query, after, ROWS_PER_READ)
            steps = await completions.list_steps(tx, [each.id for each in page])
        if page:
            yield _format_csv(_csv_cells(each, steps[each.id], names) for each in page)
        if len(page) < ROWS_PER_READ:
            return
        after = (page[-1].completed_at, page[-1].id)


def _csv_cells(
    completion: Completion, steps: Sequence[StepState], names: Sequence[str]
) -> list[str]:
    status = {step.name: step.status for step in steps}
    return [
        completion.id,
        escape_formula(completion.user_id),
        escape_formula(completion.course_id),
        escape_formula(completion.course_title),
        str(completion.course_version),
        str(completion.attempt),
        to_rfc3339(completion.completed_at),
        to_rfc3339(completion.recorded_at),
        "" if completion.score is None else f"{completion.score / 10_000:g}",
        str(completion.time_spent),
        *(status.get(name, "") for name in names),
    ]


def _format_csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
