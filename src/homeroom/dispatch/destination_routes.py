"""Destinations over HTTP: their states, and switching one on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from homeroom.db.database import Database
from homeroom.dispatch.api import Dispatches
from homeroom.dispatch.destinations import (
    DestinationKind,
    Destinations,
    DestinationState,
    DestinationStatus,
)
from homeroom.identity import Identity, Role
from homeroom.web.identity import Auth
from homeroom.web.model import ResponseModel, Rfc3339Instant


class DestinationView(ResponseModel):
    """A partner system that jobs call, and whether its jobs wait."""

    name: str
    kind: DestinationKind
    is_configured: bool
    rate: float
    state: DestinationState
    since: Rfc3339Instant | None
    failures: int
    last_error: str | None
    last_status: int | None
    held_jobs: int
    next_probe_at: Rfc3339Instant | None
    disabled_reason: str | None
    last_success_at: Rfc3339Instant | None
    waiting_steps: int
    failed_steps: int
    outstanding_since: Rfc3339Instant | None
    key_expires_at: Rfc3339Instant | None


class DestinationList(ResponseModel):
    """All destinations."""

    items: list[DestinationView]


class WebhookTest(ResponseModel):
    """The answer to a test message."""

    status: int


def _view(status: DestinationStatus) -> DestinationView:
    return DestinationView.model_validate(status)


def router(
    db: Database, auth: Auth, destinations: Destinations, dispatches: Dispatches
) -> APIRouter:
    """Return the routes of destinations."""
    routes = APIRouter(prefix="/api/v1/destinations", tags=["Completion"])
    reader = auth.require(Role.OPERATOR, Role.VIEWER)
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.get("", dependencies=[Depends(reader)])
    async def list_destinations() -> DestinationList:
        """Return all partner systems: states, last successes and errors, backlogs."""
        async with db.read() as tx:
            found = await destinations.list_all(tx)
        return DestinationList(items=[_view(status) for status in found])

    @routes.post("/{name}/switch-on")
    async def resume_destination(
        name: Annotated[str, Path(min_length=1, max_length=64)], identity: Identity = operator
    ) -> DestinationView:
        """Let the waiting jobs of a destination start, and enable it after a 410."""
        return _view(await destinations.switch_on(name, identity.subject))

    @routes.post("/{name}/test")
    async def test_destination(
        name: Annotated[str, Path(min_length=1, max_length=64)], identity: Identity = operator
    ) -> WebhookTest:
        """Send a signed test message to `analytics` or `hr`; return its status.

        Its type is `org.homeroom.webhook.test`. 503 says why it was not accepted.
        """
        return WebhookTest(status=await dispatches.send_test(name, identity.subject))

    return routes
