"""Activity logs over HTTP: facilitators write their own, managers read their programmes'."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AfterValidator, Field

from homeroom.activity import ledger, store
from homeroom.activity.api import Activity, Log, Programme, parse_week
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Forbidden, NotFound
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Instant, OutsideId, View
from homeroom.web.paging import Page, PagingQuery, page

_MOST_SESSIONS = 200
_STAFF = (Role.SERVICE, Role.OPERATOR, Role.VIEWER)
_WRITERS = (Role.SERVICE, Role.FACILITATOR)
_READERS = (*_STAFF, Role.MANAGER, Role.FACILITATOR)


def _week(text: str) -> str:
    return parse_week(text).key


LogId = Annotated[OutsideId, Path(alias="logId")]
WeekKey = Annotated[str, AfterValidator(_week)]
WeekQuery = Annotated[WeekKey | None, Query()]
Grade = Literal["not_started", "pending", "done"]


class Attendance(Body):
    """One session: when it was, who was expected and who was there."""

    held_on: date
    present: Annotated[int, Field(ge=0, le=100_000)]
    expected: Annotated[int | None, Field(ge=0, le=100_000)] = None


class LogContent(Body):
    """What a facilitator writes of a week."""

    attendance: Annotated[list[Attendance] | None, Field(max_length=_MOST_SESSIONS)] = None
    grading: Annotated[
        dict[Annotated[str, Field(max_length=100)], Grade] | None, Field(max_length=50)
    ] = None
    notes: Annotated[str | None, Field(max_length=10_000)] = None


class LogBody(LogContent):
    """The log of a week; as a draft it satisfies nothing."""

    offering_id: OutsideId
    week: WeekKey
    status: Literal["draft", "submitted"] = "submitted"


class LogChange(LogContent):
    """What changes in a log; what is left out stays."""

    status: Literal["draft", "submitted"] | None = None


class LogView(View):
    """A log; ``late`` says whether it came at its deadline or after."""

    id: str
    offering_id: str
    programme_id: str
    facilitator_id: str
    week: str
    status: Literal["draft", "submitted"]
    attendance: list[dict[str, Any]] | None
    grading: dict[str, str] | None
    notes: str | None
    late: bool | None
    deadline_at: Instant | None
    created_at: Instant
    updated_at: Instant
    submitted_at: Instant | None


def manages(identity: Identity, programme: Programme) -> bool:
    """Say whether somebody is one of a programme's managers."""
    return (
        identity.has(Role.MANAGER)
        and identity.via == "jwt"
        and identity.subject in programme.managers
    )


def router(db: Database, auth: Auth, activity: Activity) -> APIRouter:
    """Return the routes of logs."""
    routes = APIRouter()
    _add_log_reads(routes, db, auth, activity)
    _add_log_writes(routes, db, auth, activity)
    return routes


async def _log(tx: Tx, found: Log) -> LogView:
    row = await ledger.one(tx, found.offering_id, found.week_key)
    late = None
    if found.submitted_at is not None and row is not None:
        late = found.submitted_at >= row.deadline_at
    return LogView(
        id=found.id,
        offering_id=found.offering_id,
        programme_id=found.programme_id,
        facilitator_id=found.facilitator_id,
        week=found.week_key,
        status="draft" if found.status == "draft" else "submitted",
        attendance=found.content.get("attendance"),
        grading=found.content.get("grading"),
        notes=found.content.get("notes"),
        late=late,
        deadline_at=None if row is None else row.deadline_at,
        created_at=found.created_at,
        updated_at=found.updated_at,
        submitted_at=found.submitted_at,
    )


async def _visible(tx: Tx, activity: Activity, log_id: str, identity: Identity) -> Log:
    """Return a log to whom it belongs, to its managers and to staff; else ``NotFound``."""
    log = await activity.logs.get(tx, log_id)
    programme = await activity.programmes.get(tx, log.programme_id)
    mine = identity.is_person(log.facilitator_id)
    if not (mine or identity.has(*_STAFF) or manages(identity, programme)):
        raise NotFound(f"There is no activity log {log_id!r}.")
    return log


def _add_log_reads(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    reader: Identity = Depends(auth.require(*_READERS))

    @routes.get("/activity-logs")
    async def list_logs(
        paging: PagingQuery,
        offering_id: Annotated[OutsideId | None, Query(alias="offeringId")] = None,
        facilitator_id: Annotated[OutsideId | None, Query(alias="facilitatorId")] = None,
        week: WeekQuery = None,
        identity: Identity = reader,
    ) -> Page[LogView]:
        """Return logs, newest first: one's own, those of a manager's programmes, or all."""
        key = paging.key(str)
        async with db.read() as tx:
            programme_ids = None
            if not identity.has(*_STAFF):
                managed = [
                    each.id
                    for each in await store.programmes(tx, count=10_000)
                    if manages(identity, each)
                ]
                mine = facilitator_id is not None and identity.is_person(facilitator_id)
                if managed and not mine:
                    programme_ids = managed
                elif not identity.is_person(facilitator_id or identity.subject):
                    raise Forbidden("These logs belong to another person.")
                else:
                    facilitator_id = identity.subject
            found = await store.newest_logs(
                tx,
                facilitator_id=facilitator_id,
                programme_ids=programme_ids,
                offering_id=offering_id,
                week_key=week,
                before_id=None if key is None else key[0],
                count=paging.limit + 1,
            )
            kept, cursor = page(found, paging, lambda one: (one.id,))
            items = [await _log(tx, each) for each in kept]
        return Page(items=items, next_cursor=cursor)

    @routes.get("/activity-logs/{logId}")
    async def get_log(log_id: LogId, identity: Identity = reader) -> LogView:
        """Return a log."""
        async with db.read() as tx:
            return await _log(tx, await _visible(tx, activity, log_id, identity))


def _add_log_writes(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    writer: Identity = Depends(auth.require(*_WRITERS))
    remover: Identity = Depends(auth.require(*_WRITERS, Role.MANAGER))

    def check(identity: Identity, facilitator_id: str) -> None:
        if not identity.has(Role.SERVICE) and not identity.is_person(facilitator_id):
            raise Forbidden("Only its facilitator writes this log.")

    def content(body: LogContent) -> dict[str, Any]:
        """Return what is kept as JSON, under the names of the wire."""
        named = {"attendance", "grading", "notes"} & body.model_fields_set
        return body.model_dump(mode="json", by_alias=True, include=named)

    @routes.post("/activity-logs", status_code=201)
    async def write_log(body: LogBody, identity: Identity = writer) -> LogView:
        """Store the log of a week. Whether it is late, this server's clock says."""
        async with db.write() as tx:
            offering = await activity.logs.offering(tx, body.offering_id)
            check(identity, offering.facilitator_id)
            made = await activity.logs.write(
                tx, body.offering_id, body.week, body.status, content(body)
            )
            return await _log(tx, made)

    @routes.patch("/activity-logs/{logId}")
    async def change_log(log_id: LogId, body: LogChange, identity: Identity = writer) -> LogView:
        """Change a log, or hand in a draft. When it was handed in does not change by edits."""
        async with db.write() as tx:
            await activity.logs.hold(tx, log_id)
            log = await _visible(tx, activity, log_id, identity)
            check(identity, log.facilitator_id)
            changed = {**log.content, **content(body)}
            return await _log(tx, await activity.logs.change(tx, log, body.status, changed))

    @routes.delete("/activity-logs/{logId}", status_code=204)
    async def delete_log(log_id: LogId, identity: Identity = remover) -> None:
        """Delete a log; what it satisfied is owed again."""
        async with db.write() as tx:
            await activity.logs.hold(tx, log_id)
            log = await _visible(tx, activity, log_id, identity)
            programme = await activity.programmes.get(tx, log.programme_id)
            if not manages(identity, programme):
                check(identity, log.facilitator_id)
            await activity.logs.delete(tx, log, identity.subject)
