"""Activity logs and the weekly report about them, over HTTP."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AfterValidator, Field, model_validator

from homeroom.access import api as access
from homeroom.activity import obligation_store, store
from homeroom.activity.activity_log import unknown_offering
from homeroom.activity.api import (
    Activity,
    ActivityLog,
    Programme,
    parse_week,
    unknown_programme,
)
from homeroom.activity.fanout import build_week_report
from homeroom.activity.obligation_rules import week_of
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Forbidden, Invalid, NotFound
from homeroom.identity import Identity, Role
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, RequestModel, ResponseModel, Rfc3339Instant
from homeroom.web.paging import Page, PagingQuery, cut_page

_MAX_SESSIONS = 200
STAFF = (Role.SERVICE, Role.OPERATOR, Role.VIEWER)
_WRITERS = (Role.SERVICE, Role.FACILITATOR)
_READERS = (*STAFF, Role.MANAGER, Role.FACILITATOR)


def _check_week(text: str) -> str:
    return parse_week(text).key


ReportedProgrammeId = Annotated[ExternalId, Path(alias="programmeId", max_length=64)]
LogId = Annotated[ExternalId, Path(alias="logId")]
WeekKey = Annotated[str, AfterValidator(_check_week)]
WeekQuery = Annotated[WeekKey | None, Query()]
GradingStatus = Literal["not_started", "pending", "done"]


class Attendance(RequestModel):
    """One session: its date, and the numbers of expected and present learners."""

    held_on: date
    present: Annotated[int, Field(ge=0, le=100_000)]
    expected: Annotated[int | None, Field(ge=0, le=100_000)] = None

    @model_validator(mode="after")
    def _check_numbers(self) -> Attendance:
        if self.expected is not None and self.present > self.expected:
            raise ValueError(f"{self.present} present of {self.expected} expected; correct one")
        return self


class ActivityLogContent(RequestModel):
    """A facilitator's account of a week."""

    attendance: Annotated[list[Attendance] | None, Field(max_length=_MAX_SESSIONS)] = None
    grading: Annotated[
        dict[Annotated[str, Field(max_length=100)], GradingStatus] | None, Field(max_length=50)
    ] = None
    notes: Annotated[str | None, Field(max_length=10_000)] = None
    late_reason: Annotated[str | None, Field(max_length=500)] = None
    """Why it was not handed in in time; required of managers, who enter a log for another."""


class ActivityLogBody(ActivityLogContent):
    """The log of a week; as a draft it satisfies nothing."""

    offering_id: ExternalId
    week: WeekKey
    status: Literal["draft", "submitted"] = "submitted"


class ActivityLogPatchBody(ActivityLogContent):
    """Changes to a log; omitted fields stay."""

    status: Literal["draft", "submitted"] | None = None


class ActivityLogView(ResponseModel):
    """A log; ``late`` if it was received at its deadline or after."""

    id: str
    offering_id: str
    programme_id: str
    facilitator_id: str
    week: str
    status: Literal["draft", "submitted"]
    attendance: list[dict[str, Any]] | None
    grading: dict[str, str] | None
    notes: str | None
    late_reason: str | None
    late: bool | None
    deadline_at: Rfc3339Instant | None
    created_at: Rfc3339Instant
    updated_at: Rfc3339Instant
    submitted_at: Rfc3339Instant | None


class ReportedLog(ResponseModel):
    """A log that is missing, or was received late."""

    user_id: str
    name: str
    offering: str
    submitted_at: Rfc3339Instant | None


class ComplianceCaseView(ResponseModel):
    """A facilitator with missed weeks; ``continuing`` if a warning is open."""

    user_id: str
    name: str
    missed: list[str]
    continuing: bool


class WeeklyReport(ResponseModel):
    """A week's report."""

    programme: str
    week: str
    time_zone: str
    missing: list[ReportedLog]
    late: list[ReportedLog]
    compliance: list[ComplianceCaseView]


def is_manager(identity: Identity, programme: Programme) -> bool:
    """Return whether the caller is one of a programme's managers, by its subject."""
    return identity.has(Role.MANAGER) and identity.subject in programme.managers


def check_read_access(identity: Identity, programme: Programme) -> None:
    """Raise ``NotFound`` unless the caller is staff or manages the programme.

    The answer is that for a programme that does not exist (decision 0053).
    """
    if not identity.has(*STAFF) and not is_manager(identity, programme):
        raise unknown_programme(programme.id)


def router(db: Database, auth: Auth, activity: Activity) -> APIRouter:
    """Return the routes of logs and of the weekly report about them."""
    routes = APIRouter()
    _add_report(routes, db, auth, activity)
    _add_log_reads(routes, db, auth, activity)
    _add_log_writes(routes, db, auth, activity)
    return routes


def _add_report(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    reader: Identity = Depends(auth.require(*STAFF, Role.MANAGER))

    @routes.get("/programmes/{programmeId}/reports/{week}")
    async def get_weekly_report(
        programme_id: ReportedProgrammeId,
        week: Annotated[WeekKey, Path()],
        identity: Identity = reader,
    ) -> WeeklyReport:
        """Return the current content of Tuesday's report on a week, later logs included."""
        async with db.read() as tx:
            programme = await activity.programmes.get(tx, programme_id)
            check_read_access(identity, programme)
            return WeeklyReport(**await build_week_report(tx, programme, parse_week(week)))


async def _activity_log_view(tx: Tx, activity_log: ActivityLog) -> ActivityLogView:
    row = await obligation_store.get_obligation(tx, activity_log.offering_id, activity_log.week_key)
    late = None
    if activity_log.submitted_at is not None and row is not None:
        late = activity_log.submitted_at >= row.deadline_at
    return ActivityLogView(
        id=activity_log.id,
        offering_id=activity_log.offering_id,
        programme_id=activity_log.programme_id,
        facilitator_id=activity_log.facilitator_id,
        week=activity_log.week_key,
        status="draft" if activity_log.status == "draft" else "submitted",
        attendance=activity_log.content.get("attendance"),
        grading=activity_log.content.get("grading"),
        notes=activity_log.content.get("notes"),
        late_reason=activity_log.content.get("lateReason"),
        late=late,
        deadline_at=None if row is None else row.deadline_at,
        created_at=activity_log.created_at,
        updated_at=activity_log.updated_at,
        submitted_at=activity_log.submitted_at,
    )


async def _get_visible_log(
    tx: Tx, activity: Activity, log_id: str, identity: Identity
) -> ActivityLog:
    """Return a log that the caller may see; raise ``NotFound``."""
    log = await activity.logs.get(tx, log_id)
    programme = await activity.programmes.get(tx, log.programme_id)
    is_own = identity.is_learner(log.facilitator_id)
    if not (is_own or identity.has(*STAFF) or is_manager(identity, programme)):
        raise NotFound(f"There is no activity log {log_id!r}.")
    return log


async def _managed_programme_ids(tx: Tx, identity: Identity) -> list[str]:
    if not identity.has(Role.MANAGER):
        return []
    programmes = await store.list_programmes(tx, count=10_000, manager_id=identity.subject)
    return [each.id for each in programmes]


def _add_log_reads(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    reader: Identity = Depends(auth.require(*_READERS))

    @routes.get("/activity-logs")
    async def list_activity_logs(
        paging: PagingQuery,
        offering_id: Annotated[ExternalId | None, Query(alias="offeringId")] = None,
        facilitator_id: Annotated[ExternalId | None, Query(alias="facilitatorId")] = None,
        week: WeekQuery = None,
        identity: Identity = reader,
    ) -> Page[ActivityLogView]:
        """Return logs, newest first: one's own, of managed programmes, or all."""
        key = paging.key(str)
        async with db.read() as tx:
            programme_ids = None
            if not identity.has(*STAFF):
                managed = await _managed_programme_ids(tx, identity)
                is_own = facilitator_id is not None and identity.is_learner(facilitator_id)
                if managed and not is_own:
                    programme_ids = managed
                elif not identity.is_learner(facilitator_id or identity.subject):
                    raise Forbidden("Only staff and managers may list the logs of another person.")
                else:
                    facilitator_id = identity.subject
            rows = await store.list_logs(
                tx,
                facilitator_id=facilitator_id,
                programme_ids=programme_ids,
                offering_id=offering_id,
                week_key=week,
                before_id=None if key is None else key[0],
                count=paging.limit + 1,
            )
            page, cursor = cut_page(rows, paging, lambda one: (one.id,))
            items = [await _activity_log_view(tx, each) for each in page]
        return Page(items=items, next_cursor=cursor)

    @routes.get("/activity-logs/{logId}")
    async def get_activity_log(log_id: LogId, identity: Identity = reader) -> ActivityLogView:
        """Return a log."""
        async with db.read() as tx:
            return await _activity_log_view(
                tx, await _get_visible_log(tx, activity, log_id, identity)
            )


def _add_log_writes(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    writer: Identity = Depends(auth.require(*_WRITERS, Role.MANAGER))

    async def check(
        tx: Tx, identity: Identity, facilitator_id: str, programme_id: str
    ) -> Programme | None:
        """Return the programme for a caller who writes as its manager, None for others.

        Raises ``Forbidden``.
        """
        if identity.has(Role.SERVICE) or identity.is_learner(facilitator_id):
            return None
        programme = await activity.programmes.get(tx, programme_id)
        if not is_manager(identity, programme):
            raise Forbidden(
                "Only its facilitator and managers of its programme may write this log."
            )
        return programme

    async def record_entry(
        tx: Tx, identity: Identity, log: ActivityLog, body: ActivityLogContent
    ) -> None:
        """Audit a log that a manager enters; a missing reason is ``Invalid``."""
        if not (body.late_reason or "").strip():
            fault = {"pointer": "#/lateReason", "code": "missing"}
            raise Invalid(
                "A manager who enters a log for a facilitator gives the reason.",
                hint="Say in lateReason why it was not handed in in time.",
                details={"errors": [{**fault, "detail": "is required of a manager"}]},
            )
        details = {
            "offeringId": log.offering_id,
            "week": log.week_key,
            "reason": body.late_reason,
        }
        await access.record_audit(tx, identity.subject, "activity_log.entered", log.id, details)

    def content(body: ActivityLogContent) -> dict[str, Any]:
        """Return the stored JSON content, under the names of the API."""
        named = set(ActivityLogContent.model_fields) & body.model_fields_set
        return body.model_dump(mode="json", by_alias=True, include=named)

    def check_dates(body: ActivityLogContent, week_key: str) -> None:
        """Raise ``Invalid`` for a session of another week than the log's."""
        for index, session in enumerate(body.attendance or ()):
            held_in = week_of(session.held_on).key
            if held_in != week_key:
                fault = f"{session.held_on} is in {held_in}, and this log is of {week_key}"
                part = {"pointer": f"#/attendance/{index}/heldOn", "detail": fault}
                raise Invalid(
                    f"{fault}.",
                    hint="Correct the date, or write the log of that week.",
                    details={"errors": [{**part, "code": "other_week"}]},
                )

    @routes.post("/activity-logs", status_code=201)
    async def create_activity_log(
        body: ActivityLogBody, identity: Identity = writer
    ) -> ActivityLogView:
        """Store the log of a week. The server's clock decides whether it is late.

        Each session was held in that week. A manager of the programme enters a log for a
        facilitator with a `lateReason`; the audit names both.
        """
        check_dates(body, body.week)
        async with db.write() as tx:
            offering = await activity.logs.offering(tx, body.offering_id)
            if identity.has(Role.MANAGER) and not identity.is_learner(offering.facilitator_id):
                managed = await activity.programmes.get(tx, offering.programme_id)
                if not identity.has(Role.SERVICE) and not is_manager(identity, managed):
                    raise unknown_offering(offering.id)  # decision 0053
            programme = await check(tx, identity, offering.facilitator_id, offering.programme_id)
            activity_log = await activity.logs.write(
                tx, body.offering_id, body.week, body.status, content(body)
            )
            if programme is not None:
                await record_entry(tx, identity, activity_log, body)
            return await _activity_log_view(tx, activity_log)

    @routes.patch("/activity-logs/{logId}")
    async def update_activity_log(
        log_id: LogId, body: ActivityLogPatchBody, identity: Identity = writer
    ) -> ActivityLogView:
        """Change a log, or submit a draft. Edits do not change the time of submission.

        A manager of the programme gives a `lateReason`.
        """
        async with db.write() as tx:
            await activity.logs.lock(tx, log_id)
            log = await _get_visible_log(tx, activity, log_id, identity)
            programme = await check(tx, identity, log.facilitator_id, log.programme_id)
            if programme is not None:
                await record_entry(tx, identity, log, body)
            check_dates(body, log.week_key)
            changed = {**log.content, **content(body)}
            return await _activity_log_view(
                tx, await activity.logs.change(tx, log, body.status, changed)
            )

    @routes.delete("/activity-logs/{logId}", status_code=204)
    async def delete_activity_log(log_id: LogId, identity: Identity = writer) -> None:
        """Delete a log; the obligation that it satisfied is open again."""
        async with db.write() as tx:
            await activity.logs.lock(tx, log_id)
            log = await _get_visible_log(tx, activity, log_id, identity)
            await check(tx, identity, log.facilitator_id, log.programme_id)
            await activity.logs.delete(tx, log, identity.subject)
