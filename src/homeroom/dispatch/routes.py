"""Dispatches to partner systems and their replay over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from homeroom.db.database import Database
from homeroom.dispatch.api import Dispatch, Dispatches, DispatchStatus
from homeroom.identity import Identity, Role
from homeroom.instant import from_datetime
from homeroom.web.identity import Auth
from homeroom.web.model import RequestModel, ResponseModel, Rfc3339Instant, Rfc3339Time
from homeroom.web.paging import Page, PagingQuery, cut_page

DestinationName = Annotated[str, Field(min_length=1, max_length=64)]
"""The name of a step that sends messages; plug-ins add some."""
DispatchId = Annotated[str, Path(alias="dispatchId", min_length=1, max_length=128)]


class DispatchView(ResponseModel):
    """One message to a partner system; its id is the webhook-id."""

    id: str
    destination: str
    type: str
    completion_id: str
    user_id: str
    status: DispatchStatus
    attempts: int
    replays: int
    last_status: int | None
    last_error: str | None
    created_at: Rfc3339Instant
    delivered_at: Rfc3339Instant | None


class DispatchReplayRequest(RequestModel):
    """The dispatches to send again."""

    destination: DestinationName
    since: Rfc3339Time


class DispatchReplay(ResponseModel):
    """The number of dispatches to replay; ``nextSince`` is where more begin."""

    count: int
    next_since: Rfc3339Instant | None


def _dispatch_view(dispatch: Dispatch) -> DispatchView:
    return DispatchView.model_validate(dispatch)


def router(db: Database, auth: Auth, dispatches: Dispatches) -> APIRouter:
    """Return the routes of dispatches."""
    routes = APIRouter(prefix="/api/v1/dispatches", tags=["Completion"])
    reader = auth.require(Role.OPERATOR, Role.VIEWER)
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.get("", dependencies=[Depends(reader)])
    async def list_dispatches(
        paging: PagingQuery,
        destination: Annotated[DestinationName | None, Query()] = None,
        status: Annotated[DispatchStatus | None, Query()] = None,
    ) -> Page[DispatchView]:
        """Return the dispatches to partner systems, newest first."""
        dispatches.check_destination(destination)
        key = paging.key(int, str)
        async with db.read() as tx:
            before = None if key is None else (key[0], key[1])
            rows = await dispatches.list_newest(tx, destination, status, before, paging.limit + 1)
        page, cursor = cut_page(rows, paging, lambda one: (one.created_at, one.id))
        return Page(items=[_dispatch_view(one) for one in page], next_cursor=cursor)

    @routes.post("/replay", status_code=202)
    async def replay_dispatches(
        body: DispatchReplayRequest, identity: Identity = operator
    ) -> DispatchReplay:
        """Send a destination its dispatches since a time again."""
        dispatches.check_destination(body.destination)
        since: datetime = body.since
        count, more = await dispatches.replay_since(
            body.destination, from_datetime(since), identity.subject
        )
        return DispatchReplay(count=count, next_since=more)

    @routes.post("/{dispatchId}/replay", status_code=202)
    async def replay_dispatch(
        dispatch_id: DispatchId, identity: Identity = operator
    ) -> DispatchView:
        """Send a message again with the same id and body; switch its destination on."""
        return _dispatch_view(await dispatches.replay(dispatch_id, identity.subject))

    return routes
