"""Completions, their steps and the report of them over HTTP (API page, "Completion")."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from homeroom.access import api as access
from homeroom.clock import from_datetime
from homeroom.completion import report
from homeroom.completion.api import Completion, Completions, Filter, StepState, StepStatus
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Forbidden, Invalid, NotFound
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Instant, OutsideId, View
from homeroom.web.paging import Page, PagingQuery, page

_STAFF = (Role.SERVICE, Role.OPERATOR, Role.VIEWER, Role.MANAGER)
_READ = (*_STAFF, Role.LEARNER, Role.FACILITATOR)
CompletionId = Annotated[OutsideId, Path(alias="completionId")]


class StepView(View):
    """One thing that must follow a completion."""

    name: str
    status: StepStatus
    job_id: str | None
    attempts: int
    last_error: str | None
    skip_reason: str | None
    external_id: str | None
    finished_at: Instant | None


class ChapterView(View):
    """A chapter as it stood at completion."""

    chapter_id: str
    progress: float
    """Percent."""
    time_spent: int
    completed: bool


class NoteView(View):
    """An audit line."""

    at: Instant
    text: str


class CompletionView(View):
    """A completion. Times are RFC 3339, the score is 0 to 1 or null, time spent is in seconds."""

    id: str
    user_id: str
    course_id: str
    course_title: str
    course_version: int
    attempt: int
    completed_at: Instant
    recorded_at: Instant
    score: float | None
    time_spent: int
    superseded_by: str | None
    steps: list[StepView]


class CompletionDetail(CompletionView):
    """A completion with what it was based on."""

    chapters: list[ChapterView]
    notes: list[NoteView]


def router(db: Database, auth: Auth, completions: Completions) -> APIRouter:
    """Return the routes of completions."""
    routes = APIRouter(prefix="/api/v1", tags=["Completion"])
    _add_completion_routes(routes, db, auth, completions)
    _add_report_route(routes, db, auth, completions)
    return routes


def _add_completion_routes(
    routes: APIRouter, db: Database, auth: Auth, completions: Completions
) -> None:
    reader: Identity = Depends(auth.require(*_READ))
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.get("/completions")
    async def list_completions(
        paging: PagingQuery,
        user_id: Annotated[OutsideId | None, Query(alias="userId")] = None,
        course_id: Annotated[OutsideId | None, Query(alias="courseId")] = None,
        since: Annotated[AwareDatetime | None, Query(description="By recordedAt.")] = None,
        identity: Identity = reader,
    ) -> Page[CompletionView]:
        """List completions, the last recorded first. A learner sees their own."""
        wanted = Filter(
            user_id=_whose(identity, user_id),
            course_id=course_id,
            recorded_since=None if since is None else from_datetime(since),
        )
        key = paging.key(int, str)
        before = None if key is None else (int(key[0]), str(key[1]))
        async with db.read() as tx:
            found = await completions.newest(tx, wanted, before, paging.limit + 1)
            kept, cursor = page(found, paging, lambda each: [each.recorded_at, each.id])
            steps = await completions.steps_of(tx, [each.id for each in kept])
        items = [CompletionView.model_validate(_members(each, steps[each.id])) for each in kept]
        return Page[CompletionView](items=items, next_cursor=cursor)

    @routes.get("/completions/{completionId}")
    async def get_completion(
        completion_id: CompletionId, identity: Identity = reader
    ) -> CompletionDetail:
        """Return a completion with its steps, its chapters and its audit lines."""
        async with db.read() as tx:
            found = await completions.get(tx, completion_id)
            if not identity.is_person(found.user_id) and not identity.has(*_STAFF):
                raise NotFound(f"There is no completion {completion_id!r}.")
            return await _detail(tx, completions, found)

    @routes.post("/completions/{completionId}/steps/{name}/retry")
    async def retry_step(
        completion_id: CompletionId,
        name: Annotated[str, Path(max_length=64)],
        identity: Identity = operator,
    ) -> CompletionDetail:
        """Do a step again that failed, or whose reason to be skipped is gone; 409 otherwise."""
        async with db.write() as tx:
            await completions.retry_step(tx, completion_id, name)
            details = {"step": name}
            await access.record(tx, identity.subject, "step.retried", completion_id, details)
        async with db.read() as tx:
            return await _detail(tx, completions, await completions.get(tx, completion_id))


def _add_report_route(
    routes: APIRouter, db: Database, auth: Auth, completions: Completions
) -> None:
    reader = Depends(auth.require(*_STAFF))

    @routes.get(
        "/reports/completions.csv",
        dependencies=[reader],
        response_class=StreamingResponse,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    )
    async def completions_csv(
        first: Annotated[str | None, Query(alias="from", max_length=40)] = None,
        last: Annotated[str | None, Query(alias="to", max_length=40)] = None,
    ) -> StreamingResponse:
        """Stream the completions of a period as CSV, by date of completion.

        `from` and `to` are dates (UTC; `to` is included as a whole) or RFC 3339 times.
        """
        try:
            wanted = report.period(first, last)
        except ValueError as error:
            raise Invalid(str(error)) from error
        return StreamingResponse(
            report.lines(db, completions, wanted),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="completions.csv"'},
        )


def _whose(identity: Identity, user_id: str | None) -> str | None:
    """Return whose completions are meant; raise ``Forbidden`` where they are somebody else's."""
    if user_id is not None:
        identity.check_reads(user_id)
        return user_id
    if identity.has(*_STAFF):
        return None
    if identity.via != "jwt":
        raise Forbidden("Say whose completions, in userId.")
    return identity.subject


async def _detail(tx: Tx, completions: Completions, found: Completion) -> CompletionDetail:
    steps = await completions.steps_of(tx, [found.id])
    notes = await completions.notes(tx, found.id)
    return CompletionDetail.model_validate(
        {
            **_members(found, steps[found.id]),
            "chapters": [
                ChapterView(
                    chapter_id=each.chapter_id,
                    progress=each.progress / 100,
                    time_spent=each.time_spent,
                    completed=each.completed,
                )
                for each in found.chapters
            ],
            "notes": [NoteView(at=at, text=text) for at, text in notes],
        }
    )


def _members(found: Completion, steps: list[StepState]) -> dict[str, object]:
    return {
        "id": found.id,
        "user_id": found.user_id,
        "course_id": found.course_id,
        "course_title": found.course_title,
        "course_version": found.course_version,
        "attempt": found.attempt,
        "completed_at": found.completed_at,
        "recorded_at": found.recorded_at,
        "score": None if found.score is None else found.score / 10_000,
        "time_spent": found.time_spent,
        "superseded_by": found.superseded_by,
        "steps": [StepView.model_validate(step) for step in steps],
    }
