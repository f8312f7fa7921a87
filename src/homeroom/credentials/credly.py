"""Issue badges through Credly's API (https://www.credly.com/docs/issued_badges).

Credly documents no idempotency key. What stands in for one: the badge's ``issued_at`` is the
completion's own date, and ``issuer_earner_id`` is our learner's id, so that a badge that an earlier
attempt made can be found again and told from one of another completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
import msgspec

from homeroom.clock import SECOND, from_datetime, to_datetime
from homeroom.credentials.directory import Learner
from homeroom.partner import TIMEOUT, Answer, Partner, PartnerError, basic, body_of

NAME = "Credly"
_LOCALES = ("en", "fr", "de", "ko", "ja", "zh-CN", "pt", "es-ES", "es-US", "fr-CA", "pt-BR")
"""Those that Credly has; another one is left out, and its default is English."""
_MAX_PAGES = 10


@dataclass(frozen=True, slots=True)
class Order:
    """A badge to be issued. Instants are microseconds UTC."""

    template_id: str
    learner: Learner
    email: str
    given_name: str
    family_name: str
    issued_at: int
    expires_at: int | None
    """None leaves it to the template."""


class _Template(msgspec.Struct):
    id: str | None = None


class Badge(msgspec.Struct, frozen=True):
    """A badge as Credly tells of it."""

    id: str
    state: str
    issued_at: str | None = None
    badge_url: str | None = None
    issuer_earner_id: str | None = None

    @property
    def revoked(self) -> bool:
        """Say whether it counts no more."""
        return self.state == "revoked"

    def is_for(self, order: Order) -> bool:
        """Say whether this is the badge that the order asks for: same learner, same date."""
        moment = read_moment(self.issued_at)
        return (
            not self.revoked
            and self.issuer_earner_id in (None, order.learner.id)
            and moment is not None
            and moment // SECOND == order.issued_at // SECOND
        )


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a badge, fetched back from Credly itself."""

    badge: Badge
    occurred_at: str | None = None


class _One(msgspec.Struct):
    data: Badge


class _OneEvent(msgspec.Struct):
    data: Event


class _Metadata(msgspec.Struct):
    total_pages: int = 1


class _Many(msgspec.Struct):
    data: list[Badge]
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


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
        timeout: timedelta = TIMEOUT,
    ) -> None:
        """Take the shared client and the organization's token (Basic, blank password).

        ``timeout`` is for each call.
        """
        self._partner = Partner(
            client, NAME, url, authorization=basic(token), secrets=(token,), timeout=timeout
        )
        self._organization = organization

    async def issue(self, order: Order) -> Badge:
        """Issue a badge. Raises ``PartnerError``: 422 for a faulty order and for a duplicate."""
        body: dict[str, object] = {
            "recipient_email": order.email,
            "issued_to_first_name": order.given_name,
            "issued_to_last_name": order.family_name,
            "badge_template_id": order.template_id,
            "issued_at": write_moment(order.issued_at),
            "issuer_earner_id": order.learner.id,
        }
        if order.expires_at is not None:
            body["expires_at"] = write_moment(order.expires_at)
        locale = credly_locale(order.learner.locale)
        if locale is not None:
            body["locale"] = locale
        answer = await self._call("POST", ("badges",), body=body)
        return answer.read(_One).data

    async def find(self, template_id: str, user_id: str, email: str | None) -> list[Badge]:
        """Return the badges of a template that a learner has, by address and by our id.

        Both ways, because the address may have changed since. Raises ``PartnerError``.
        """
        found: dict[str, Badge] = {}
        for name, value in (("recipient_email", email), ("issuer_earner_id", user_id)):
            if value is None or "|" in value or "::" in value:
                continue  # cannot be said in Credly's filter
            for badge in await self._list(f"badge_template_id::{template_id}|{name}::{value}"):
                found[badge.id] = badge
        return list(found.values())

    async def revoke(self, badge_id: str, reason: str) -> None:
        """Revoke a badge. Raises ``PartnerError``: 422 if it is revoked already."""
        await self._call("PUT", ("badges", badge_id, "revoke"), body={"reason": reason})

    async def event(self, event_id: str) -> Event | None:
        """Fetch an event; None if Credly knows none with this id, or it is not of a badge."""
        try:
            answer = await self._call("GET", ("events", event_id))
        except PartnerError as error:
            if error.answered == 404:
                return None
            raise
        return answer.read(_OneEvent).data

    async def _list(self, wanted: str) -> list[Badge]:
        found: list[Badge] = []
        for page in range(1, _MAX_PAGES + 1):
            query = {"filter": wanted, "page": str(page)}
            some = (await self._call("GET", ("badges",), query=query)).read(_Many)
            found += some.data
            if page >= some.metadata.total_pages:
                break
        return found

    async def _call(
        self,
        method: str,
        path: Sequence[str],
        *,
        body: dict[str, object] | None = None,
        query: dict[str, str] | None = None,
    ) -> Answer:
        return await self._partner.call(
            method,
            ("organizations", self._organization, *path),
            query=query,
            content=None if body is None else body_of(body),
        )


def write_moment(instant: int) -> str:
    """Write an instant as Credly reads it; it knows whole seconds only."""
    return to_datetime(instant).strftime("%Y-%m-%d %H:%M:%S +0000")


def read_moment(text: str | None) -> int | None:
    """Read a time as Credly writes it, in its own form or as RFC 3339; None if it is neither."""
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


def credly_locale(locale: str | None) -> str | None:
    """Return the one of Credly's languages that comes nearest; None if it has none."""
    if locale is None:
        return None
    wanted = locale.replace("_", "-").lower()
    for known in _LOCALES:
        if known.lower() == wanted:
            return known
    language = wanted.partition("-")[0]
    return next((known for known in _LOCALES if known.partition("-")[0] == language), None)
