"""Issue badges through Credly's API (https://www.credly.com/docs/issued_badges).

Credly documents no idempotency key. Two fields stand in for one: the badge's ``issued_at`` is the
completion's own date, and ``issuer_earner_id`` is the learner's id here. By them a later attempt
finds the badge of an earlier one, and distinguishes it from the badge of another completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
import msgspec

from homeroom.credentials.learner_lookup import LearnerRecord
from homeroom.instant import SECOND, from_datetime, to_datetime
from homeroom.partner.client import (
    PARTNER_TIMEOUT,
    Partner,
    PartnerResponse,
    basic_auth_header,
    encode_json,
)
from homeroom.partner.failure import PartnerError
from homeroom.partner.gate import PartnerGate

PARTNER_NAME = "Credly"
_CREDLY_LOCALES = ("en", "fr", "de", "ko", "ja", "zh-CN", "pt", "es-ES", "es-US", "fr-CA", "pt-BR")
"""The languages of Credly; an order in any other names none, and Credly uses English."""
_MAX_PAGES = 10


@dataclass(frozen=True, slots=True)
class BadgeOrder:
    """A badge to be issued. Instants are microseconds UTC."""

    template_id: str
    learner: LearnerRecord
    email: str
    given_name: str
    family_name: str
    issued_at: int
    expires_at: int | None
    """None leaves it to the template."""


class Badge(msgspec.Struct, frozen=True):
    """A badge in Credly's responses."""

    id: str
    state: str
    issued_at: str | None = None
    badge_url: str | None = None
    issuer_earner_id: str | None = None

    @property
    def is_revoked(self) -> bool:
        """Return whether the badge is revoked."""
        return self.state == "revoked"

    def is_for(self, order: BadgeOrder) -> bool:
        """Return whether this badge fulfils the order: the same learner, the same date."""
        moment = parse_credly_time(self.issued_at)
        return (
            not self.is_revoked
            and self.issuer_earner_id in (None, order.learner.id)
            and moment is not None
            and moment // SECOND == order.issued_at // SECOND
        )


class BadgeEvent(msgspec.Struct, frozen=True):
    """A change of a badge, fetched from Credly."""

    badge: Badge
    occurred_at: str | None = None


class _BadgeResponse(msgspec.Struct):
    data: Badge


class _BadgeEventResponse(msgspec.Struct):
    data: BadgeEvent


class _PageMetadata(msgspec.Struct):
    total_pages: int = 1


class _BadgePage(msgspec.Struct):
    data: list[Badge]
    metadata: _PageMetadata = msgspec.field(default_factory=_PageMetadata)


class CredlyIssuer:
    """One organization at Credly."""

    name = "credly"

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        organization: str,
        token: str,
        *,
        timeout: timedelta = PARTNER_TIMEOUT,
        gate: PartnerGate | None = None,
    ) -> None:
        """Use the shared client and the organization's token (Basic, blank password).

        ``timeout`` is for each call; ``gate`` holds jobs while Credly is away.
        """
        self.partner = Partner(
            client,
            PARTNER_NAME,
            url,
            authorization=basic_auth_header(token),
            secrets=(token,),
            timeout=timeout,
            gate=gate,
            takes_orders=True,
        )
        self._organization = organization

    async def issue(self, order: BadgeOrder) -> Badge:
        """Issue a badge. Raises ``PartnerError``: 422 for a fault or a duplicate."""
        body = {"recipient_email": order.email, **_order_body(order)}
        response = await self._call("POST", ("badges",), body=body)
        return response.decode(_BadgeResponse).data

    async def replace(self, badge_id: str, order: BadgeOrder) -> Badge:
        """Issue a badge in place of an earlier one of the same learner, which it ends.

        Raises ``PartnerError``: 404 or 422 for a badge that cannot be replaced.
        """
        path = ("badges", badge_id, "replace")
        response = await self._call("POST", path, body=_order_body(order))
        return response.decode(_BadgeResponse).data

    async def find(self, template_id: str, user_id: str, email: str | None) -> list[Badge]:
        """Return a learner's badges of a template, by e-mail address and by user id.

        Both, because the address may have changed since. Raises ``PartnerError``.
        """
        badge_by_id: dict[str, Badge] = {}
        for name, value in (("recipient_email", email), ("issuer_earner_id", user_id)):
            if value is None or "|" in value or "::" in value:
                continue  # Credly's filter has no escape for its separators
            for badge in await self._list_badges(
                f"badge_template_id::{template_id}|{name}::{value}"
            ):
                badge_by_id[badge.id] = badge
        return list(badge_by_id.values())

    async def revoke(self, badge_id: str, reason: str) -> None:
        """Revoke a badge. Raises ``PartnerError``: 422 if it is revoked already."""
        await self._call("PUT", ("badges", badge_id, "revoke"), body={"reason": reason})

    async def event(self, event_id: str) -> BadgeEvent | None:
        """Fetch an event; return None for an id that Credly does not know."""
        try:
            response = await self._call("GET", ("events", event_id))
        except PartnerError as error:
            if error.response_status == 404:
                return None
            raise
        return response.decode(_BadgeEventResponse).data

    async def _list_badges(self, filters: str) -> list[Badge]:
        badges: list[Badge] = []
        for page in range(1, _MAX_PAGES + 1):
            query = {"filter": filters, "page": str(page)}
            some = (await self._call("GET", ("badges",), query=query)).decode(_BadgePage)
            badges += some.data
            if page >= some.metadata.total_pages:
                break
        return badges

    async def _call(
        self,
        method: str,
        path: Sequence[str],
        *,
        body: dict[str, object] | None = None,
        query: dict[str, str] | None = None,
    ) -> PartnerResponse:
        return await self.partner.call(
            method,
            ("organizations", self._organization, *path),
            query=query,
            content=None if body is None else encode_json(body),
        )


def _order_body(order: BadgeOrder) -> dict[str, object]:
    body: dict[str, object] = {
        "issued_to_first_name": order.given_name,
        "issued_to_last_name": order.family_name,
        "badge_template_id": order.template_id,
        "issued_at": format_credly_time(order.issued_at),
        "issuer_earner_id": order.learner.id,
    }
    if order.expires_at is not None:
        body["expires_at"] = format_credly_time(order.expires_at)
    locale = nearest_credly_locale(order.learner.locale)
    if locale is not None:
        body["locale"] = locale
    return body


def format_credly_time(instant: int) -> str:
    """Format an instant for Credly, which has whole seconds."""
    return to_datetime(instant).strftime("%Y-%m-%d %H:%M:%S +0000")


def parse_credly_time(text: str | None) -> int | None:
    """Parse a time in Credly's own format or RFC 3339; None for any other text."""
    if text is None:
        return None
    try:
        return from_datetime(datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z"))
    except ValueError:
        pass
    try:
        return from_datetime(datetime.fromisoformat(text))
    except ValueError:
        return None


def nearest_credly_locale(locale: str | None) -> str | None:
    """Return the nearest of Credly's languages, or None."""
    if locale is None:
        return None
    wanted = locale.replace("_", "-").lower()
    for known in _CREDLY_LOCALES:
        if known.lower() == wanted:
            return known
    language = wanted.partition("-")[0]
    return next((known for known in _CREDLY_LOCALES if known.partition("-")[0] == language), None)
