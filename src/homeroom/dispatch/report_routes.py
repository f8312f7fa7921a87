"""The HR report over HTTP."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from homeroom.completion.api import parse_period
from homeroom.dispatch.hr_report import HrReportFilter, HrReports, ReportFormat
from homeroom.errors import Invalid
from homeroom.identity import Identity, Role
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId

MAX_XLSX_ROWS = 20_000
"""Rows of a workbook over HTTP: it takes processor time from ingest, 0.1 ms a row."""
_MEMORY_BYTES = 4 * 1024 * 1024
"""Larger reports are kept in a temporary file until they are sent."""
_ALL_PEOPLE_ROLES = (Role.SERVICE, Role.OPERATOR)
"""Viewers get no report: it names learners."""
_CHUNK_BYTES = 64 * 1024
_MEDIA_TYPES: dict[ReportFormat, str] = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def _parse_filter(
    first: Annotated[str | None, Query(alias="from", max_length=40)] = None,
    last: Annotated[str | None, Query(alias="to", max_length=40)] = None,
    course_id: Annotated[ExternalId | None, Query(alias="courseId")] = None,
    group_id: Annotated[
        ExternalId | None,
        Query(alias="groupId", description="Only people whom the directory has in this group."),
    ] = None,
) -> HrReportFilter:
    try:
        return HrReportFilter(parse_period(first, last), course_id, group_id)
    except ValueError as error:
        raise Invalid(str(error)) from error


ReportFilterQuery = Annotated[HrReportFilter, Depends(_parse_filter)]


def router(auth: Auth, reports: HrReports) -> APIRouter:
    """Return the routes of the HR report."""
    routes = APIRouter(prefix="/api/v1/reports", tags=["Completion"])
    reader: Identity = Depends(auth.require(*_ALL_PEOPLE_ROLES, Role.MANAGER))

    async def respond(
        query: HrReportFilter, file_format: ReportFormat, identity: Identity
    ) -> StreamingResponse:
        learners = auth.people(identity, _ALL_PEOPLE_ROLES).ids
        query = replace(query, period=replace(query.period, learners=learners))
        file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by `_chunks`
            max_size=_MEMORY_BYTES
        )
        try:
            limit = {} if file_format == "csv" else {"max_rows": MAX_XLSX_ROWS}
            await reports.write(query, file_format, file, identity.subject, **limit)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return StreamingResponse(
            _chunks(file),
            media_type=_MEDIA_TYPES[file_format],
            headers={"Content-Disposition": f'attachment; filename="hr.{file_format}"'},
        )

    @routes.get(
        "/hr.csv",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    )
    async def download_hr_csv(
        query: ReportFilterQuery, identity: Identity = reader
    ) -> StreamingResponse:
        """Return the training records of a period as CSV, as HR's webhook has them.

        A manager's report has its own people.

        `from` and `to` are dates of completion (UTC; `to` is included as a whole) or RFC 3339
        times.
        """
        return await respond(query, "csv", identity)

    @routes.get(
        "/hr.xlsx",
        response_class=StreamingResponse,
        responses={
            200: {
                "content": {
                    _MEDIA_TYPES["xlsx"]: {"schema": {"type": "string", "format": "binary"}}
                }
            }
        },
    )
    async def download_hr_xlsx(
        query: ReportFilterQuery, identity: Identity = reader
    ) -> StreamingResponse:
        """Return the training records of a period as a workbook of at most 20,000 rows.

        A manager's report has its own people.

        `from` and `to` are as for CSV. Times are dates in UTC.
        """
        return await respond(query, "xlsx", identity)

    return routes


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
