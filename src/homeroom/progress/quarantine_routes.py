"""The quarantine over HTTP: events whose course or chapter is unknown."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from homeroom.db.database import Database
from homeroom.identity import Role
from homeroom.progress import quarantine
from homeroom.progress.event import EventType
from homeroom.progress.ingestion import QUARANTINE_REPLAY_PAGE, Ingest, replay_quarantine_page
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, ResponseModel, Rfc3339Instant
from homeroom.web.paging import Page, PagingQuery, cut_page

_MAX_REPLAY = 5_000


class QuarantinedEventView(ResponseModel):
    """An event in quarantine."""

    seq: int
    event_id: str
    event_type: EventType
    reason: str
    user_id: str
    course_id: str
    chapter_id: str | None
    occurred_at: Rfc3339Instant
    received_at: Rfc3339Instant


class QuarantineReplayResultView(ResponseModel):
    """Counts of replayed events by their results."""

    accepted: int
    duplicate: int
    conflict: int
    held: int
    next_after: int | None


def add_quarantine_routes(routes: APIRouter, db: Database, auth: Auth, ingest: Ingest) -> None:
    """Add the routes of the quarantine."""
    reader = Depends(auth.require(Role.OPERATOR, Role.VIEWER, Role.SERVICE))
    operator = Depends(auth.require(Role.OPERATOR, Role.SERVICE))

    @routes.get("/progress/quarantine", dependencies=[reader])
    async def list_quarantined_events(
        paging: PagingQuery,
        course_id: Annotated[ExternalId | None, Query(alias="courseId")] = None,
    ) -> Page[QuarantinedEventView]:
        """List the quarantined events in the order of arrival."""
        key = paging.key(int)
        after = 0 if key is None else int(key[0])
        async with db.read() as tx:
            rows = await quarantine.list_quarantined(tx, after, paging.limit + 1, course_id)
        page, cursor = cut_page(rows, paging, lambda each: [each.seq])
        return Page[QuarantinedEventView](
            items=[_quarantined_event_view(each) for each in page], next_cursor=cursor
        )

    @routes.post("/progress/quarantine/replay", dependencies=[operator])
    async def replay_quarantine(
        course_id: Annotated[ExternalId | None, Query(alias="courseId")] = None,
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=_MAX_REPLAY)] = QUARANTINE_REPLAY_PAGE,
    ) -> QuarantineReplayResultView:
        """Ingest quarantined events whose course or chapter exists now; each counts once.

        Conflicts stay for inspection. At most `limit` events are tried; `nextAfter` is the value of
        `after` for the next page.
        """
        result = await replay_quarantine_page(
            db, ingest, course_id=course_id, after=after, limit=limit
        )
        return QuarantineReplayResultView.model_validate(result)


def _quarantined_event_view(quarantined: quarantine.QuarantinedEvent) -> QuarantinedEventView:
    return QuarantinedEventView(
        seq=quarantined.seq,
        event_id=quarantined.id,
        event_type=quarantined.event.type,
        reason=quarantined.reason,
        user_id=quarantined.user_id,
        course_id=quarantined.course_id,
        chapter_id=quarantined.chapter_id,
        occurred_at=quarantined.event.occurred_at,
        received_at=quarantined.received_at,
    )
