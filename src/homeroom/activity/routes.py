"""Programmes, offerings, exemptions and compliance over HTTP."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AfterValidator, Field, model_validator

from homeroom.activity import log_routes, obligation_routes, obligation_store, store
from homeroom.activity.api import (
    Activity,
    ComplianceMark,
    ComplianceReport,
    Exemption,
    Offering,
    Programme,
    ScheduleRun,
    Week,
    build_compliance_report,
    format_compliance_csv,
    parse_week,
)
from homeroom.activity.log_routes import STAFF, WeekKey, check_read_access, is_manager
from homeroom.csv_escape import BYTE_ORDER_MARK
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Forbidden
from homeroom.identity import Identity, Role
from homeroom.plain_text import check_link
from homeroom.time_zone import check_time_zone
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, RequestModel, ResponseModel, Rfc3339Instant, SingleLine
from homeroom.web.paging import Page, PagingQuery, cut_page

MAX_PROGRAMME_ID_LENGTH = 64
"""The longest id of a programme: names of schedules and jobs contain it."""
_MAX_MANAGERS = 200


ProgrammeId = Annotated[ExternalId, Path(alias="programmeId", max_length=MAX_PROGRAMME_ID_LENGTH)]
OfferingId = Annotated[ExternalId, Path(alias="offeringId")]


class ProgrammeBody(RequestModel):
    """A programme; it replaces the stored one."""

    title: SingleLine
    time_zone: Annotated[str, AfterValidator(check_time_zone)]
    grace_minutes: Annotated[int, Field(ge=0, le=6 * 24 * 60)] = 0
    managers: Annotated[list[ExternalId], Field(max_length=_MAX_MANAGERS)]
    closed_on: date | None = None
    log_url: Annotated[str, Field(max_length=500), AfterValidator(check_link)] | None = None
    target_week: Literal["current", "previous"] = "current"
    last_day_to_join: Annotated[int, Field(ge=1, le=7)] = 4
    late_is_missed: bool = False
    copy_facilitator: bool = True
    all_clear: bool = False
    per_user_time: bool = False


class ProgrammeView(ResponseModel):
    """A programme with its rules."""

    id: str
    title: str
    time_zone: str
    grace_minutes: int
    managers: list[str]
    closed_on: date | None
    log_url: str | None
    target_week: Literal["current", "previous"]
    last_day_to_join: int
    late_is_missed: bool
    copy_facilitator: bool
    all_clear: bool
    per_user_time: bool


class OfferingBody(RequestModel):
    """A course that a facilitator gives; both dates belong to it."""

    title: SingleLine
    facilitator_id: ExternalId
    starts_on: date
    ends_on: date

    @model_validator(mode="after")
    def _in_order(self) -> OfferingBody:
        if self.ends_on < self.starts_on:
            raise ValueError("endsOn must not be before startsOn")
        return self


class OfferingEntry(OfferingBody):
    """An offering in a file: the body of its PUT with its id."""

    id: ExternalId


ProgrammeEntryId = Annotated[ExternalId, Field(max_length=MAX_PROGRAMME_ID_LENGTH)]
"""The id of a programme in a file."""


class ProgrammeEntry(ProgrammeBody):
    """A programme in a file: the body of its PUT with its id and its offerings."""

    id: ProgrammeEntryId
    offerings: Annotated[list[OfferingEntry], Field(default_factory=list)]


class OfferingView(ResponseModel):
    """A course that a facilitator gives within a programme."""

    id: str
    programme_id: str
    title: str
    facilitator_id: str
    starts_on: date
    ends_on: date


class ExemptionBody(RequestModel):
    """Days without obligations, of a facilitator, an offering or all (a holiday)."""

    user_id: ExternalId | None = None
    offering_id: ExternalId | None = None
    starts_on: date
    ends_on: date
    reason: Literal["leave", "holiday", "other"]
    note: Annotated[str | None, Field(max_length=500)] = None

    @model_validator(mode="after")
    def _in_order(self) -> ExemptionBody:
        if self.ends_on < self.starts_on:
            raise ValueError("endsOn must not be before startsOn")
        return self


class ExemptionView(ResponseModel):
    """Days without obligations."""

    id: str
    programme_id: str
    user_id: str | None
    offering_id: str | None
    starts_on: date
    ends_on: date
    reason: str
    note: str | None
    created_by: str
    created_at: Rfc3339Instant


class ComplianceReportRowView(ResponseModel):
    """One facilitator: a mark a week, null where they had no offering."""

    user_id: str
    name: str
    weeks: dict[str, ComplianceMark | None]
    missed: int
    late: int
    expected: int


class ComplianceReportView(ResponseModel):
    """A row a facilitator, a column a week."""

    programme_id: str
    weeks: list[str]
    rows: list[ComplianceReportRowView]


class ActivityRun(ResponseModel):
    """One fan-out, with the numbers of new and of repeated messages."""

    schedule: str
    slot: str
    slot_at: Rfc3339Instant
    state: Literal["fanning_out", "done"]
    late: bool
    sent: int
    repeated: int
    started_at: Rfc3339Instant
    finished_at: Rfc3339Instant | None


def _check_write_access(identity: Identity, programme: Programme) -> None:
    check_read_access(identity, programme)
    if not identity.has(Role.SERVICE) and not is_manager(identity, programme):
        raise Forbidden("Only its managers and the platform's servers may change this.")


def router(db: Database, auth: Auth, activity: Activity) -> APIRouter:
    """Return the routes of this package."""
    routes = APIRouter(prefix="/api/v1", tags=["Facilitators"])
    _add_programmes(routes, db, auth, activity)
    _add_offerings(routes, db, auth, activity)
    _add_exemptions(routes, db, auth, activity)
    _add_reports(routes, db, auth, activity)
    routes.include_router(log_routes.router(db, auth, activity))
    routes.include_router(obligation_routes.router(db, auth, activity))
    return routes


def _programme_view(programme: Programme) -> ProgrammeView:
    return ProgrammeView.model_validate(programme)


def _add_programmes(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    writer: Identity = Depends(auth.require(Role.SERVICE))
    reader: Identity = Depends(auth.require(*STAFF, Role.MANAGER))

    @routes.put(
        "/programmes/{programmeId}",
        responses={201: {"model": ProgrammeView, "description": "A new programme"}},
    )
    async def put_programme(
        programme_id: ProgrammeId,
        body: ProgrammeBody,
        response: Response,
        identity: Identity = writer,
    ) -> ProgrammeView:
        """Store a programme with its schedules; a new zone counts from next week on."""
        fields = body.model_dump()
        managers = tuple(dict.fromkeys(fields.pop("managers")))
        programme = Programme(id=programme_id, managers=managers, **fields)
        async with db.write() as tx:
            new = await activity.programmes.put(tx, programme, identity.subject)
        response.status_code = 201 if new else 200
        return _programme_view(programme)

    @routes.get("/programmes")
    async def list_programmes(
        paging: PagingQuery, identity: Identity = reader
    ) -> Page[ProgrammeView]:
        """Return programmes by id: a manager's own, or all for staff."""
        key = paging.key(str)
        manager_id = None if identity.has(*STAFF) else identity.subject
        async with db.read() as tx:
            programmes = await store.list_programmes(
                tx, None if key is None else key[0], paging.limit + 1, manager_id
            )
        page, cursor = cut_page(programmes, paging, lambda one: (one.id,))
        return Page(items=[_programme_view(each) for each in page], next_cursor=cursor)

    @routes.get("/programmes/{programmeId}")
    async def get_programme(
        programme_id: ProgrammeId, identity: Identity = reader
    ) -> ProgrammeView:
        """Return a programme."""
        async with db.read() as tx:
            programme = await activity.programmes.get(tx, programme_id)
        check_read_access(identity, programme)
        return _programme_view(programme)


def _add_offerings(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    writer: Identity = Depends(auth.require(Role.SERVICE))
    reader: Identity = Depends(auth.require(*STAFF, Role.MANAGER))

    @routes.put(
        "/programmes/{programmeId}/offerings/{offeringId}",
        responses={201: {"model": OfferingView, "description": "A new offering"}},
    )
    async def put_offering(
        programme_id: ProgrammeId,
        offering_id: OfferingId,
        body: OfferingBody,
        response: Response,
        identity: Identity = writer,
    ) -> OfferingView:
        """Store an offering; its obligation for the current week opens at once."""
        offering = Offering(offering_id, programme_id, **body.model_dump())
        async with db.write() as tx:
            new = await activity.programmes.put_offering(tx, offering, identity.subject)
        response.status_code = 201 if new else 200
        return OfferingView.model_validate(offering)

    @routes.get("/programmes/{programmeId}/offerings")
    async def list_offerings(
        programme_id: ProgrammeId, identity: Identity = reader
    ) -> list[OfferingView]:
        """Return the offerings of a programme by id."""
        async with db.read() as tx:
            programme = await activity.programmes.get(tx, programme_id)
            offerings = await store.list_offerings(tx, programme_id)
        check_read_access(identity, programme)
        return [OfferingView.model_validate(each) for each in offerings]


def _add_exemptions(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    person: Identity = Depends(auth.require(*STAFF, Role.MANAGER))
    path = "/programmes/{programmeId}/exemptions"

    @routes.get(path)
    async def list_exemptions(
        programme_id: ProgrammeId, identity: Identity = person
    ) -> list[ExemptionView]:
        """Return leave, holidays and other days without obligations, the latest first."""
        async with db.read() as tx:
            programme = await activity.programmes.get(tx, programme_id)
            exemptions = await store.list_exemptions(tx, programme_id)
        check_read_access(identity, programme)
        return [ExemptionView.model_validate(each) for each in exemptions]

    @routes.post(path, status_code=201)
    async def add_exemption(
        programme_id: ProgrammeId, body: ExemptionBody, identity: Identity = person
    ) -> ExemptionView:
        """Exempt a facilitator, or all. Open reminders to them are resolved.

        Managers exempt their own people.
        """
        fields = body.model_dump()
        note = fields.pop("note")
        async with db.write() as tx:
            programme = await activity.programmes.get(tx, programme_id)
            _check_write_access(identity, programme)
            if body.user_id is not None:
                await auth.people(identity).check(tx, body.user_id)
            exemption = await activity.programmes.add_exemption(
                tx, programme_id, Exemption(id="", **fields), note, identity.subject
            )
        return ExemptionView.model_validate(exemption)

    @routes.delete(path + "/{exemptionId}", status_code=204)
    async def end_exemption(
        programme_id: ProgrammeId,
        exemption_id: Annotated[ExternalId, Path(alias="exemptionId")],
        identity: Identity = person,
    ) -> None:
        """Delete an exemption; obligations without a log are open again."""
        async with db.write() as tx:
            programme = await activity.programmes.get(tx, programme_id)
            _check_write_access(identity, programme)
            await activity.programmes.end_exemption(
                tx, programme_id, exemption_id, identity.subject
            )


def _compliance_report_view(report: ComplianceReport) -> ComplianceReportView:
    rows = [
        ComplianceReportRowView(
            user_id=row.user_id,
            name=row.name,
            weeks=dict(zip(report.weeks, row.marks, strict=True)),
            missed=row.missed,
            late=row.late,
            expected=row.expected,
        )
        for row in report.rows
    ]
    return ComplianceReportView(
        programme_id=report.programme_id, weeks=list(report.weeks), rows=rows
    )


def _add_reports(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    reader: Identity = Depends(auth.require(*STAFF, Role.MANAGER))

    async def get_readable(tx: Tx, id: str, identity: Identity) -> Programme:
        programme = await activity.programmes.get(tx, id)
        check_read_access(identity, programme)
        return programme

    def weeks(first: str | None, last: str | None) -> tuple[Week | None, Week | None]:
        return (
            None if first is None else parse_week(first),
            None if last is None else parse_week(last),
        )

    @routes.get("/programmes/{programmeId}/compliance")
    async def get_compliance_report(
        programme_id: ProgrammeId,
        first: Annotated[WeekKey | None, Query(alias="from")] = None,
        last: Annotated[WeekKey | None, Query(alias="to")] = None,
        identity: Identity = reader,
    ) -> ComplianceReportView:
        """Return the compliance report: a row a facilitator, a column a week."""
        async with db.read() as tx:
            programme = await get_readable(tx, programme_id, identity)
            return _compliance_report_view(
                await build_compliance_report(tx, programme, *weeks(first, last))
            )

    @routes.get(
        "/programmes/{programmeId}/compliance.csv",
        response_class=Response,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    )
    async def download_compliance_report(
        programme_id: ProgrammeId,
        first: Annotated[WeekKey | None, Query(alias="from")] = None,
        last: Annotated[WeekKey | None, Query(alias="to")] = None,
        identity: Identity = reader,
    ) -> Response:
        """Return the same as CSV."""
        async with db.read() as tx:
            programme = await get_readable(tx, programme_id, identity)
            report = await build_compliance_report(tx, programme, *weeks(first, last))
        headers = {"Content-Disposition": 'attachment; filename="compliance.csv"'}
        text = BYTE_ORDER_MARK + format_compliance_csv(report)
        return Response(text, media_type="text/csv", headers=headers)

    @routes.get("/activity-runs", dependencies=[Depends(auth.require(Role.OPERATOR, Role.VIEWER))])
    async def list_activity_runs(
        schedule: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> list[ActivityRun]:
        """Return the fan-outs of schedules, newest first."""
        async with db.read() as tx:
            runs: list[ScheduleRun] = await obligation_store.list_schedule_runs(tx, schedule, limit)
        return [ActivityRun.model_validate(each) for each in runs]
