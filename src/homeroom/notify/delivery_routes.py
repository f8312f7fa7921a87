"""HTTP routes of deliveries and suppressions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from homeroom.db.database import Database
from homeroom.errors import NotFound
from homeroom.identity import Identity, Role
from homeroom.notify import store, suppression
from homeroom.notify.api import (
    Channel,
    Delivery,
    Notification,
    Notifications,
)
from homeroom.notify.delivery_rules import DeliveryStatus
from homeroom.people.api import mask_email
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, RequestModel, ResponseModel, Rfc3339Instant
from homeroom.web.paging import Page, PagingQuery, cut_page

RecordId = Annotated[ExternalId, Path()]


class DeliveryView(ResponseModel):
    """A message's delivery on one channel; the address is masked."""

    id: str
    notification_id: str
    user_id: str
    type: str
    key: str
    channel: Channel
    status: DeliveryStatus
    reason: str | None
    reason_code: Annotated[
        str | None,
        Field(description="The reason as a code; null in deliveries of earlier releases."),
    ]
    address: str | None
    attempts: int
    job_id: str | None
    not_before: Rfc3339Instant | None
    created_at: Rfc3339Instant
    updated_at: Rfc3339Instant
    accepted_at: Rfc3339Instant | None


class DeliveryAttemptView(ResponseModel):
    """One attempt; ``actor`` and ``why`` where an operator requested it."""

    number: int
    started_at: Rfc3339Instant
    finished_at: Rfc3339Instant | None
    outcome: str | None
    code: int | None
    error: str | None
    actor: str | None
    why: str | None


class DeliveryDetail(DeliveryView):
    """A delivery with its attempts."""

    tries: list[DeliveryAttemptView]


class ResendBody(RequestModel):
    """The reason for another attempt."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


class SuppressionView(ResponseModel):
    """An address to which nothing is sent; it is masked."""

    id: str
    channel: str
    address: str
    scope: str
    reason: str
    detail: str
    created_at: Rfc3339Instant
    expires_at: Annotated[
        Rfc3339Instant | None,
        Field(description="The end of one by soft bounces; null: until it is deleted."),
    ]


class UnmatchedReportView(ResponseModel):
    """A bounce or a complaint that matches no mail; its recipient is masked."""

    id: str
    source: Annotated[
        str, Field(description="Where it came from: `cli`, or a provider of the webhooks.")
    ]
    kind: str
    recipient: Annotated[str | None, Field(description="The masked address that the report names.")]
    detail: str
    received_at: Rfc3339Instant


def router(db: Database, auth: Auth, notifications: Notifications) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()
    _add_deliveries(routes, db, auth, notifications)
    _add_suppressions(routes, db, auth, notifications)
    _add_unmatched_reports(routes, db, auth)
    return routes


def _add_deliveries(
    routes: APIRouter, db: Database, auth: Auth, notifications: Notifications
) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.get("/api/v1/deliveries", dependencies=reads)
    async def list_deliveries(
        paging: PagingQuery,
        status: Annotated[DeliveryStatus | None, Query()] = None,
        channel: Annotated[Channel | None, Query()] = None,
        user_id: Annotated[ExternalId | None, Query(alias="userId")] = None,
    ) -> Page[DeliveryView]:
        """Return deliveries, newest first, with their statuses and reasons."""
        key = paging.key(str)
        async with db.read() as tx:
            rows = await store.list_deliveries(
                tx,
                status=status,
                channel=channel,
                user_id=user_id,
                before_id=None if key is None else key[0],
                count=paging.limit + 1,
            )
        page, cursor = cut_page(rows, paging, lambda one: (one[0].id,))
        items = [DeliveryView.model_validate(_delivery_fields(*each)) for each in page]
        return Page(items=items, next_cursor=cursor)

    @routes.get("/api/v1/deliveries/{id}", dependencies=reads)
    async def get_delivery(id: RecordId) -> DeliveryDetail:
        """Return a delivery with its attempts."""
        async with db.read() as tx:
            row = await store.get_delivery(tx, id)
            if row is None:
                raise NotFound(f"There is no delivery {id!r}.")
            tries = await store.list_attempts(tx, id)
        return DeliveryDetail.model_validate({**_delivery_fields(*row), "tries": tries})

    @routes.post("/api/v1/deliveries/{id}/resend", status_code=202)
    async def resend_delivery(
        id: RecordId, body: ResendBody, identity: Identity = operator
    ) -> DeliveryView:
        """Enqueue another attempt of an ended delivery; store the actor and the reason."""
        await notifications.resend(id, identity.subject, body.reason)
        async with db.read() as tx:
            row = await store.get_delivery(tx, id)
        assert row is not None
        return DeliveryView.model_validate(_delivery_fields(*row))


def _delivery_fields(delivery: Delivery, notification: Notification) -> dict[str, Any]:
    return asdict(delivery) | {
        "user_id": notification.user_id,
        "type": notification.type,
        "key": notification.dedupe_key,
        "job_id": delivery.job,
        "address": None if delivery.address is None else _mask_address(delivery.address),
    }


def _mask_address(address: str) -> str:
    return mask_email(address) if "@" in address[1:] else f"{address[:3]}***"


def _add_suppressions(
    routes: APIRouter, db: Database, auth: Auth, notifications: Notifications
) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.get("/api/v1/suppressions", dependencies=reads)
    async def list_suppressions(paging: PagingQuery) -> Page[SuppressionView]:
        """Return the suppressed addresses, newest first."""
        key = paging.key(str)
        async with db.read() as tx:
            before = None if key is None else key[0]
            rows = await suppression.list_suppressions(tx, before, paging.limit + 1)
        page, cursor = cut_page(rows, paging, lambda one: (one.id,))
        items = [
            SuppressionView.model_validate(asdict(each) | {"address": _mask_address(each.address)})
            for each in page
        ]
        return Page(items=items, next_cursor=cursor)

    @routes.delete("/api/v1/suppressions/{id}", status_code=204)
    async def lift_suppression(id: RecordId, identity: Identity = operator) -> None:
        """Delete a suppression: the address is used again, the audit log names the actor."""
        await notifications.lift_suppression(id, identity.subject)


def _add_unmatched_reports(routes: APIRouter, db: Database, auth: Auth) -> None:
    reads = [Depends(auth.require(Role.OPERATOR, Role.VIEWER))]

    @routes.get("/api/v1/unmatched-reports", dependencies=reads)
    async def list_unmatched_reports(paging: PagingQuery) -> Page[UnmatchedReportView]:
        """Return the bounces and complaints that match no mail of Homeroom, newest first."""
        key = paging.key(str)
        async with db.read() as tx:
            rows = await suppression.list_unmatched(
                tx, paging.limit + 1, None if key is None else key[0]
            )
        page, cursor = cut_page(rows, paging, lambda one: (one.id,))
        items = [
            UnmatchedReportView(
                id=each.id,
                source=each.source_id.partition(":")[0],
                kind=each.kind,
                recipient=each.recipient,
                detail=each.detail,
                received_at=each.at,
            )
            for each in page
        ]
        return Page(items=items, next_cursor=cursor)
