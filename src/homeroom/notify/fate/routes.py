"""What became of messages, over HTTP: deliveries, bounces, suppressed addresses."""

from __future__ import annotations

import asyncio
import base64
from datetime import datetime
from math import floor
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field
from standardwebhooks.webhooks import Webhook, WebhookVerificationError, hmac_data

from homeroom.db.database import Database
from homeroom.errors import NotFound, TooLarge, Unauthenticated
from homeroom.notify import store, want
from homeroom.notify.api import (
    Channel,
    Delivery,
    Notification,
    Notifications,
    read_dsn,
    read_events,
)
from homeroom.notify.state import Status
from homeroom.people.api import masked
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Instant, OutsideId, View
from homeroom.web.paging import Page, PagingQuery, page

MAX_HOOK_BYTES = 1024 * 1024
Id = Annotated[OutsideId, Path()]


class DeliveryView(View):
    """One way of a message; the address is masked."""

    id: str
    notification_id: str
    user_id: str
    type: str
    key: str
    channel: Channel
    status: Status
    reason: str | None
    address: str | None
    attempts: int
    job_id: str | None
    not_before: Instant | None
    created_at: Instant
    updated_at: Instant
    accepted_at: Instant | None


class TryView(View):
    """One try; ``actor`` and ``why`` where somebody asked for it."""

    number: int
    started_at: Instant
    finished_at: Instant | None
    outcome: str | None
    code: int | None
    error: str | None
    actor: str | None
    why: str | None


class DeliveryDetail(DeliveryView):
    """A delivery with its attempts."""

    tries: list[TryView]


class ResendBody(Body):
    """Why something is to be sent again."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


class SuppressionView(View):
    """An address that nothing is sent to; it is masked."""

    id: str
    channel: str
    address: str
    scope: str
    reason: str
    detail: str
    created_at: Instant


class HeardView(View):
    """How many notices were about mails of ours, and how many were not."""

    known: int
    unknown: int


class _OfBytes(Webhook):
    """Standard Webhooks over any bytes: a mail that came back need not be UTF-8.

    What is handed to ``verify`` is Latin-1, which has a letter for each byte.
    """

    def sign(self, msg_id: str, timestamp: datetime, data: str) -> str:
        head = f"{msg_id}.{floor(timestamp.timestamp())}.".encode()
        signature = hmac_data(self._whsecret, head + data.encode("latin-1"))
        return f"v1,{base64.b64encode(signature).decode()}"


def router(
    db: Database, auth: Auth, notifications: Notifications, *, hook_secret: str | None
) -> APIRouter:
    """Return the routes; ``hook_secret`` verifies webhooks about bounces."""
    routes = APIRouter()
    _add_deliveries(routes, db, auth, notifications)
    _add_suppressions(routes, db, auth, notifications)
    _add_hook(routes, notifications, hook_secret)
    return routes


def _add_deliveries(routes: APIRouter, db: Database, auth: Auth, room: Notifications) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.get("/api/v1/deliveries", dependencies=reads)
    async def list_deliveries(
        paging: PagingQuery,
        status: Annotated[Status | None, Query()] = None,
        channel: Annotated[Channel | None, Query()] = None,
        user_id: Annotated[OutsideId | None, Query(alias="userId")] = None,
    ) -> Page[DeliveryView]:
        """Return deliveries, newest first: what was sent, what was not, and why."""
        key = paging.key(str)
        async with db.read() as tx:
            found = await store.newest_deliveries(
                tx,
                status=status,
                channel=channel,
                user_id=user_id,
                before_id=None if key is None else key[0],
                count=paging.limit + 1,
            )
        kept, cursor = page(found, paging, lambda one: (one[0].id,))
        items = [DeliveryView(**_delivery(*each)) for each in kept]
        return Page(items=items, next_cursor=cursor)

    @routes.get("/api/v1/deliveries/{id}", dependencies=reads)
    async def show_delivery(id: Id) -> DeliveryDetail:
        """Return a delivery with its attempts."""
        async with db.read() as tx:
            found = await store.get(tx, id)
            if found is None:
                raise NotFound(f"There is no delivery {id!r}.")
            tries = await store.attempts(tx, id)
        return DeliveryDetail(
            **_delivery(*found), tries=[TryView.model_validate(each) for each in tries]
        )

    @routes.post("/api/v1/deliveries/{id}/resend", status_code=202)
    async def resend_delivery(
        id: Id, body: ResendBody, identity: Identity = operator
    ) -> DeliveryView:
        """Try a delivery that has ended once more; who asked and why is kept."""
        await room.resend(id, identity.subject, body.reason)
        async with db.read() as tx:
            found = await store.get(tx, id)
        assert found is not None
        return DeliveryView(**_delivery(*found))


def _delivery(delivery: Delivery, notification: Notification) -> dict[str, Any]:
    address = delivery.address
    if address is not None:
        address = masked(address) if "@" in address[1:] else f"{address[:3]}***"
    return {
        "id": delivery.id,
        "notification_id": notification.id,
        "user_id": notification.user_id,
        "type": notification.type,
        "key": notification.dedupe_key,
        "channel": delivery.channel,
        "status": delivery.status,
        "reason": delivery.reason,
        "address": address,
        "attempts": delivery.attempts,
        "job_id": delivery.job,
        "not_before": delivery.not_before,
        "created_at": delivery.created_at,
        "updated_at": delivery.updated_at,
        "accepted_at": delivery.accepted_at,
    }


def _add_suppressions(routes: APIRouter, db: Database, auth: Auth, room: Notifications) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.get("/api/v1/suppressions", dependencies=reads)
    async def list_suppressions(paging: PagingQuery) -> Page[SuppressionView]:
        """Return the addresses that nothing is sent to, newest first."""
        key = paging.key(str)
        async with db.read() as tx:
            before = None if key is None else key[0]
            found = await want.newest_suppressions(tx, before, paging.limit + 1)
        kept, cursor = page(found, paging, lambda one: (one.id,))
        items = [
            SuppressionView(
                id=each.id,
                channel=each.channel,
                address=masked(each.address) if "@" in each.address else f"{each.address[:3]}***",
                scope=each.scope,
                reason=each.reason,
                detail=each.detail,
                created_at=each.created_at,
            )
            for each in kept
        ]
        return Page(items=items, next_cursor=cursor)

    @routes.delete("/api/v1/suppressions/{id}", status_code=204)
    async def lift_suppression(id: Id, identity: Identity = operator) -> None:
        """Send to an address again; an audit line says who wanted it."""
        await room.lift(id, identity.subject)


def _add_hook(routes: APIRouter, room: Notifications, secret: str | None) -> None:
    @routes.post(
        "/hooks/email/{provider}",
        status_code=202,
        openapi_extra={
            "security": [],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "message/rfc822": {"schema": {"type": "string"}},
                },
            },
        },
    )
    async def email_hook(provider: Literal["events", "dsn"], request: Request) -> HeardView:
        """Take bounces and complaints, signed as Standard Webhooks: JSON events, or a mail."""
        if secret is None:
            raise NotFound("HOMEROOM_EMAIL_HOOK_SECRET is not set: nothing is taken here.")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_HOOK_BYTES:
                raise TooLarge(f"The body is larger than {MAX_HOOK_BYTES} bytes.")
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            _OfBytes(secret).verify(body.decode("latin-1"), headers, json_parse=False)
        except (WebhookVerificationError, ValueError) as error:
            raise Unauthenticated("The signature of this webhook is not right.") from error
        read = read_dsn if provider == "dsn" else read_events
        notices = await asyncio.to_thread(read, bytes(body))  # up to a quarter of a second
        found = await room.hear(f"{provider}:{headers['webhook-id']}", notices)
        return HeardView(known=found.known, unknown=found.unknown)
