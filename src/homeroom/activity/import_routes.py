"""Import of programmes and offerings from CSV."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from homeroom.access.api import record_audit
from homeroom.activity import store
from homeroom.activity.api import Activity, Offering, Programme
from homeroom.activity.routes import OfferingEntry, ProgrammeBody, ProgrammeEntryId
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.identity import Identity, Role
from homeroom.web.csv_import import (
    CSV_REQUEST,
    CheckedRows,
    CsvImportReport,
    ImportPlan,
    check_rows,
    import_rows,
    read_csv_body,
    refuse_faults,
)
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId

MAX_PROGRAMME_ROWS = 1_000
"""Limit of programmes or offerings in one file: each has schedules or obligations to update."""
_PROGRAMME_FIELDS = frozenset(each.name for each in fields(Programme)) - {"id"}


class ProgrammeRow(ProgrammeBody):
    """A row of a file: the body of a programme's PUT with its id."""

    id: ProgrammeEntryId


class OfferingRow(OfferingEntry):
    """A row of a file: the body of an offering's PUT with both ids."""

    programme_id: ExternalId


def router(db: Database, auth: Auth, activity: Activity) -> APIRouter:
    """Return the routes of the imports of programmes and of offerings."""
    routes = APIRouter(prefix="/api/v1/imports", tags=["Facilitators"])
    writer: Identity = Depends(auth.require(Role.SERVICE))

    @routes.post("/programmes", openapi_extra=dict(CSV_REQUEST))
    async def import_programmes_csv(
        request: Request,
        dry_run: Annotated[bool, Query(alias="dryRun")] = False,
        identity: Identity = writer,
    ) -> CsvImportReport:
        """Store programmes from CSV, all or none; the same file again changes nothing.

        The columns are the fields of a programme. A column that the file does not have stays as it
        is stored. With `dryRun=true` nothing is stored.
        """
        content = await read_csv_body(request)
        report = await import_programmes(db, activity, content, identity.subject, dry_run=dry_run)
        return refuse_faults(report)

    @routes.post("/offerings", openapi_extra=dict(CSV_REQUEST))
    async def import_offerings_csv(
        request: Request,
        dry_run: Annotated[bool, Query(alias="dryRun")] = False,
        identity: Identity = writer,
    ) -> CsvImportReport:
        """Store offerings from CSV, all or none; the same file again changes nothing.

        The columns are the fields of an offering; their programmes exist already. With
        `dryRun=true` nothing is stored.
        """
        content = await read_csv_body(request)
        report = await import_offerings(db, activity, content, identity.subject, dry_run=dry_run)
        return refuse_faults(report)

    return routes


async def import_programmes(
    db: Database, activity: Activity, content: bytes, actor: str, *, dry_run: bool
) -> CsvImportReport:
    """Store the programmes of a CSV file in one commit, or none if one is faulty."""
    checked = await asyncio.to_thread(
        check_rows, content, ProgrammeRow, lambda row: (row.id,), MAX_PROGRAMME_ROWS
    )

    async def plan(tx: Tx) -> ImportPlan[Programme]:
        return await _plan_programmes(tx, checked)

    async def store_all(tx: Tx, plan: ImportPlan[Programme]) -> None:
        for programme in plan.writes:
            await activity.programmes.put(tx, programme, actor)
        await _audit(tx, actor, "programmes", plan)

    return await import_rows(db, checked, plan, store_all, dry_run=dry_run)


async def import_offerings(
    db: Database, activity: Activity, content: bytes, actor: str, *, dry_run: bool
) -> CsvImportReport:
    """Store the offerings of a CSV file in one commit, or none if one is faulty."""
    checked = await asyncio.to_thread(
        check_rows, content, OfferingRow, lambda row: (row.id,), MAX_PROGRAMME_ROWS
    )

    async def plan(tx: Tx) -> ImportPlan[Offering]:
        return await _plan_offerings(tx, checked)

    async def store_all(tx: Tx, plan: ImportPlan[Offering]) -> None:
        by_programme: dict[str, list[Offering]] = {}
        for offering in plan.writes:
            by_programme.setdefault(offering.programme_id, []).append(offering)
        for programme_id, offerings in by_programme.items():
            await activity.programmes.put_offerings(tx, programme_id, offerings, actor)
        await _audit(tx, actor, "offerings", plan)

    return await import_rows(db, checked, plan, store_all, dry_run=dry_run)


async def _audit(
    tx: Tx, actor: str, kind: str, plan: ImportPlan[Programme] | ImportPlan[Offering]
) -> None:
    counts = {"added": len(plan.added), "changed": len(plan.changed)}
    await record_audit(tx, actor, f"{kind}.imported", kind, counts)


async def _plan_programmes(tx: Tx, checked: CheckedRows[ProgrammeRow]) -> ImportPlan[Programme]:
    plan: ImportPlan[Programme] = ImportPlan([], [], 0, [])
    unchanged = 0
    for row in checked.rows:
        body = row.body.model_dump()
        body["managers"] = tuple(dict.fromkeys(body["managers"]))
        programme = Programme(**body)
        before = await store.get_programme(tx, programme.id)
        if before is None:
            plan.added.append(programme)
            continue
        kept = _PROGRAMME_FIELDS - row.body.model_fields_set
        programme = replace(programme, **{name: getattr(before, name) for name in kept})
        if programme == before:
            unchanged += 1
        else:
            plan.changed.append(programme)
    return replace(plan, unchanged=unchanged)


async def _plan_offerings(tx: Tx, checked: CheckedRows[OfferingRow]) -> ImportPlan[Offering]:
    plan: ImportPlan[Offering] = ImportPlan([], [], 0, [])
    unchanged = 0
    programmes: dict[str, bool] = {}
    for row in checked.rows:
        offering = Offering(**row.body.model_dump())
        programme_id = offering.programme_id
        if programme_id not in programmes:
            programmes[programme_id] = await store.get_programme(tx, programme_id) is not None
        before = await store.get_offering(tx, offering.id)
        if not programmes[programme_id]:
            detail = f"there is no programme {programme_id!r}; import the programmes first"
            plan.faults.append(row.fault("programmeId", detail))
        elif before is None:
            plan.added.append(offering)
        elif before.programme_id != programme_id:
            detail = f"the offering belongs to the programme {before.programme_id!r}"
            plan.faults.append(row.fault("programmeId", detail))
        elif before == offering:
            unchanged += 1
        else:
            plan.changed.append(offering)
    return replace(plan, unchanged=unchanged)
