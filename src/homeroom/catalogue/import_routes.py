"""Import of enrolments from CSV."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from homeroom.access.api import record_audit
from homeroom.catalogue import api
from homeroom.catalogue.api import Catalogue, Course, Enrolment, LearnerCourse
from homeroom.catalogue.routes import EnrolmentBody
from homeroom.db.bulk import bulk_tx
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

ROWS_PER_COMMIT = 100
"""Enrolments of one transaction, so that events of learners wait 0.3 s at most (decision 0057)."""


class EnrolmentRow(EnrolmentBody):
    """A row of a file: the ids of an enrolment and its options."""

    course_id: ExternalId
    user_id: ExternalId


def router(db: Database, auth: Auth, catalogue: Catalogue) -> APIRouter:
    """Return the route of the import of enrolments."""
    routes = APIRouter(prefix="/api/v1/imports", tags=["Catalogue"])
    writer: Identity = Depends(auth.require(Role.SERVICE, Role.AUTHOR))

    @routes.post("/enrolments", openapi_extra=dict(CSV_REQUEST))
    async def import_enrolments_csv(
        request: Request,
        dry_run: Annotated[bool, Query(alias="dryRun")] = False,
        identity: Identity = writer,
    ) -> CsvImportReport:
        """Enrol learners from CSV, none if there is a fault; existing enrolments stay.

        The columns are `courseId`, `userId` and, for the role service, `approved`. Rows are stored
        100 at a time: after an interruption the same file enrols the rest. With `dryRun=true`
        nothing is stored.
        """
        content = await read_csv_body(request)
        report = await import_enrolments(
            db,
            catalogue,
            content,
            identity.subject,
            may_approve=identity.has(Role.SERVICE),
            dry_run=dry_run,
        )
        return refuse_faults(report)

    return routes


async def import_enrolments(
    db: Database,
    catalogue: Catalogue,
    content: bytes,
    actor: str,
    *,
    may_approve: bool,
    dry_run: bool,
) -> CsvImportReport:
    """Enrol the learners of a CSV file, 100 a commit, or none if one is faulty."""
    checked = await asyncio.to_thread(
        check_rows, content, EnrolmentRow, lambda row: (row.course_id, row.user_id)
    )

    async def plan(tx: Tx) -> ImportPlan[EnrolmentRow]:
        ids = {row.body.course_id for row in checked.rows}
        current = await bulk_tx(tx).fetch_batch(api.current_versions_read(ids))
        courses, archived = await api.load_courses(tx, current), api.archived_courses(current)
        pairs = {(row.body.user_id, row.body.course_id) for row in checked.rows}
        stored = await api.enrolments(tx, pairs) if pairs else {}
        return _plan(checked, courses, archived, stored, may_approve)

    async def enrol_all(tx: Tx, plan: ImportPlan[EnrolmentRow]) -> None:
        await api.lock_learners(tx, {row.user_id for row in plan.writes})
        for row in plan.writes:
            await catalogue.enrol(tx, row.course_id, row.user_id, row.approved)
        counts = {"rows": len(plan.writes)}
        await record_audit(tx, actor, "enrolments.imported", "enrolments", counts)

    return await import_rows(
        db, checked, plan, enrol_all, dry_run=dry_run, rows_per_commit=ROWS_PER_COMMIT
    )


def _plan(
    checked: CheckedRows[EnrolmentRow],
    courses: Mapping[str, Course],
    archived: Collection[str],
    stored: Mapping[LearnerCourse, list[Enrolment]],
    may_approve: bool,
) -> ImportPlan[EnrolmentRow]:
    added, changed, unchanged = [], [], 0
    faults = []
    for row in checked.rows:
        body = row.body
        if body.course_id not in courses:
            faults.append(row.fault("courseId", f"there is no course {body.course_id!r}"))
            continue
        if body.approved is not None and not may_approve:
            faults.append(row.fault("approved", "approving an enrolment needs the role service"))
            continue
        attempts = stored.get((body.user_id, body.course_id))
        is_ended = attempts is not None and attempts[-1].ended_at is not None
        if body.course_id in archived and (is_ended or not attempts):
            detail = f"the course {body.course_id!r} is archived and takes no new enrolments"
            faults.append(row.fault("courseId", detail))
        elif not attempts:
            added.append(body)
        elif is_ended:
            changed.append(body)
        elif body.approved is None or body.approved == attempts[-1].approved:
            unchanged += 1
        else:
            changed.append(body)
    return ImportPlan(added, changed, unchanged, faults)
