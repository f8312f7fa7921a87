"""A server like Credly: badges issued, found, revoked, and the events that tell of it.

Follows https://www.credly.com/docs/issued_badges as documentation; what that leaves open is decided
here: a revoked badge doesn't block a new one, every template id is known unless archived, and the
event types are `badge.created` and `badge.state.changed`.
"""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

from msgspec import Struct

from homeroom.sandbox import badge_order, wall
from homeroom.sandbox.auth import require_basic
from homeroom.sandbox.config import SandboxConfig
from homeroom.sandbox.exchange import PREFIXES, Answer, Exchange, Refused

_MAX_BADGES = 100_000
_PER_PAGE = 50
_FILTERS = ("badge_template_id", "recipient_email", "issuer_earner_id", "state")


class Template(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Set how a badge template behaves: an archived one issues nothing."""

    id: str
    archived: bool = False
    allow_duplicates: bool = False


class Credly:
    """Keep issued badges and answer for one organization."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self.templates: dict[str, Template] = {}
        self.badges: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self._holders: dict[tuple[str, str, str], str] = {}
        self._issued: Counter[tuple[str, str]] = Counter()

    def work(self, exchange: Exchange) -> Answer:
        """Answer one request. Raises Refused."""
        require_basic(exchange, self._config.credly_token)
        match exchange.segments:
            case ("organizations", organization, *rest):
                if organization != self._config.organization:
                    raise Refused(404, f"no organization {organization}")
            case _:
                raise Refused(404, "no such path")
        match exchange.method, tuple(rest):
            case "POST", ("badges",):
                return self._issue(exchange)
            case "GET", ("badges",):
                return self._list(exchange)
            case "PUT", ("badges", badge_id, "revoke"):
                return self._revoke(exchange, badge_id)
            case "GET", ("events", event_id):
                found = self.events.get(event_id)
                if found is None:
                    raise Refused(404, "no such event")
                return Answer(200, {"data": found})
        raise Refused(404, "no such path")

    def summary(self) -> dict[str, Any]:
        """Count what was ever issued, by template and earner."""
        return {
            "badges": len(self.badges),
            "revoked": sum(badge["state"] == "revoked" for badge in self.badges.values()),
            "issued": [
                {"templateId": template, "earner": earner, "count": count}
                for (template, earner), count in self._issued.items()
            ],
            "doubled": sum(count > 1 for count in self._issued.values()),
        }

    def _issue(self, exchange: Exchange) -> Answer:
        order = exchange.read_object("application/json")
        found = badge_order.problems(order)
        if found:
            raise Refused(422, *found)
        template = self.templates.get(order["badge_template_id"]) or Template(
            order["badge_template_id"]
        )
        if template.archived:
            raise Refused(422, f"badge template {template.id} is archived and can't issue")
        holders = _holders(order)
        if not template.allow_duplicates and any(holder in self._holders for holder in holders):
            raise Refused(422, "this earner already has a badge of this template")
        if len(self.badges) >= _MAX_BADGES:
            raise Refused(507, "the sandbox is full: POST /control/reset")
        badge = self._badge(order, exchange.base_url + PREFIXES["credly"])
        self.badges[badge["id"]] = badge
        for holder in holders:
            self._holders[holder] = badge["id"]
        earner = order.get("issuer_earner_id") or order["recipient_email"].casefold()
        self._issued[template.id, earner] += 1
        self._tell("badge.created", badge)
        return Answer(201, {"data": badge})

    def _badge(self, order: dict[str, Any], url: str) -> dict[str, Any]:
        badge_id = str(uuid.uuid4())
        now = wall.rfc3339(wall.now())
        first, last = order["issued_to_first_name"], order["issued_to_last_name"]
        return {
            "id": badge_id,
            "state": "pending",
            "recipient_email": order["recipient_email"],
            "issued_to": f"{first} {last}",
            "issued_to_first_name": first,
            "issued_to_middle_name": order.get("issued_to_middle_name"),
            "issued_to_last_name": last,
            "issuer_earner_id": order.get("issuer_earner_id"),
            "badge_template_id": order["badge_template_id"],
            "badge_template": {"id": order["badge_template_id"]},
            "locale": order.get("locale") or "en",
            "issued_at": order["issued_at"],
            "expires_at": order.get("expires_at") or None,
            "evidence": order.get("evidence", []),
            "accept_badge_url": f"{url}/earner/badges/{badge_id}/accept",
            "badge_url": f"{url}/badges/{badge_id}",
            "image_url": f"{url}/images/{badge_id}/badge.png",
            "created_at": now,
            "updated_at": now,
            "revoked_at": None,
            "revocation_reason": None,
        }

    def _list(self, exchange: Exchange) -> Answer:
        wanted = _read_filter(exchange.query.get("filter", ""))
        found = [badge for badge in self.badges.values() if _matches(badge, wanted)]
        try:
            page = max(1, int(exchange.query.get("page", "1")))
        except ValueError as error:
            raise Refused(422, "page must be a number") from error
        shown = found[(page - 1) * _PER_PAGE : page * _PER_PAGE]
        metadata = {
            "count": len(shown),
            "current_page": page,
            "per": _PER_PAGE,
            "total_count": len(found),
            "total_pages": -(-len(found) // _PER_PAGE),
        }
        return Answer(200, {"data": shown, "metadata": metadata})

    def _revoke(self, exchange: Exchange, badge_id: str) -> Answer:
        order = exchange.read_object("application/json")
        badge = self.badges.get(badge_id)
        if badge is None:
            raise Refused(404, "no such badge")
        reason = order.get("reason")
        if not isinstance(reason, str) or not reason:
            raise Refused(422, "reason is required")
        if badge["state"] == "revoked":
            raise Refused(422, "this badge is revoked already")
        now = wall.rfc3339(wall.now())
        badge |= {
            "state": "revoked",
            "revoked_at": now,
            "updated_at": now,
            "revocation_reason": reason,
        }
        for holder in [key for key, held in self._holders.items() if held == badge_id]:
            del self._holders[holder]
        self._tell("badge.state.changed", badge)
        return Answer(200, {"data": badge})

    def _tell(self, event_type: str, badge: dict[str, Any]) -> None:
        event_id = str(uuid.uuid4())
        self.events[event_id] = {
            "id": event_id,
            "organization_id": self._config.organization,
            "event_type": event_type,
            "occurred_at": wall.rfc3339(wall.now()),
            "badge": dict(badge),
        }


def _holders(order: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name whom a badge would belong to: the duplicate rule holds for either of them."""
    template = order["badge_template_id"]
    holders = [(template, "email", order["recipient_email"].casefold())]
    if order.get("issuer_earner_id"):
        holders.append((template, "earner", order["issuer_earner_id"]))
    return holders


def _read_filter(text: str) -> dict[str, str]:
    """Read `name::value|name::value`. Raises Refused 422."""
    wanted = {}
    for part in filter(None, text.split("|")):
        name, separator, value = part.partition("::")
        if not separator or name not in _FILTERS:
            raise Refused(422, f"can't filter by {part}")
        wanted[name] = value
    return wanted


def _matches(badge: dict[str, Any], wanted: dict[str, str]) -> bool:
    return all(
        str(badge[name] or "").casefold() == value.casefold() for name, value in wanted.items()
    )
