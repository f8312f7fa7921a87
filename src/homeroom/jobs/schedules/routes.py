"""Schedules over HTTP: viewers read, operators run, change and pause."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from homeroom.db.database import Database
from homeroom.jobs import schedule_store
from homeroom.jobs.handler import Registry
from homeroom.jobs.record import Record
from homeroom.jobs.redact import redact
from homeroom.jobs.show import schedule_fields
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Instant, PathId, View


class SlotView(View):
    """What became of a slot of a schedule."""

    slot: str
    state: Literal["fired", "missed"]
    slot_at: Instant
    fired_at: Instant
    late_seconds: float
    job_id: str | None


class ScheduleView(View):
    """A schedule with its last slots."""

    name: str
    cron: str
    time_zone: str
    job_name: str
    paused: bool
    catch_up_seconds: float
    next_at: Instant | None
    slots: list[SlotView]


class ScheduleBody(Body):
    """When a schedule is to fire; what is left out stays as it is."""

    cron: Annotated[str | None, Field(max_length=200)] = None
    time_zone: Annotated[str | None, Field(max_length=100)] = None
    catch_up_seconds: Annotated[float | None, Field(ge=0, le=31_536_000)] = None


class RunView(View):
    """A run that was asked for; a dry one has ``preview`` and no job."""

    schedule: str
    slot: str
    slot_at: Instant
    dry_run: bool
    job_id: str | None
    preview: Any


def router(db: Database, auth: Auth, registry: Registry, record: Record) -> APIRouter:
    """Return the routes of schedules; ``record`` notes what operators did."""
    routes = APIRouter()
    _add_list(routes, db, auth)
    _add_schedule_actions(routes, db, auth, registry, record)
    return routes


def _add_list(routes: APIRouter, db: Database, auth: Auth) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]

    @routes.get("/schedules", dependencies=reads)
    async def list_schedules() -> list[ScheduleView]:
        """List the schedules with their next slot and what became of the last ones."""
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


def _add_schedule_actions(
    routes: APIRouter, db: Database, auth: Auth, registry: Registry, record: Record
) -> None:
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    async def shown(name: str) -> ScheduleView:
        async with db.read() as tx:
            found = await schedule_store.get_schedule(tx, name)
            slots = await schedule_store.fired_slots(tx, name, limit=10)
        return ScheduleView.model_validate(schedule_fields(found, slots))

    @routes.post("/schedules/{name}/run")
    async def run_schedule(
        name: PathId,
        dry_run: Annotated[bool, Query(alias="dryRun")] = False,
        identity: Identity = operator,
    ) -> RunView:
        """Run the latest slot now, or say with `dryRun` who would get what and who would not."""
        if dry_run:
            async with db.read() as tx:
                slot, found = await schedule_store.preview(tx, registry, name)
            return RunView(
                schedule=name,
                slot=slot.name,
                slot_at=slot.at,
                dry_run=True,
                job_id=None,
                preview=redact(found),
            )
        async with db.write() as tx:
            taken = await schedule_store.run_now(tx, registry, name)
            await record(tx, identity.subject, "schedule.run", name, {"slot": taken.slot})
        return RunView(
            schedule=name,
            slot=taken.slot,
            slot_at=taken.slot_at,
            dry_run=False,
            job_id=taken.job,
            preview=None,
        )

    @routes.put("/schedules/{name}")
    async def change_schedule(
        name: PathId, body: ScheduleBody, identity: Identity = operator
    ) -> ScheduleView:
        """Change when a schedule fires; a new cron or zone counts from now on."""
        window = None
        if body.catch_up_seconds is not None:
            window = timedelta(seconds=body.catch_up_seconds)
        async with db.write() as tx:
            await schedule_store.change_schedule(
                tx, name, cron=body.cron, time_zone=body.time_zone, catch_up=window
            )
            details = body.model_dump(mode="json", by_alias=True, exclude_none=True)
            await record(tx, identity.subject, "schedule.changed", name, details)
        return await shown(name)

    @routes.post("/schedules/{name}/pause")
    async def pause_schedule(name: PathId, identity: Identity = operator) -> ScheduleView:
        """Let no slot fire until the schedule is resumed."""
        async with db.write() as tx:
            await schedule_store.pause_schedule(tx, name)
            await record(tx, identity.subject, "schedule.paused", name)
        return await shown(name)

    @routes.post("/schedules/{name}/resume")
    async def resume_schedule(name: PathId, identity: Identity = operator) -> ScheduleView:
        """Let slots fire again from now on; those of the pause are left out."""
        async with db.write() as tx:
            await schedule_store.resume_schedule(tx, name)
            await record(tx, identity.subject, "schedule.resumed", name)
        return await shown(name)
