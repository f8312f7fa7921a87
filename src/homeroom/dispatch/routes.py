"""Dispatches to partner systems and their replay over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from homeroom.completion.api import Completions
from homeroom.db.database import Database
from homeroom.dispatch.api import Dispatches, DispatchStatus
from homeroom.dispatch.bulk_replay import DispatchReplays, Replay, ReplayScope
from homeroom.dispatch.listing import ListedDispatch, add_jobs
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
    last_answer: str | None
    last_attempt_at: Rfc3339Instant | None
    next_attempt_at: Rfc3339Instant | None
    reason_code: str | None
    job_id: str | None
    created_at: Rfc3339Instant
    delivered_at: Rfc3339Instant | None


class DispatchDetail(DispatchView):
    """One message with its body as it is sent."""

    message: JsonObject


class DispatchReplayRequest(RequestModel):
    """The dispatches to send again."""

    destination: DestinationName
    since: Rfc3339Time
    scope: Annotated[
        ReplayScope,
        Field(
            description="`undelivered`: what failed or was skipped, also before it became a"
            " dispatch. `all`: what was delivered, too."
        ),
    ] = "undelivered"
    dry_run: bool = False


class DispatchReplay(ResponseModel):
    """The number of messages that are sent again, or would be."""

    count: int


def _dispatch_view(dispatch: ListedDispatch) -> DispatchView:
    return DispatchView.model_validate(dispatch)


def _dispatch_detail(dispatch: ListedDispatch) -> DispatchDetail:
    message: Any = msgspec.json.decode(dispatch.payload)
    return DispatchDetail.model_validate({**asdict(dispatch), "message": message})


def router(db: Database, auth: Auth, dispatches: Dispatches, completions: Completions) -> APIRouter:
    """Return the routes of dispatches."""
    routes = APIRouter(prefix="/api/v1/dispatches", tags=["Completion"])
    reader = auth.require(Role.OPERATOR, Role.VIEWER)
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.get("", dependencies=[Depends(reader)])
    async def list_dispatches(
        paging: PagingQuery,
        destination: Annotated[DestinationName | None, Query()] = None,
        status: Annotated[DispatchStatus | None, Query()] = None,
        completion_id: Annotated[ExternalId | None, Query(alias="completionId")] = None,
        user_id: Annotated[ExternalId | None, Query(alias="userId")] = None,
        since: Annotated[Rfc3339Time | None, Query(description="Created then or later.")] = None,
    ) -> Page[DispatchView]:
        """Return the dispatches to partner systems, newest first."""
        dispatches.check_destination(destination)
        key = paging.key(int, str)
        async with db.read() as tx:
            rows = await dispatches.list_newest(
                tx,
                destination,
                status,
                None if key is None else (key[0], key[1]),
                paging.limit + 1,
                completion_id=completion_id,
                user_id=user_id,
                since=None if since is None else from_datetime(since),
            )
            page, cursor = cut_page(rows, paging, lambda one: (one.created_at, one.id))
            listed = await add_jobs(tx, completions, page)
        return Page(items=[_dispatch_view(one) for one in listed], next_cursor=cursor)

    @routes.get("/{dispatchId}", dependencies=[Depends(auth.require(Role.OPERATOR))])
    async def get_dispatch(dispatch_id: DispatchId) -> DispatchDetail:
        """Return a dispatch with its message, which may hold name and score."""
        async with db.read() as tx:
            [listed] = await add_jobs(tx, completions, [await dispatches.get(tx, dispatch_id)])
        return _dispatch_detail(listed)

    _add_replays(routes, db, operator, dispatches, completions)
    return routes


def _add_replays(
    routes: APIRouter,
    db: Database,
    operator: Identity,
    dispatches: Dispatches,
    completions: Completions,
) -> None:
    replays = DispatchReplays(db, dispatches, completions)

    @routes.post("/replay", status_code=202)
    async def replay_dispatches(
        body: DispatchReplayRequest, identity: Identity = operator
    ) -> DispatchReplay:
        """Send a destination what was not delivered since a time, or all again.

        Messages that wait for an attempt are not counted: they are sent anyway.
        """
        dispatches.check_destination(body.destination)
        replay = Replay(body.destination, from_datetime(body.since), body.scope)
        if body.dry_run:
            return DispatchReplay(count=await replays.count(replay))
        return DispatchReplay(count=await replays.run(replay, identity.subject))

    @routes.post("/{dispatchId}/replay", status_code=202)
    async def replay_dispatch(
        dispatch_id: DispatchId, identity: Identity = operator
    ) -> DispatchView:
        """Send a message again with the same id and body; switch its destination on."""
        replayed = await dispatches.replay(dispatch_id, identity.subject)
        async with db.read() as tx:
            [listed] = await add_jobs(tx, completions, [replayed])
        return _dispatch_view(listed)
