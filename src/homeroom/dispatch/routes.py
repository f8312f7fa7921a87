"""What went to partner systems, over HTTP (API page, "Completion")."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AwareDatetime

from homeroom.clock import from_datetime
from homeroom.db.database import Database
from homeroom.dispatch.api import Dispatch, Dispatches, Status
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Instant, View
from homeroom.web.paging import Page, PagingQuery, page

DestinationName = Literal["analytics", "hr"]
DispatchId = Annotated[str, Path(alias="dispatchId", min_length=1, max_length=128)]


class DispatchView(View):
    """One message to a partner system; its id is the webhook-id."""

    id: str
    destination: str
    type: str
    completion_id: str
    user_id: str
    status: Status
    attempts: int
    replays: int
    last_status: int | None
    last_error: str | None
    created_at: Instant
    delivered_at: Instant | None


class ReplayBody(Body):
    """What is to be sent again."""

    destination: DestinationName
    since: AwareDatetime


class ReplayView(View):
    """How many are sent again; ``nextSince`` is where to go on if there are more."""

    count: int
    next_since: Instant | None


def _view(found: Dispatch) -> DispatchView:
    return DispatchView.model_validate(found)


def router(db: Database, auth: Auth, dispatches: Dispatches) -> APIRouter:
    """Return the routes of dispatches."""
    routes = APIRouter(prefix="/api/v1/dispatches", tags=["Completion"])
    reader = auth.require(Role.OPERATOR, Role.VIEWER)
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.get("", dependencies=[Depends(reader)])
    async def list_dispatches(
        paging: PagingQuery,
        destination: Annotated[DestinationName | None, Query()] = None,
        status: Annotated[Status | None, Query()] = None,
    ) -> Page[DispatchView]:
        """Return what went, or is to go, to partner systems, newest first."""
        key = paging.key(int, str)
        async with db.read() as tx:
            before = None if key is None else (key[0], key[1])
            found = await dispatches.newest(tx, destination, status, before, paging.limit + 1)
        kept, cursor = page(found, paging, lambda one: (one.created_at, one.id))
        return Page(items=[_view(one) for one in kept], next_cursor=cursor)

    @routes.post("/replay", status_code=202)
    async def replay_since(body: ReplayBody, identity: Identity = operator) -> ReplayView:
        """Send a destination again what was made for it since a time."""
        since: datetime = body.since
        count, more = await dispatches.replay_since(
            body.destination, from_datetime(since), identity.subject
        )
        return ReplayView(count=count, next_since=more)

    @routes.post("/{dispatchId}/replay", status_code=202)
    async def replay(dispatch_id: DispatchId, identity: Identity = operator) -> DispatchView:
        """Send one message again with the same webhook-id and body; switch its destination on."""
        return _view(await dispatches.replay(dispatch_id, identity.subject))

    return routes
