"""The feed of changes over HTTP."""

from __future__ import annotations

from typing import Annotated, get_args

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from homeroom.changes.api import ChangeFeed, ChangeKind
from homeroom.errors import Invalid
from homeroom.identity import Role
from homeroom.web.identity import Auth
from homeroom.web.model import JsonObject, ResponseModel, Rfc3339Instant
from homeroom.web.paging import MAX_PAGE_SIZE
from homeroom.web.problem import PROBLEM_MEDIA_TYPE

_READERS = (Role.SERVICE, Role.OPERATOR, Role.VIEWER)
_KINDS: tuple[ChangeKind, ...] = get_args(ChangeKind)

_GONE = {
    "description": "The feed cannot continue from this cursor; `hint` says how to start anew.",
    "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


class ChangeView(ResponseModel):
    """A record that changed, with its present data."""

    kind: ChangeKind
    id: str
    """`completionId/step` of a step, `courseId/userId/attempt` of an enrolment; percent-encoded."""
    at: Rfc3339Instant
    """When the transaction began that changed it. Not in order: the order is that of the items."""
    data: JsonObject | None = Field(
        description="The record as the list of its kind shows it; null when it is gone."
    )


class ChangePageView(ResponseModel):
    """Changes in commit order."""

    items: list[ChangeView]
    next_cursor: str
    """Always given: the place after what was searched."""
    has_more: bool
    """True: request the next page at once. False: all that is committed was read."""


def router(auth: Auth, feed: ChangeFeed) -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix="/api/v1", tags=["Changes"])

    @routes.get(
        "/changes",
        dependencies=[Depends(auth.require(*_READERS))],
        responses={410: _GONE},
    )
    async def list_changes(
        cursor: Annotated[
            str | None,
            Query(
                max_length=2_000,
                description="The `nextCursor` of an earlier answer. `now` starts after all that is"
                " committed; without it the first changes that are kept are returned.",
            ),
        ] = None,
        kinds: Annotated[
            list[str] | None,
            Query(max_length=20, description=f"Some of {', '.join(_KINDS)}, divided by commas."),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = 100,
    ) -> ChangePageView:
        """Return changed completions, steps, credentials and enrolments in commit order.

        Store `nextCursor` together with what you made of the items, and go on from it: no change is
        passed over, also not one that commits late. A record that changes again comes again, with
        its newest data; states in between may be left out. Erased people's changes are removed.
        """
        page = await feed.read(cursor or None, _parse_kinds(kinds), limit)
        return ChangePageView(
            items=[
                ChangeView(kind=each.kind, id=each.record_id, at=each.at, data=data)
                for each, data in page.items
            ],
            next_cursor=page.next_cursor,
            has_more=page.has_more,
        )

    return routes


def _parse_kinds(given: list[str] | None) -> list[ChangeKind]:
    names = {name.strip() for text in given or () for name in text.split(",") if name.strip()}
    unknown = sorted(names.difference(_KINDS))
    if unknown:
        raise Invalid(f"There is no kind {unknown[0][:64]!r}; the kinds are {', '.join(_KINDS)}.")
    return [kind for kind in _KINDS if kind in names]
