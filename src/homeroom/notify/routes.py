"""Inboxes, what people want, and what mails link to, over HTTP."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import AfterValidator, Field

from homeroom.db.database import Database
from homeroom.errors import Forbidden, Invalid, NotFound
from homeroom.notify import store, want
from homeroom.notify.api import (
    KINDS,
    Channel,
    Notification,
    Notifications,
    Profile,
)
from homeroom.notify.fate import routes as fate_routes
from homeroom.people import api as people
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Instant, OutsideId, View
from homeroom.web.paging import Page, PagingQuery, page

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_SMS = re.compile(r"\+?[0-9]{6,15}")
_CHAT = re.compile(r"[A-Za-z0-9_.@#+-]{1,64}")
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
UserId = Annotated[OutsideId, Path(alias="userId")]
Id = Annotated[OutsideId, Path()]
PUBLIC: dict[str, Any] = {"security": []}
_NO_LINK: dict[int | str, dict[str, Any]] = {
    404: {"description": "The link is not one of ours.", "content": {"text/html": {}}}
}


def _time(text: str) -> str:
    if _TIME.fullmatch(text) is None:
        raise ValueError("must be a time of day, such as 22:00")
    return text


def _number(text: str) -> str:
    if _SMS.fullmatch(text) is None:
        raise ValueError("must be a telephone number, such as +4915112345678")
    return text


def _chat_name(text: str) -> str:
    if _CHAT.fullmatch(text) is None:
        raise ValueError("must have 1 to 64 letters, digits or any of _ . @ # + -")
    return text


Time = Annotated[str, AfterValidator(_time)]


class NotificationView(View):
    """A message in somebody's inbox, in their language."""

    id: str
    type: str
    user_id: str
    title: str
    text: str
    metadata: dict[str, Any]
    created_at: Instant
    expires_at: Instant | None
    read_at: Instant | None
    resolved_at: Instant | None


class InboxPage(Page[NotificationView]):
    """A page of an inbox; ``unreadCount`` is of the whole inbox."""

    unread_count: int


class ReadCountView(View):
    """How many records were changed."""

    count: int


class QuietHoursBody(Body):
    """Times of day, in the person's own time zone; the end does not belong to it."""

    start: Time
    end: Time


class AddressesBody(Body):
    """Where somebody is reached besides e-mail, which the directory knows."""

    sms: Annotated[str, AfterValidator(_number)] | None = None
    chat: Annotated[str, AfterValidator(_chat_name)] | None = None


class PreferencesBody(Body):
    """What somebody wants; it replaces what they wanted before."""

    channels: Annotated[
        dict[str, dict[Channel, bool]],
        Field(
            default_factory=dict,
            description="By type and channel: wanted or not. What is left out is the default.",
        ),
    ]
    quiet_hours: QuietHoursBody | None = None
    digest_at: Annotated[Time, Field(description="One mail a day for what may wait.")] | None = None
    addresses: AddressesBody = AddressesBody()


class PreferenceView(View):
    """One type: what is wanted, and whether it can be switched off."""

    type: str
    mandatory: bool
    may_wait: bool
    channels: dict[Channel, bool]


class QuietHoursView(View):
    """Times of day."""

    start: str
    end: str


class AddressesView(View):
    """Where somebody is reached besides e-mail."""

    sms: str | None
    chat: str | None


class PreferencesView(View):
    """What somebody wants."""

    user_id: str
    preferences: list[PreferenceView]
    quiet_hours: QuietHoursView | None
    digest_at: str | None
    addresses: AddressesView


def router(
    db: Database, auth: Auth, notifications: Notifications, *, hook_secret: str | None
) -> APIRouter:
    """Return the routes of this room; ``hook_secret`` verifies webhooks about bounces."""
    routes = APIRouter(tags=["Notifications"])
    _add_inbox(routes, db, auth, notifications)
    _add_preferences(routes, db, auth)
    _add_links(routes, db, notifications)
    routes.include_router(fate_routes.router(db, auth, notifications, hook_secret=hook_secret))
    return routes


def _add_inbox(routes: APIRouter, db: Database, auth: Auth, room: Notifications) -> None:
    reader: Identity = Depends(auth.require(*Role))

    @routes.get("/api/v1/notifications")
    async def list_notifications(
        paging: PagingQuery,
        user_id: Annotated[OutsideId | None, Query(alias="userId")] = None,
        unread: Annotated[bool, Query()] = False,
        identity: Identity = reader,
    ) -> InboxPage:
        """Return an inbox, newest first: one's own, or anybody's for staff."""
        whose = identity.subject if user_id is None else user_id
        _check_reads(identity, whose)
        key = paging.key(str)
        async with db.read() as tx:
            person = await people.get(tx, whose)
            found = await store.inbox(
                tx,
                whose,
                unread=unread,
                before_id=None if key is None else key[0],
                count=paging.limit + 1,
            )
            count = await store.count_unread(tx, whose)
        kept, cursor = page(found, paging, lambda one: (one.id,))
        locale = None if person is None else person.locale
        items = [_notification(each, room, locale) for each in kept]
        return InboxPage(items=items, next_cursor=cursor, unread_count=count)

    @routes.post("/api/v1/notifications/{id}/read")
    async def read_notification(id: Id, identity: Identity = reader) -> NotificationView:
        """Mark one message as read; a second time changes nothing."""
        async with db.write() as tx:
            found = await store.get_notification(tx, id)
            if found is None or not _may_act(identity, found.user_id):
                raise NotFound(f"There is no notification {id!r}.")
            await store.set_read(tx, id)
            found = await store.get_notification(tx, id)
            assert found is not None
            person = await people.get(tx, found.user_id)
        return _notification(found, room, None if person is None else person.locale)

    @routes.post("/api/v1/notifications/read-all")
    async def read_all(
        user_id: Annotated[OutsideId | None, Query(alias="userId")] = None,
        identity: Identity = reader,
    ) -> ReadCountView:
        """Mark a whole inbox as read; answer how many were not."""
        whose = identity.subject if user_id is None else user_id
        if not _may_act(identity, whose):
            raise Forbidden("This inbox belongs to another person.")
        async with db.write() as tx:
            return ReadCountView(count=await store.set_all_read(tx, whose))


def _check_reads(identity: Identity, user_id: str) -> None:
    """Raise ``Forbidden`` unless this is the person, the platform's servers or an operator.

    Managers read what concerns them in their own inbox, and no one else's.
    """
    if not identity.is_person(user_id) and not identity.has(
        Role.SERVICE, Role.OPERATOR, Role.VIEWER
    ):
        raise Forbidden("These records belong to another person.")


def _may_act(identity: Identity, user_id: str) -> bool:
    return identity.is_person(user_id) or identity.has(Role.SERVICE)


def _notification(found: Notification, room: Notifications, locale: str | None) -> NotificationView:
    words = room.words(found, locale)
    return NotificationView(
        id=found.id,
        type=found.type,
        user_id=found.user_id,
        title=words.title,
        text=words.summary,
        metadata=dict(found.metadata),
        created_at=found.created_at,
        expires_at=found.expires_at,
        read_at=found.read_at,
        resolved_at=found.resolved_at,
    )


def _add_preferences(routes: APIRouter, db: Database, auth: Auth) -> None:
    reader: Identity = Depends(auth.require(*Role))
    path = "/api/v1/people/{userId}/notification-preferences"

    async def view(user_id: str) -> PreferencesView:
        async with db.read() as tx:
            profile = (await want.profiles(tx, [user_id])).get(user_id, Profile(user_id))
            wanted = (await want.preferences(tx, [user_id])).get(user_id, {})
        return _preferences(profile, wanted)

    @routes.get(path)
    async def get_preferences(user_id: UserId, identity: Identity = reader) -> PreferencesView:
        """Return what somebody wants: by type and channel, quiet hours, digest, addresses."""
        _check_reads(identity, user_id)
        return await view(user_id)

    @routes.put(path)
    async def put_preferences(
        user_id: UserId, body: PreferencesBody, identity: Identity = reader
    ) -> PreferencesView:
        """Replace what somebody wants. Mandatory types cannot be switched off."""
        if not _may_act(identity, user_id):
            raise Forbidden("These preferences belong to another person.")
        _check_types(body)
        quiet = body.quiet_hours
        profile = Profile(
            user_id,
            None if quiet is None else _minutes(quiet.start),
            None if quiet is None else _minutes(quiet.end),
            None if body.digest_at is None else _minutes(body.digest_at),
            body.addresses.sms,
            body.addresses.chat,
        )
        source = "person" if identity.is_person(user_id) else "staff"
        async with db.write() as tx:
            await want.put_profile(tx, profile)
            await want.clear_preferences(tx, user_id)
            for type, channels in body.channels.items():
                for channel, wanted in channels.items():
                    await want.put_preference(tx, user_id, type, channel, wanted, source)
        return await view(user_id)


def _check_types(body: PreferencesBody) -> None:
    for type, channels in body.channels.items():
        kind = KINDS.get(type)
        if kind is None:
            raise Invalid(f"{type!r} is no type of message; there are {', '.join(KINDS)}.")
        for channel, wanted in channels.items():
            if kind.mandatory and not wanted and channel in kind.default:
                raise Invalid(f"{type} is mandatory: it cannot be switched off for {channel}.")


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def _clock(minutes: int | None) -> str | None:
    return None if minutes is None else f"{minutes // 60:02}:{minutes % 60:02}"


def _preferences(profile: Profile, wanted: dict[tuple[str, Channel], bool]) -> PreferencesView:
    quiet = None
    start, end = _clock(profile.quiet_start), _clock(profile.quiet_end)
    if start is not None and end is not None:
        quiet = QuietHoursView(start=start, end=end)
    return PreferencesView(
        user_id=profile.user_id,
        preferences=[
            PreferenceView(
                type=kind.name,
                mandatory=kind.mandatory,
                may_wait=kind.may_wait,
                channels={
                    channel: (kind.mandatory and channel in kind.default)
                    or wanted.get((kind.name, channel), channel in kind.default)
                    for channel in Channel
                },
            )
            for kind in KINDS.values()
        ],
        quiet_hours=quiet,
        digest_at=_clock(profile.digest_minute),
        addresses=AddressesView(sms=profile.sms, chat=profile.chat),
    )


def _page(html: str) -> HTMLResponse:
    """Return a page whose one style sheet is allowed by its hash, and nothing else."""
    style = _STYLE.search(html)
    digest = b64encode(hashlib.sha256((style[1] if style else "").encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; "
        "frame-ancestors 'none'"
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})


def _add_links(routes: APIRouter, db: Database, room: Notifications) -> None:
    async def page_for(token: str, request: Request, *, ask: bool) -> HTMLResponse:
        async with db.read() as tx:
            found = await room.subscription(tx, token)
            person = None if found is None else await people.get(tx, found.user_id)
        locale = None if person is None else person.locale
        if locale is None:
            locale = request.headers.get("accept-language", "en")[:2]
        kind = None if found is None else found.type.split("+")[0]
        answer = _page(room.templates.stop_page(kind, locale=locale, ask=ask))
        if found is None:
            answer.status_code = 404
        return answer

    @routes.get("/u/{token}", response_class=HTMLResponse, responses=_NO_LINK, openapi_extra=PUBLIC)
    async def show_subscription(
        request: Request, token: Annotated[str, Path(max_length=1_000)]
    ) -> HTMLResponse:
        """Show what a mail's link would stop. It changes nothing: programs follow links too."""
        return await page_for(token, request, ask=True)

    @routes.post(
        "/u/{token}", response_class=HTMLResponse, responses=_NO_LINK, openapi_extra=PUBLIC
    )
    async def unsubscribe(
        request: Request, token: Annotated[str, Path(max_length=1_000)]
    ) -> HTMLResponse:
        """Stop mails of a kind by one click (RFC 8058): no sign-in, no redirect, any form."""
        await room.unsubscribe(token)
        return await page_for(token, request, ask=False)
