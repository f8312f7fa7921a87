"""The HR report: the records of the webhook to HR for a period, as CSV or XLSX."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import IO, Any, Literal, Protocol

from homeroom.access import api as access
from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, CompletionFilter, Completions
from homeroom.csv_escape import BYTE_ORDER_MARK, escape_formula
from homeroom.db.database import Database
from homeroom.dispatch.api import FindCredentialUrl
from homeroom.dispatch.cloud_event import training_data
from homeroom.errors import Invalid
from homeroom.instant import to_rfc3339

ReportFormat = Literal["csv", "xlsx"]
MAX_SHEET_ROWS = 1_048_575
"""The rows of a worksheet, without the heading."""
COLUMNS = (
    "employeeId",
    "givenName",
    "familyName",
    "courseId",
    "courseTitle",
    "completedAt",
    "score",
    "hours",
    "validUntil",
    "credentialUrl",
)
"""The members of ``data`` in the message to HR."""
_ROWS_PER_READ = 500
"""Each page is a read of its own, so that a slow directory keeps no read open."""
_LOOKUPS_AT_ONCE = 8


class ReportedPerson(Protocol):
    """A person as the report needs them."""

    @property
    def given_name(self) -> str | None:
        """The given name; None: not known."""

    @property
    def family_name(self) -> str | None:
        """The family name; None: not known."""

    @property
    def group_ids(self) -> tuple[str, ...]:
        """The groups of the person."""


class ReportDirectory(Protocol):
    """A directory of people with their groups."""

    async def find(self, user_id: str) -> ReportedPerson | None:
        """Return a person, or None for an unknown id. Raises ``PartnerError``."""


class ReportFile(Protocol):
    """A report that is being written."""

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add rows."""

    def finish(self) -> None:
        """Write what is not in the file yet."""


@dataclass(frozen=True, slots=True)
class HrReportFilter:
    """The completions of a report."""

    period: CompletionFilter
    """The dates of completion, as ``completion.api.parse_period`` gives them."""
    course_id: str | None = None
    group_id: str | None = None
    """Only people whom the directory has in this group now."""

    def details(self, count: int) -> dict[str, str | int]:
        """Return the set members and the number of rows for the audit trail."""
        start, end = self.period.completed_from, self.period.completed_before
        members = {
            "from": None if start is None else to_rfc3339(start),
            "before": None if end is None else to_rfc3339(end),
            "courseId": self.course_id,
            "groupId": self.group_id,
        }
        return {**{name: each for name, each in members.items() if each}, "rows": count}


class HrReports:
    """Reports for HR; ``bootstrap`` builds it with the directory of the settings."""

    def __init__(
        self,
        db: Database,
        completions: Completions,
        directory: ReportDirectory,
        credential_url: FindCredentialUrl,
    ) -> None:
        """Use the directory for names and groups."""
        self._db, self._completions = db, completions
        self._directory, self._credential_url = directory, credential_url

    async def write(
        self,
        query: HrReportFilter,
        file_format: ReportFormat,
        file: IO[bytes],
        actor: str,
        *,
        max_rows: int = MAX_SHEET_ROWS,
    ) -> int:
        """Write a report into a file, with an audit line; return the number of its rows.

        All is written before anything is sent: a report that a failing directory has cut short
        would look complete. Raises ``PartnerError``, ``Invalid`` above ``max_rows``.
        """
        sheet: ReportFile = _CsvFile(file) if file_format == "csv" else _open_workbook(file)
        count = 0
        async for records in self._read(query):
            count += len(records)
            if count > max_rows:
                raise Invalid(
                    f"The report has more than {max_rows:,} rows.",
                    hint="Choose a shorter period, one course or one group, or CSV.",
                )
            await asyncio.to_thread(sheet.add, records)
        await asyncio.to_thread(sheet.finish)
        async with self._db.write() as tx:
            await access.record_audit(tx, actor, "report.exported", "hr", query.details(count))
        return count

    async def _read(self, query: HrReportFilter) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield the records by the date of completion, page by page."""
        found_people: dict[str, ReportedPerson | None] = {}
        period = replace(query.period, course_id=query.course_id)
        after: tuple[int, str] | None = None
        while True:
            async with self._db.read() as tx:
                page = await self._completions.list_by_date(tx, period, after, _ROWS_PER_READ)
                courses = await catalogue.courses_at(
                    tx, {(each.course_id, each.course_version) for each in page}
                )
                urls = {each.id: await self._credential_url(tx, each.id) for each in page}
            await self._find_people(found_people, {each.user_id for each in page})
            yield [
                _record(
                    each,
                    courses[each.course_id, each.course_version],
                    found_people[each.user_id],
                    urls[each.id],
                )
                for each in page
                if query.group_id is None or _is_in(found_people[each.user_id], query.group_id)
            ]
            if len(page) < _ROWS_PER_READ:
                return
            after = (page[-1].completed_at, page[-1].id)

    async def _find_people(
        self, found: dict[str, ReportedPerson | None], user_ids: set[str]
    ) -> None:
        slots = asyncio.Semaphore(_LOOKUPS_AT_ONCE)

        async def find(user_id: str) -> None:
            async with slots:
                found[user_id] = await self._directory.find(user_id)

        try:
            async with asyncio.TaskGroup() as tasks:
                for user_id in sorted(user_ids - found.keys()):
                    tasks.create_task(find(user_id))
        except* Exception as errors:
            raise errors.exceptions[0] from None


def _is_in(person: ReportedPerson | None, group_id: str) -> bool:
    return person is not None and group_id in person.group_ids


def _record(
    completion: Completion, course: Course, person: ReportedPerson | None, url: str | None
) -> dict[str, Any]:
    """Return ``data`` of the message that HR is sent about a completion."""
    return training_data(
        completion,
        course,
        None if person is None else person.given_name,
        None if person is None else person.family_name,
        url,
    )


def _open_workbook(file: IO[bytes]) -> ReportFile:
    # Loaded for workbooks alone: other processes are spared the time and memory of openpyxl.
    workbook: ReportFile = import_module("homeroom.dispatch.hr_workbook").WorkbookFile(
        file, COLUMNS
    )
    return workbook


class _CsvFile:
    """CSV with a byte order mark; no cell is a formula."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._file.write(BYTE_ORDER_MARK.encode())
        self._write([COLUMNS])

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add rows."""
        self._write([[_csv_cell(record[name]) for name in COLUMNS] for record in records])

    def finish(self) -> None:
        """Do nothing: every row is in the file."""

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self._file.write(text.getvalue().encode())


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    return escape_formula(value) if isinstance(value, str) else f"{value:g}"
