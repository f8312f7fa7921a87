"""HTTP routes of inboxes, preferences and unsubscribe links."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import AfterValidator, Field

from homeroom.db.database import Database
from homeroom.errors import Forbidden, Invalid, NotFound
from homeroom.identity import Identity, Role
from homeroom.notify import delivery_routes, email_hook_routes, preference_store, store
from homeroom.notify.api import (
    MESSAGE_TYPES,
    Channel,
    ChannelPreference,
    Notification,
    NotificationProfile,
    Notifications,
)
from homeroom.notify.email_hook_routes import EmailHooks
from homeroom.people import api as people
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, RequestModel, ResponseModel, Rfc3339Instant
from homeroom.web.paging import Page, PagingQuery, cut_page

_TIME_PATTERN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_SMS_PATTERN = re.compile(r"\+?[0-9]{6,15}")
_CHAT_PATTERN = re.compile(r"[A-Za-z0-9_.@#+-]{1,64}")
_STYLE_PATTERN = re.compile(r"<style>(.*?)</style>", re.DOTALL)
UserId = Annotated[ExternalId, Path(alias="userId")]
NotificationId = Annotated[ExternalId, Path()]
PUBLIC_OPERATION: dict[str, Any] = {"security": []}
_INVALID_LINK_RESPONSES: dict[int | str, dict[str, Any]] = {
    404: {"description": "The link is not valid.", "content": {"text/html": {}}}
}


def _check_time(text: str) -> str:
    if _TIME_PATTERN.fullmatch(text) is None:
        raise ValueError("must be a time of day, such as 22:00")
    return text


def _check_number(text: str) -> str:
    if _SMS_PATTERN.fullmatch(text) is None:
        raise ValueError("must be a telephone number, such as +4915112345678")
    return text


def _check_chat_name(text: str) -> str:
    if _CHAT_PATTERN.fullmatch(text) is None:
        raise ValueError("must have 1 to 64 letters, digits or any of _ . @ # + -")
    return text


TimeOfDay = Annotated[str, AfterValidator(_check_time)]


class NotificationView(ResponseModel):
    """A message in an inbox, in the language of its owner."""

    id: str
    type: str
    user_id: str
    title: str
    text: str
    metadata: dict[str, Any]
    created_at: Rfc3339Instant
    expires_at: Rfc3339Instant | None
    read_at: Rfc3339Instant | None
    resolved_at: Rfc3339Instant | None


class InboxPage(Page[NotificationView]):
    """A page of an inbox; ``unreadCount`` counts the whole inbox."""

    unread_count: int


class ReadCount(ResponseModel):
    """The number of changed records."""

    count: int


class QuietHoursBody(RequestModel):
    """Times of day in the person's time zone; the end is exclusive."""

    start: TimeOfDay
    end: TimeOfDay


class ContactAddressesBody(RequestModel):
    """A person's addresses besides e-mail, which the directory holds."""

    sms: Annotated[str, AfterValidator(_check_number)] | None = None
    chat: Annotated[str, AfterValidator(_check_chat_name)] | None = None


class NotificationPreferencesBody(RequestModel):
    """A person's preferences, which replace all earlier ones."""

    channels: Annotated[
        dict[str, dict[Channel, bool]],
        Field(
            default_factory=dict,
            description="Wanted or not, by type and channel. The default applies to missing ones.",
        ),
    ]
    quiet_hours: QuietHoursBody | None = None
    digest_at: (
        Annotated[TimeOfDay, Field(description="Time of the daily digest of types that may wait.")]
        | None
    ) = None
    addresses: ContactAddressesBody = ContactAddressesBody()


class MessageTypePreference(ResponseModel):
    """The choices for one type; a mandatory one cannot be switched off."""

    type: str
    mandatory: bool
    may_wait: bool
    channels: dict[Channel, bool]


class QuietHoursView(ResponseModel):
    """Times of day."""

    start: str
    end: str


class ContactAddresses(ResponseModel):
    """A person's addresses besides e-mail."""

    sms: str | None
    chat: str | None


class NotificationPreferencesView(ResponseModel):
    """A person's preferences."""

    user_id: str
    preferences: list[MessageTypePreference]
    quiet_hours: QuietHoursView | None
    digest_at: str | None
    addresses: ContactAddresses


def router(db: Database, auth: Auth, notifications: Notifications, hooks: EmailHooks) -> APIRouter:
    """Return the routes of ``notify``; ``hooks`` verifies webhooks about mails."""
    routes = APIRouter(tags=["Notifications"])
    _add_inbox(routes, db, auth, notifications)
    _add_preferences(routes, db, auth)
    _add_unsubscribe(routes, db, notifications)
    routes.include_router(delivery_routes.router(db, auth, notifications))
    routes.include_router(email_hook_routes.router(notifications, hooks))
    return routes


def _add_inbox(routes: APIRouter, db: Database, auth: Auth, notifications: Notifications) -> None:
    reader: Identity = Depends(auth.require(*Role))

    @routes.get("/api/v1/notifications")
    async def list_notifications(
        paging: PagingQuery,
        user_id: Annotated[ExternalId | None, Query(alias="userId")] = None,
        unread: Annotated[bool, Query()] = False,
        identity: Identity = reader,
    ) -> InboxPage:
        """Return an inbox, newest first: the caller's own, or a person's for staff."""
        owner_id = identity.subject if user_id is None else user_id
        _check_read_access(identity, owner_id)
        key = paging.key(str)
        async with db.read() as tx:
            person = await people.get(tx, owner_id)
            rows = await store.list_inbox(
                tx,
                owner_id,
                unread=unread,
                before_id=None if key is None else key[0],
                count=paging.limit + 1,
            )
            count = await store.count_unread(tx, owner_id)
        page, cursor = cut_page(rows, paging, lambda one: (one.id,))
        locale = None if person is None else person.locale
        items = [_notification_view(each, notifications, locale) for each in page]
        return InboxPage(items=items, next_cursor=cursor, unread_count=count)

    @routes.post("/api/v1/notifications/{id}/read")
    async def mark_notification_read(
        id: NotificationId, identity: Identity = reader
    ) -> NotificationView:
        """Mark one message as read; repeating it changes nothing."""
        async with db.write() as tx:
            notification = await store.get_notification(tx, id)
            if notification is None or not _has_write_access(identity, notification.user_id):
                raise NotFound(f"There is no notification {id!r}.")
            await store.mark_read(tx, id)
            notification = await store.get_notification(tx, id)
            assert notification is not None
            person = await people.get(tx, notification.user_id)
        return _notification_view(
            notification, notifications, None if person is None else person.locale
        )

    @routes.post("/api/v1/notifications/read-all")
    async def mark_all_notifications_read(
        user_id: Annotated[ExternalId | None, Query(alias="userId")] = None,
        identity: Identity = reader,
    ) -> ReadCount:
        """Mark a whole inbox as read; return how many messages were unread."""
        owner_id = identity.subject if user_id is None else user_id
        if not _has_write_access(identity, owner_id):
            raise Forbidden("Only its recipient and the role service may change this inbox.")
        async with db.write() as tx:
            return ReadCount(count=await store.mark_all_read(tx, owner_id))


def _check_read_access(identity: Identity, user_id: str) -> None:
    """Raise ``Forbidden`` unless the caller is the person, a service, or an operator.

    Managers read their own inbox alone.
    """
    if not identity.is_learner(user_id) and not identity.has(
        Role.SERVICE, Role.OPERATOR, Role.VIEWER
    ):
        raise Forbidden("The records of another person need the role service, operator or viewer.")


def _has_write_access(identity: Identity, user_id: str) -> bool:
    return identity.is_learner(user_id) or identity.has(Role.SERVICE)


def _notification_view(
    notification: Notification, notifications: Notifications, locale: str | None
) -> NotificationView:
    rendered = notifications.render(notification, locale)
    return NotificationView.model_validate(
        asdict(notification) | {"title": rendered.title, "text": rendered.summary}
    )


def _add_preferences(routes: APIRouter, db: Database, auth: Auth) -> None:
    reader: Identity = Depends(auth.require(*Role))
    path = "/api/v1/people/{userId}/notification-preferences"

    async def view(user_id: str) -> NotificationPreferencesView:
        async with db.read() as tx:
            profile = (await preference_store.get_profiles(tx, [user_id])).get(
                user_id, NotificationProfile(user_id)
            )
            choices = (await preference_store.get_preferences(tx, [user_id])).get(user_id, {})
        return _preferences_view(profile, choices)

    @routes.get(path)
    async def get_notification_preferences(
        user_id: UserId, identity: Identity = reader
    ) -> NotificationPreferencesView:
        """Return a person's preferences: channels, quiet hours, digest, addresses."""
        _check_read_access(identity, user_id)
        return await view(user_id)

    @routes.put(path)
    async def put_notification_preferences(
        user_id: UserId, body: NotificationPreferencesBody, identity: Identity = reader
    ) -> NotificationPreferencesView:
        """Replace a person's preferences. Mandatory types cannot be switched off."""
        if not _has_write_access(identity, user_id):
            raise Forbidden("Only the person and the role service may change these preferences.")
        _check_types(body)
        quiet = body.quiet_hours
        profile = NotificationProfile(
            user_id,
            None if quiet is None else _parse_minutes(quiet.start),
            None if quiet is None else _parse_minutes(quiet.end),
            None if body.digest_at is None else _parse_minutes(body.digest_at),
            body.addresses.sms,
            body.addresses.chat,
        )
        source = "person" if identity.is_learner(user_id) else "staff"
        async with db.write() as tx:
            await preference_store.put_profile(tx, profile)
            await preference_store.delete_preferences(tx, user_id)
            await preference_store.put_preferences(
                tx,
                [
                    ChannelPreference(user_id, type, channel, wanted, source)
                    for type, channels in body.channels.items()
                    for channel, wanted in channels.items()
                ],
            )
        return await view(user_id)


def _check_types(body: NotificationPreferencesBody) -> None:
    for type, channels in body.channels.items():
        message_type = MESSAGE_TYPES.get(type)
        if message_type is None:
            raise Invalid(
                f"There is no message type {type!r}. The types are {', '.join(MESSAGE_TYPES)}."
            )
        for channel, wanted in channels.items():
            if message_type.mandatory and not wanted and channel in message_type.default:
                raise Invalid(f"{type} is mandatory: it cannot be switched off for {channel}.")


def _parse_minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def _format_minutes(minutes: int | None) -> str | None:
    return None if minutes is None else f"{minutes // 60:02}:{minutes % 60:02}"


def _preferences_view(
    profile: NotificationProfile, choices: dict[tuple[str, Channel], bool]
) -> NotificationPreferencesView:
    quiet = None
    start, end = _format_minutes(profile.quiet_start), _format_minutes(profile.quiet_end)
    if start is not None and end is not None:
        quiet = QuietHoursView(start=start, end=end)
    return NotificationPreferencesView(
        user_id=profile.user_id,
        preferences=[
            MessageTypePreference(
                type=each.name,
                mandatory=each.mandatory,
                may_wait=each.may_wait,
                channels={
                    channel: (each.mandatory and channel in each.default)
                    or choices.get((each.name, channel), channel in each.default)
                    for channel in Channel
                },
            )
            for each in MESSAGE_TYPES.values()
        ],
        quiet_hours=quiet,
        digest_at=_format_minutes(profile.digest_minute),
        addresses=ContactAddresses(sms=profile.sms, chat=profile.chat),
    )


def _html_page(html: str) -> HTMLResponse:
    """Return a page that may load nothing but its style sheet, allowed by hash."""
    style = _STYLE_PATTERN.search(html)
    digest = b64encode(hashlib.sha256((style[1] if style else "").encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; "
        "frame-ancestors 'none'"
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})


def _add_unsubscribe(routes: APIRouter, db: Database, notifications: Notifications) -> None:
    async def page_for(token: str, request: Request, *, with_button: bool) -> HTMLResponse:
        async with db.read() as tx:
            subscription = await notifications.find_subscription(tx, token)
            person = None if subscription is None else await people.get(tx, subscription.user_id)
        locale = None if person is None else person.locale
        if locale is None:
            locale = request.headers.get("accept-language", "en")[:2]
        message_type = None if subscription is None else subscription.type.split("+")[0]
        page = notifications.templates.unsubscribe_page(
            message_type, locale=locale, with_button=with_button
        )
        response = _html_page(page)
        if subscription is None:
            response.status_code = 404
        return response

    @routes.get(
        "/u/{token}",
        response_class=HTMLResponse,
        responses=_INVALID_LINK_RESPONSES,
        openapi_extra=PUBLIC_OPERATION,
    )
    async def get_subscription_page(
        request: Request, token: Annotated[str, Path(max_length=1_000)]
    ) -> HTMLResponse:
        """Show the subscription of a link. It changes nothing: scanners follow links."""
        return await page_for(token, request, with_button=True)

    @routes.post(
        "/u/{token}",
        response_class=HTMLResponse,
        responses=_INVALID_LINK_RESPONSES,
        openapi_extra=PUBLIC_OPERATION,
    )
    async def unsubscribe(
        request: Request, token: Annotated[str, Path(max_length=1_000)]
    ) -> HTMLResponse:
        """End a subscription by one click (RFC 8058): no sign-in, no redirect, any form."""
        await notifications.unsubscribe(token)
        return await page_for(token, request, with_button=False)
