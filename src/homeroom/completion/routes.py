"""Completions, their steps and their CSV report over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from homeroom.access import api as access
from homeroom.changes.api import (
    COMPLETIONS,
    STEPS,
    ChangeKind,
    LoadRecords,
    record_id,
    split_record_id,
)
from homeroom.completion import csv_report
from homeroom.completion.api import (
    Completion,
    CompletionFilter,
    Completions,
    ListedStep,
    StepFilter,
    StepStatus,
    StepStatusFilter,
    parse_period,
    score_fraction,
)
from homeroom.completion.step_retry import RetryableStatus, StepRetry, retry_all
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Forbidden, Invalid, NotFound
from homeroom.identity import Identity, Role
from homeroom.instant import from_datetime
from homeroom.web.identity import Auth
from homeroom.web.model import (
    ExternalId,
    JsonObject,
    RequestModel,
    ResponseModel,
    Rfc3339Instant,
    Rfc3339Time,
)
from homeroom.web.paging import Page, Paging, PagingQuery, cut_page

_STAFF = (Role.SERVICE, Role.OPERATOR, Role.VIEWER, Role.MANAGER)
_READERS = (*_STAFF, Role.LEARNER, Role.FACILITATOR)
_HIDDEN_FROM_LEARNERS = {"last_error": None, "skip_reason": None, "job_id": None}
CompletionId = Annotated[ExternalId, Path(alias="completionId")]


class CompletionStepView(ResponseModel):
    """A step that follows a completion."""

    name: str
    status: StepStatus
    job_id: str | None
    attempts: int
    last_error: str | None
    """For operators; learners see null here, in `skipReason` and in `jobId`."""
    skip_reason: str | None
    skip_code: str | None
    reason_code: str | None
    """The `skipCode`, or the code of the job's last attempt."""
    next_attempt_at: Rfc3339Instant | None
    external_id: str | None
    finished_at: Rfc3339Instant | None


class ChangedStep(CompletionStepView):
    """A step in the feed of changes, with the completion that it belongs to."""

    completion_id: str
    user_id: str
    course_id: str
    attempt: int


class CompletionChapter(ResponseModel):
    """A chapter as it stood at completion."""

    chapter_id: str
    progress: float
    """Percent."""
    time_spent: int
    completed: bool


class CompletionNote(ResponseModel):
    """An audit line."""

    at: Rfc3339Instant
    text: str


class CompletionView(ResponseModel):
    """A completion. The score is 0 to 1 or null, time spent is in seconds."""

    id: str
    user_id: str
    course_id: str
    course_title: str
    course_version: int
    attempt: int
    completed_at: Rfc3339Instant
    recorded_at: Rfc3339Instant
    score: float | None
    time_spent: int
    superseded_by: str | None
    steps: list[CompletionStepView]


class CompletionDetail(CompletionView):
    """A completion with its chapters and audit lines."""

    chapters: list[CompletionChapter]
    notes: list[CompletionNote]


class CompletionRetry(RequestModel):
    """The steps to retry; `since` is by recordedAt."""

    step: Annotated[str, Field(min_length=1, max_length=64)]
    status: RetryableStatus = "failed"
    reason: ExternalId | None = None
    course_id: ExternalId | None = None
    user_id: ExternalId | None = None
    since: Rfc3339Time | None = None
    dry_run: bool = False


class RetriedSteps(ResponseModel):
    """The number of steps that were retried, or would be."""

    count: int


def router(db: Database, auth: Auth, completions: Completions) -> APIRouter:
    """Return the routes of completions."""
    routes = APIRouter(prefix="/api/v1", tags=["Completion"])
    _add_completion_routes(routes, db, auth, completions)
    _add_csv_report_route(routes, db, auth, completions)
    return routes


def change_records(completions: Completions) -> dict[ChangeKind, LoadRecords]:
    """Return the functions that show completions and steps in the feed of changes."""

    async def load_completions(tx: Tx, ids: Sequence[str]) -> dict[str, JsonObject]:
        found = (await completions.find_by_ids(tx, ids)).values()
        steps = await completions.list_steps(tx, [each.id for each in found])
        return {
            each.id: _to_json(
                CompletionView.model_validate(_completion_fields(each, steps[each.id]))
            )
            for each in found
        }

    async def load_steps(tx: Tx, ids: Sequence[str]) -> dict[str, JsonObject]:
        completion_ids = sorted({split_record_id(id)[0] for id in ids})
        by_id = await completions.find_by_ids(tx, completion_ids)
        steps = await completions.list_steps(tx, sorted(by_id))
        return {
            record_id(step.completion_id, step.name): _to_json(
                ChangedStep.model_validate(
                    {
                        **asdict(step),
                        "user_id": by_id[step.completion_id].user_id,
                        "course_id": by_id[step.completion_id].course_id,
                        "attempt": by_id[step.completion_id].attempt,
                    }
                )
            )
            for each in steps.values()
            for step in each
        }

    return {COMPLETIONS: load_completions, STEPS: load_steps}


def _to_json(view: ResponseModel) -> JsonObject:
    return view.model_dump(mode="json", by_alias=True)


def _add_completion_routes(
    routes: APIRouter, db: Database, auth: Auth, completions: Completions
) -> None:
    reader: Identity = Depends(auth.require(*_READERS))
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.get("/completions")
    async def list_completions(
        paging: PagingQuery,
        user_id: Annotated[ExternalId | None, Query(alias="userId")] = None,
        course_id: Annotated[ExternalId | None, Query(alias="courseId")] = None,
        since: Annotated[
            Rfc3339Time | None,
            Query(
                description="Recorded then or later. Safe for polling with the newest `recordedAt`"
                " of an earlier answer: what is recorded later has a later one. To follow all"
                " changes, `GET /api/v1/changes` is cheaper."
            ),
        ] = None,
        steps: StepFilterQuery = None,
        identity: Identity = reader,
    ) -> Page[CompletionView]:
        """List completions, the last recorded first.

        Learners see their own, managers those of their people.

        `step`, `status` and `reason` select those with such a step; `outstanding` steps are
        waiting, active or failed, `not-completed` ones skipped too.
        """
        scope = auth.people(identity)
        learner = _user_id_filter(identity, user_id)
        until = None
        if since is not None and paging.after is None:  # later pages end at the first one's items
            until = await completions.wait_for_recording(db)
        query = CompletionFilter(
            user_id=learner,
            course_id=course_id,
            recorded_since=None if since is None else from_datetime(since),
            recorded_until=until,
            learners=scope.ids if learner is None else None,
        )
        async with db.read() as tx:
            if learner is not None:
                await scope.check(tx, learner)
            if steps is not None:
                page, cursor = await _page_by_step(tx, completions, query, steps, paging)
            else:
                key = paging.key(int, str)
                before = None if key is None else (int(key[0]), str(key[1]))
                rows = await completions.list_newest(tx, query, before, paging.limit + 1)
                page, cursor = cut_page(rows, paging, lambda each: [each.recorded_at, each.id])
            found = await completions.list_steps(tx, [each.id for each in page])
        shows_reasons = identity.has(*_STAFF)
        items = [
            CompletionView.model_validate(
                _completion_fields(each, found[each.id], shows_reasons=shows_reasons)
            )
            for each in page
        ]
        return Page[CompletionView](items=items, next_cursor=cursor)

    @routes.get("/completions/{completionId}")
    async def get_completion(
        completion_id: CompletionId, identity: Identity = reader
    ) -> CompletionDetail:
        """Return a completion with its steps, its chapters and its audit lines."""
        async with db.read() as tx:
            completion = await completions.get(tx, completion_id)
            if not await auth.people(identity).sees(tx, completion.user_id):
                raise NotFound(f"There is no completion {completion_id!r}.")
            return await _completion_detail(
                tx, completions, completion, shows_reasons=identity.has(*_STAFF)
            )

    @routes.post("/completions/retry")
    async def retry_completion_steps(
        body: CompletionRetry, identity: Identity = operator
    ) -> RetriedSteps:
        """Retry all steps that match, the oldest first; return their number.

        `failed` and `skipped` ones run again, where the reason to be skipped is gone; `waiting`
        ones whose next attempt is later run now.
        """
        retry = StepRetry(
            step=body.step,
            status=body.status,
            reason=body.reason,
            user_id=body.user_id,
            course_id=body.course_id,
            recorded_since=None if body.since is None else from_datetime(body.since),
        )
        count = await retry_all(db, completions, retry, identity.subject, dry_run=body.dry_run)
        return RetriedSteps(count=count)

    @routes.post("/completions/{completionId}/steps/{name}/retry")
    async def retry_completion_step(
        completion_id: CompletionId,
        name: Annotated[str, Path(max_length=64)],
        identity: Identity = operator,
    ) -> CompletionDetail:
        """Retry a step that failed, or whose reason to be skipped is gone; 409 otherwise."""
        async with db.write() as tx:
            await completions.retry_step(tx, completion_id, name)
            details = {"step": name}
            await access.record_audit(tx, identity.subject, "step.retried", completion_id, details)
        async with db.read() as tx:
            return await _completion_detail(
                tx, completions, await completions.get(tx, completion_id)
            )


def _add_csv_report_route(
    routes: APIRouter, db: Database, auth: Auth, completions: Completions
) -> None:
    reader: Identity = Depends(auth.require(*_STAFF))

    @routes.get(
        "/reports/completions.csv",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    )
    async def download_completions(
        first: Annotated[str | None, Query(alias="from", max_length=40)] = None,
        last: Annotated[str | None, Query(alias="to", max_length=40)] = None,
        identity: Identity = reader,
    ) -> StreamingResponse:
        """Stream the completions of a period as CSV, by date of completion.

        A manager's report has its own people.

        `from` and `to` are dates (UTC; `to` is included as a whole) or RFC 3339 times.
        """
        try:
            query = replace(parse_period(first, last), learners=auth.people(identity).ids)
        except ValueError as error:
            raise Invalid(str(error)) from error
        return StreamingResponse(
            csv_report.stream_csv(db, completions, query),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="completions.csv"'},
        )


def _parse_step_filter(
    step: Annotated[str | None, Query(min_length=1, max_length=64)] = None,
    status: Annotated[StepStatusFilter | None, Query()] = None,
    reason: Annotated[ExternalId | None, Query(description="A reason code.")] = None,
) -> StepFilter | None:
    """Return the filter of steps; None where the query has none."""
    found = StepFilter(name=step, status=status, reason=reason)
    return None if found == StepFilter() else found


StepFilterQuery = Annotated[StepFilter | None, Depends(_parse_step_filter)]


async def _page_by_step(
    tx: Tx, completions: Completions, query: CompletionFilter, steps: StepFilter, paging: Paging
) -> tuple[list[Completion], str | None]:
    key = paging.key(str)
    before = None if key is None else str(key[0])
    rows = await completions.list_by_step(tx, query, steps, before, paging.limit + 1)
    return cut_page(rows, paging, lambda each: [each.id])


def _user_id_filter(identity: Identity, user_id: str | None) -> str | None:
    """Return the learner to list; None for all whom staff may see."""
    if user_id is not None or identity.has(*_STAFF):
        return user_id
    if identity.via != "jwt":
        raise Forbidden("This role lists the completions of one learner: give userId.")
    return identity.subject


async def _completion_detail(
    tx: Tx, completions: Completions, completion: Completion, *, shows_reasons: bool = True
) -> CompletionDetail:
    steps = await completions.list_steps(tx, [completion.id])
    notes = await completions.list_notes(tx, completion.id)
    return CompletionDetail.model_validate(
        {
            **_completion_fields(completion, steps[completion.id], shows_reasons=shows_reasons),
            "chapters": [
                CompletionChapter(
                    chapter_id=each.chapter_id,
                    progress=each.progress / 100,
                    time_spent=each.time_spent,
                    completed=each.completed,
                )
                for each in completion.chapters
            ],
            "notes": [CompletionNote(at=at, text=text) for at, text in notes],
        }
    )


def _completion_fields(
    completion: Completion, steps: list[ListedStep], *, shows_reasons: bool = True
) -> dict[str, object]:
    views = [CompletionStepView.model_validate(step) for step in steps]
    if not shows_reasons:  # they name settings, and hold what partners answered
        views = [view.model_copy(update=_HIDDEN_FROM_LEARNERS) for view in views]
    return {
        "id": completion.id,
        "user_id": completion.user_id,
        "course_id": completion.course_id,
        "course_title": completion.course_title,
        "course_version": completion.course_version,
        "attempt": completion.attempt,
        "completed_at": completion.completed_at,
        "recorded_at": completion.recorded_at,
        "score": score_fraction(completion.score),
        "time_spent": completion.time_spent,
        "superseded_by": completion.superseded_by,
        "steps": views,
    }
