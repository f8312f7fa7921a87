"""Import of people from CSV."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from homeroom.access import api as access
from homeroom.csv_table import CsvFault
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import HomeroomError
from homeroom.identity import Identity, Role
from homeroom.people import api
from homeroom.people.api import Person
from homeroom.people.routes import PersonBody, build_person
from homeroom.web.csv_import import (
    CSV_REQUEST,
    CheckedRow,
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

__all__ = ["CsvImportReport", "PersonRow", "import_people", "router"]
_PERSON_FIELDS = frozenset(each.name for each in fields(Person)) - {"id"}


class PersonRow(PersonBody):
    """A row of a file: the body of a person's PUT with the id."""

    user_id: ExternalId


def router(db: Database, auth: Auth) -> APIRouter:
    """Return the route of the import of people."""
    routes = APIRouter(prefix="/api/v1/imports", tags=["People"])
    writer: Identity = Depends(auth.require(Role.SERVICE))

    @routes.post("/people", openapi_extra=dict(CSV_REQUEST))
    async def import_people_csv(
        request: Request,
        dry_run: Annotated[bool, Query(alias="dryRun")] = False,
        identity: Identity = writer,
    ) -> CsvImportReport:
        """Store people from CSV, all or none; the same file again changes nothing.

        The columns are the fields of a person. A column that the file does not have stays as it is
        stored, and an empty cell clears the value. With `dryRun=true` nothing is stored.
        """
        content = await read_csv_body(request)
        report = await import_people(
            db,
            content,
            identity.subject,
            may_give_admin=identity.has(Role.ADMIN),
            dry_run=dry_run,
        )
        return refuse_faults(report)

    return routes


async def import_people(
    db: Database, content: bytes, actor: str, *, may_give_admin: bool, dry_run: bool
) -> CsvImportReport:
    """Store the people of a CSV file in one transaction, or none if there is a fault."""
    checked = await asyncio.to_thread(check_rows, content, PersonRow, lambda row: (row.user_id,))
    ids = [row.body.user_id for row in checked.rows]

    async def plan(tx: Tx) -> ImportPlan[Person]:
        return _plan(checked, await api.find(tx, ids), may_give_admin)

    async def lock(tx: Tx) -> None:
        await api.find_locked(tx, ids)

    async def store_all(tx: Tx, plan: ImportPlan[Person]) -> None:
        await api.put_all(tx, plan.writes)
        counts = {"added": len(plan.added), "changed": len(plan.changed)}
        await access.record_audit(tx, actor, "people.imported", "people", counts)

    return await import_rows(db, checked, plan, store_all, dry_run=dry_run, lock=lock)


def _plan(
    checked: CheckedRows[PersonRow], stored: Mapping[str, Person], may_give_admin: bool
) -> ImportPlan[Person]:
    plan: ImportPlan[Person] = ImportPlan([], [], 0, [])
    unchanged = 0
    for row in checked.rows:
        before = stored.get(row.body.user_id)
        try:
            person = build_person(row.body.user_id, row.body, may_give_admin=may_give_admin)
        except HomeroomError as error:
            plan.faults.append(_rule_fault(row, error))
            continue
        if before is None:
            plan.added.append(person)
            continue
        kept = _PERSON_FIELDS - row.body.model_fields_set
        person = replace(person, **{name: getattr(before, name) for name in kept})
        if person == before:
            unchanged += 1
        else:
            plan.changed.append(person)
    return replace(plan, unchanged=unchanged)


def _rule_fault(row: CheckedRow[PersonRow], error: HomeroomError) -> CsvFault:
    """Return the fault of a rule that concerns two values of a person."""
    column = "managerId" if row.body.manager_id == row.body.user_id else "roles"
    return row.fault(column, error.message)
