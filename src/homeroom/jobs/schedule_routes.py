"""HTTP routes of schedules: viewers read, operators run, change and pause."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from homeroom.db.database import Database
from homeroom.identity import Identity, Role
from homeroom.jobs import schedule_store
from homeroom.jobs.api import schedule_fields
from homeroom.jobs.handler import Registry
from homeroom.jobs.job_actions import AuditRecorder
from homeroom.redaction import redact_json
from homeroom.web.identity import Auth
from homeroom.web.model import PathId, RequestModel, ResponseModel, Rfc3339Instant


class ScheduleSlotView(ResponseModel):
    """A slot of a schedule that was fired or missed."""

    slot: str
    state: Literal["fired", "missed"]
    slot_at: Rfc3339Instant
    fired_at: Rfc3339Instant
    late_seconds: float
    job_id: str | None


class ScheduleView(ResponseModel):
    """A schedule with its last slots."""

    name: str
    cron: str
    time_zone: str
    job_name: str
    paused: bool
    catch_up_seconds: float
    next_at: Rfc3339Instant | None
    slots: list[ScheduleSlotView]


class ScheduleBody(RequestModel):
    """The times of a schedule; members that are left out stay unchanged."""

    cron: Annotated[str | None, Field(max_length=200)] = None
    time_zone: Annotated[str | None, Field(max_length=100)] = None
    catch_up_seconds: Annotated[float | None, Field(ge=0, le=31_536_000)] = None


class ScheduleRunView(ResponseModel):
    """A run of a schedule; a dry run has ``preview`` and no job."""

    schedule: str
    slot: str
    slot_at: Rfc3339Instant
    dry_run: bool
    job_id: str | None
    preview: Any


class UpcomingSlotView(ResponseModel):
    """The coming slot of a schedule, and what its job would do as of now."""

    schedule: str
    paused: bool
    slot: Annotated[str | None, Field(description="Null: it is paused or has no further slot.")]
    slot_at: Rfc3339Instant | None
    preview: Any


def router(db: Database, auth: Auth, registry: Registry, record: AuditRecorder) -> APIRouter:
    """Return the routes of schedules; ``record`` writes audit lines."""
    routes = APIRouter()
    _add_schedule_list(routes, db, auth)
    _add_upcoming_slots(routes, db, auth, registry)
    _add_schedule_run(routes, db, auth, registry, record)
    _add_schedule_changes(routes, db, auth, record)
    return routes


def _add_schedule_list(routes: APIRouter, db: Database, auth: Auth) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]

    @routes.get("/schedules", dependencies=reads)
    async def list_schedules() -> list[ScheduleView]:
        """List the schedules with their next slot and the results of the last ones."""
        async with db.read() as tx:
            schedules = await schedule_store.schedules(tx)
            slots = {
                schedule.name: await schedule_store.fired_slots(tx, schedule.name, limit=10)
                for schedule in schedules
            }
        return [
            ScheduleView.model_validate(schedule_fields(schedule, slots[schedule.name]))
            for schedule in schedules
        ]


def _add_upcoming_slots(routes: APIRouter, db: Database, auth: Auth, registry: Registry) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]

    @routes.get("/schedules/next", dependencies=reads)
    async def list_upcoming_slots(
        schedule: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> list[UpcomingSlotView]:
        """List what the coming slots would send, to whom, and why not to others.

        The answer is as of now: as if nothing changed until the slot. Only schedules that write to
        people have such a preview. Nothing is stored.
        """
        names = [schedule]
        if schedule is None:
            async with db.read() as tx:
                found = await schedule_store.list_upcoming_schedules(tx, registry, limit)
            names = [each.name for each in found]
        views = []
        for name in filter(None, names):
            async with db.read() as tx:  # one each: a read lives for some seconds at most
                upcoming = await schedule_store.preview_next_slot(tx, registry, name)
            views.append(_upcoming_slot_view(upcoming))
        return views


def _upcoming_slot_view(upcoming: schedule_store.UpcomingSlot) -> UpcomingSlotView:
    slot = upcoming.slot
    return UpcomingSlotView(
        schedule=upcoming.schedule.name,
        paused=upcoming.schedule.paused,
        slot=None if slot is None else slot.name,
        slot_at=None if slot is None else slot.at,
        preview=redact_json(upcoming.preview),
    )


def _add_schedule_run(
    routes: APIRouter, db: Database, auth: Auth, registry: Registry, record: AuditRecorder
) -> None:
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.post("/schedules/{name}/run")
    async def run_schedule(
        name: PathId,
        dry_run: Annotated[bool, Query(alias="dryRun")] = False,
        identity: Identity = operator,
    ) -> ScheduleRunView:
        """Run the latest slot now, or with `dryRun` preview what the run would do."""
        if dry_run:
            async with db.read() as tx:
                slot, preview = await schedule_store.preview_schedule(tx, registry, name)
            return ScheduleRunView(
                schedule=name,
                slot=slot.name,
                slot_at=slot.at,
                dry_run=True,
                job_id=None,
                preview=redact_json(preview),
            )
        async with db.write() as tx:
            slot_record = await schedule_store.run_schedule_now(tx, registry, name)
            await record(tx, identity.subject, "schedule.run", name, {"slot": slot_record.slot})
        return ScheduleRunView(
            schedule=name,
            slot=slot_record.slot,
            slot_at=slot_record.slot_at,
            dry_run=False,
            job_id=slot_record.job,
            preview=None,
        )


def _add_schedule_changes(
    routes: APIRouter, db: Database, auth: Auth, record: AuditRecorder
) -> None:
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    async def read_view(name: str) -> ScheduleView:
        async with db.read() as tx:
            schedule = await schedule_store.get_schedule(tx, name)
            slots = await schedule_store.fired_slots(tx, name, limit=10)
        return ScheduleView.model_validate(schedule_fields(schedule, slots))

    @routes.put("/schedules/{name}")
    async def update_schedule(
        name: PathId, body: ScheduleBody, identity: Identity = operator
    ) -> ScheduleView:
        """Change the times of a schedule; a new cron or zone begins now."""
        window = None
        if body.catch_up_seconds is not None:
            window = timedelta(seconds=body.catch_up_seconds)
        async with db.write() as tx:
            await schedule_store.change_schedule(
                tx, name, cron=body.cron, time_zone=body.time_zone, catch_up=window
            )
            details = body.model_dump(mode="json", by_alias=True, exclude_none=True)
            await record(tx, identity.subject, "schedule.changed", name, details)
        return await read_view(name)

    @routes.post("/schedules/{name}/pause")
    async def pause_schedule(name: PathId, identity: Identity = operator) -> ScheduleView:
        """Stop firing slots until the schedule is resumed."""
        async with db.write() as tx:
            await schedule_store.pause_schedule(tx, name)
            await record(tx, identity.subject, "schedule.paused", name)
        return await read_view(name)

    @routes.post("/schedules/{name}/resume")
    async def resume_schedule(name: PathId, identity: Identity = operator) -> ScheduleView:
        """Fire slots again from now on; those of the pause are skipped."""
        async with db.write() as tx:
            await schedule_store.resume_schedule(tx, name)
            await record(tx, identity.subject, "schedule.resumed", name)
        return await read_view(name)
