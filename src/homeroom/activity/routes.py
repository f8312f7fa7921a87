"""Programmes, offerings, logs, exemptions and compliance over HTTP (API page, "Facilitators")."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AfterValidator, Field, model_validator

from homeroom.activity import ledger, store
from homeroom.activity.api import (
    Activity,
    Exemption,
    KeptExemption,
    Mark,
    Offering,
    Programme,
    Run,
    Table,
    Week,
    as_csv,
    compliance,
    parse_week,
)
from homeroom.activity.fanout import report_of
from homeroom.activity.log import routes as log_routes
from homeroom.activity.log.routes import manages
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Forbidden
from homeroom.jobs.schedule import zone
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Instant, Line, OutsideId, View
from homeroom.web.paging import Page, PagingQuery, page

_LONGEST = 64
"""Longest id of a programme: the names of its schedules and jobs hold it."""
_MOST_MANAGERS = 200
_STAFF = (Role.SERVICE, Role.OPERATOR, Role.VIEWER)


def _zone(text: str) -> str:
    zone(text)
    return text


def _week(text: str) -> str:
    return parse_week(text).key


def _https(text: str) -> str:
    if not text.startswith(("https://", "http://")) or not text.isprintable() or " " in text:
        raise ValueError("must be a whole URL, such as https://learn.example.org/logs")
    return text


ProgrammeId = Annotated[OutsideId, Path(alias="programmeId", max_length=_LONGEST)]
OfferingId = Annotated[OutsideId, Path(alias="offeringId")]
WeekKey = Annotated[str, AfterValidator(_week)]


class ProgrammeBody(Body):
    """A programme; it replaces what was known of it."""

    title: Line
    time_zone: Annotated[str, AfterValidator(_zone)]
    grace_minutes: Annotated[int, Field(ge=0, le=6 * 24 * 60)] = 0
    managers: Annotated[list[OutsideId], Field(max_length=_MOST_MANAGERS)]
    closed_on: date | None = None
    log_url: Annotated[str, Field(max_length=500), AfterValidator(_https)] | None = None
    target_week: Literal["current", "previous"] = "current"
    last_day_to_join: Annotated[int, Field(ge=1, le=7)] = 4
    late_is_missed: bool = False
    copy_facilitator: bool = True
    all_clear: bool = False
    per_user_time: bool = False


class ProgrammeView(View):
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


class ReportedView(View):
    """A log that is missing, or came late."""

    user_id: str
    name: str
    offering: str
    submitted_at: Instant | None


class ReportedAgainView(View):
    """Somebody whose logs are missing again and again, and whether that was known."""

    user_id: str
    name: str
    missed: list[str]
    continuing: bool


class ReportView(View):
    """A week's report."""

    programme: str
    week: str
    time_zone: str
    missing: list[ReportedView]
    late: list[ReportedView]
    compliance: list[ReportedAgainView]


class OfferingBody(Body):
    """A course that a facilitator gives; both dates belong to it."""

    title: Line
    facilitator_id: OutsideId
    starts_on: date
    ends_on: date

    @model_validator(mode="after")
    def _in_order(self) -> OfferingBody:
        if self.ends_on < self.starts_on:
            raise ValueError("endsOn must not be before startsOn")
        return self


class OfferingView(View):
    """A course that a facilitator gives within a programme."""

    id: str
    programme_id: str
    title: str
    facilitator_id: str
    starts_on: date
    ends_on: date


class ExemptionBody(Body):
    """Days on which nothing is owed: of somebody, of one offering, or for all (a holiday)."""

    user_id: OutsideId | None = None
    offering_id: OutsideId | None = None
    starts_on: date
    ends_on: date
    reason: Literal["leave", "holiday", "other"]
    note: Annotated[str | None, Field(max_length=500)] = None

    @model_validator(mode="after")
    def _in_order(self) -> ExemptionBody:
        if self.ends_on < self.starts_on:
            raise ValueError("endsOn must not be before startsOn")
        return self


class ExemptionView(View):
    """Days on which nothing is owed."""

    id: str
    programme_id: str
    user_id: str | None
    offering_id: str | None
    starts_on: date
    ends_on: date
    reason: str
    note: str | None
    created_by: str
    created_at: Instant


class ComplianceRow(View):
    """One facilitator: a mark a week, null where nothing of theirs ran."""

    user_id: str
    name: str
    weeks: dict[str, Mark | None]
    missed: int
    late: int
    expected: int


class ComplianceView(View):
    """A row a facilitator, a column a week."""

    programme_id: str
    weeks: list[str]
    rows: list[ComplianceRow]


class RunOfSlot(View):
    """One fan-out: how many messages were new, and how many had been sent before."""

    schedule: str
    slot: str
    slot_at: Instant
    state: Literal["fanning_out", "done"]
    late: bool
    sent: int
    repeated: int
    started_at: Instant
    finished_at: Instant | None


def _check_reads(identity: Identity, programme: Programme) -> None:
    if not identity.has(*_STAFF) and not manages(identity, programme):
        raise Forbidden("This programme is managed by others.")


def _checkmanages(identity: Identity, programme: Programme) -> None:
    if not identity.has(Role.SERVICE) and not manages(identity, programme):
        raise Forbidden("Only its managers and the platform's servers may change this.")


def router(db: Database, auth: Auth, activity: Activity) -> APIRouter:
    """Return the routes of this room."""
    routes = APIRouter(prefix="/api/v1", tags=["Facilitators"])
    _add_programmes(routes, db, auth, activity)
    _add_exemptions(routes, db, auth, activity)
    _add_views(routes, db, auth, activity)
    routes.include_router(log_routes.router(db, auth, activity))
    return routes


def _programme(found: Programme) -> ProgrammeView:
    return ProgrammeView.model_validate(found)


def _add_programmes(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    writer: Identity = Depends(auth.require(Role.SERVICE))
    reader: Identity = Depends(auth.require(*_STAFF, Role.MANAGER))

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
        """Store a programme with its schedules. Another zone or grace counts from next week on."""
        given = body.model_dump()
        managers = tuple(dict.fromkeys(given.pop("managers")))
        programme = Programme(id=programme_id, managers=managers, **given)
        async with db.write() as tx:
            new = await activity.programmes.put(tx, programme, identity.subject)
        response.status_code = 201 if new else 200
        return _programme(programme)

    @routes.get("/programmes")
    async def list_programmes(
        paging: PagingQuery, identity: Identity = reader
    ) -> Page[ProgrammeView]:
        """Return programmes by id: a manager's own, or all for staff."""
        key = paging.key(str)
        everybodys = identity.has(*_STAFF)
        async with db.read() as tx:
            found = await store.programmes(
                tx, None if key is None else key[0], paging.limit + 1 if everybodys else 10_000
            )
        # Before the page is cut: its cursor is an id that the next one begins after.
        mine = [each for each in found if everybodys or manages(identity, each)]
        kept, cursor = page(mine, paging, lambda one: (one.id,))
        return Page(items=[_programme(each) for each in kept], next_cursor=cursor)

    @routes.get("/programmes/{programmeId}")
    async def get_programme(
        programme_id: ProgrammeId, identity: Identity = reader
    ) -> ProgrammeView:
        """Return a programme."""
        async with db.read() as tx:
            found = await activity.programmes.get(tx, programme_id)
        _check_reads(identity, found)
        return _programme(found)

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
        """Store an offering; what it owes for the current week is open at once."""
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
            found = await store.offerings(tx, programme_id)
        _check_reads(identity, programme)
        return [OfferingView.model_validate(each) for each in found]


def _exemption(found: KeptExemption) -> ExemptionView:
    rule = found.rule
    return ExemptionView(
        id=rule.id,
        programme_id=found.programme_id,
        user_id=rule.user_id,
        offering_id=rule.offering_id,
        starts_on=rule.starts_on,
        ends_on=rule.ends_on,
        reason=rule.reason,
        note=found.note,
        created_by=found.created_by,
        created_at=found.created_at,
    )


def _add_exemptions(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    person: Identity = Depends(auth.require(*_STAFF, Role.MANAGER))
    path = "/programmes/{programmeId}/exemptions"

    @routes.get(path)
    async def list_exemptions(
        programme_id: ProgrammeId, identity: Identity = person
    ) -> list[ExemptionView]:
        """Return leave, holidays and other days on which nothing is owed, the latest first."""
        async with db.read() as tx:
            programme = await activity.programmes.get(tx, programme_id)
            found = await store.exemptions(tx, programme_id)
        _check_reads(identity, programme)
        return [_exemption(each) for each in found]

    @routes.post(path, status_code=201)
    async def add_exemption(
        programme_id: ProgrammeId, body: ExemptionBody, identity: Identity = person
    ) -> ExemptionView:
        """Exempt somebody, or all. What was asked of them is taken back."""
        given = body.model_dump()
        note = given.pop("note")
        async with db.write() as tx:
            programme = await activity.programmes.get(tx, programme_id)
            _checkmanages(identity, programme)
            rule = Exemption(id="", **given)
            made = await activity.programmes.exempt(tx, programme_id, rule, note, identity.subject)
        return _exemption(made)

    @routes.delete(path + "/{exemptionId}", status_code=204)
    async def end_exemption(
        programme_id: ProgrammeId,
        exemption_id: Annotated[OutsideId, Path(alias="exemptionId")],
        identity: Identity = person,
    ) -> None:
        """Delete an exemption; what has no log is owed again."""
        async with db.write() as tx:
            programme = await activity.programmes.get(tx, programme_id)
            _checkmanages(identity, programme)
            await activity.programmes.end_exemption(
                tx, programme_id, exemption_id, identity.subject
            )


def _table(found: Table) -> ComplianceView:
    rows = [
        ComplianceRow(
            user_id=row.user_id,
            name=row.name,
            weeks=dict(zip(found.weeks, row.marks, strict=True)),
            missed=row.missed,
            late=row.late,
            expected=row.expected,
        )
        for row in found.rows
    ]
    return ComplianceView(programme_id=found.programme_id, weeks=list(found.weeks), rows=rows)


def _add_views(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    reader: Identity = Depends(auth.require(*_STAFF, Role.MANAGER))

    async def seen(tx: Tx, id: str, identity: Identity) -> Programme:
        programme = await activity.programmes.get(tx, id)
        _check_reads(identity, programme)
        return programme

    def weeks(first: str | None, last: str | None) -> tuple[Week | None, Week | None]:
        return (
            None if first is None else parse_week(first),
            None if last is None else parse_week(last),
        )

    @routes.get("/programmes/{programmeId}/compliance")
    async def show_compliance(
        programme_id: ProgrammeId,
        first: Annotated[WeekKey | None, Query(alias="from")] = None,
        last: Annotated[WeekKey | None, Query(alias="to")] = None,
        identity: Identity = reader,
    ) -> ComplianceView:
        """Return who handed in what: a row a facilitator, a column a week; twelve by default."""
        async with db.read() as tx:
            programme = await seen(tx, programme_id, identity)
            return _table(await compliance(tx, programme, *weeks(first, last)))

    @routes.get(
        "/programmes/{programmeId}/compliance.csv",
        response_class=Response,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    )
    async def download_compliance(
        programme_id: ProgrammeId,
        first: Annotated[WeekKey | None, Query(alias="from")] = None,
        last: Annotated[WeekKey | None, Query(alias="to")] = None,
        identity: Identity = reader,
    ) -> Response:
        """Return the same as CSV."""
        async with db.read() as tx:
            programme = await seen(tx, programme_id, identity)
            found = await compliance(tx, programme, *weeks(first, last))
        headers = {"Content-Disposition": 'attachment; filename="compliance.csv"'}
        return Response(as_csv(found), media_type="text/csv", headers=headers)

    @routes.get("/programmes/{programmeId}/reports/{week}")
    async def show_report(
        programme_id: ProgrammeId,
        week: Annotated[WeekKey, Path()],
        identity: Identity = reader,
    ) -> ReportView:
        """Return what Tuesday's report on a week says by now: a log that came later is in it."""
        async with db.read() as tx:
            programme = await seen(tx, programme_id, identity)
            return ReportView(**await report_of(tx, programme, parse_week(week)))

    @routes.get("/activity-runs", dependencies=[Depends(auth.require(Role.OPERATOR, Role.VIEWER))])
    async def list_runs(
        schedule: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> list[RunOfSlot]:
        """Return what the schedules' slots led to, newest first."""
        async with db.read() as tx:
            found: list[Run] = await ledger.runs(tx, schedule, limit)
        return [RunOfSlot.model_validate(each) for each in found]
