"""A server like Credly: badges are issued, searched and revoked, with events.

It follows https://www.credly.com/docs/issued_badges. Points that it leaves open are decided here:
a revoked badge does not block a new one, every template id is known unless archived, the event
types are `badge.created` and `badge.state.changed`, and a badge that is replaced is revoked in the
same step as the new one is issued to the same earner, under the rules of an issue.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from datetime import datetime
from typing import Any

from msgspec import Struct

from homeroom.sandbox import sandbox_request
from homeroom.sandbox.sandbox_request import (
    PATH_PREFIXES,
    RequestRefused,
    SandboxRequest,
    SandboxResponse,
    require_basic,
)

_MAX_BADGES = 100_000
_PER_PAGE = 50
_FILTERS = ("badge_template_id", "recipient_email", "issuer_earner_id", "state")


class BadgeTemplate(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A badge template; no badge is issued for an archived one."""

    id: str
    archived: bool = False
    allow_duplicates: bool = False


class CredlyServer:
    """Issued badges and events of one organization."""

    def __init__(self, token: str, organization: str) -> None:
        self._token, self._organization = token, organization
        self.templates: dict[str, BadgeTemplate] = {}
        self.badges: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self._badge_by_holder: dict[tuple[str, str, str], str] = {}
        self._issued: Counter[tuple[str, str]] = Counter()

    def handle(self, request: SandboxRequest) -> SandboxResponse:
        """Handle one request. Raises RequestRefused."""
        require_basic(request, self._token)
        match request.segments:
            case ("organizations", organization, *rest):
                if organization != self._organization:
                    raise RequestRefused(404, f"no organization {organization}")
            case _:
                raise RequestRefused(404, "no such path")
        match request.method, tuple(rest):
            case "POST", ("badges",):
                return self._issue(request)
            case "GET", ("badges",):
                return self._list(request)
            case "PUT", ("badges", badge_id, "revoke"):
                return self._revoke(request, badge_id)
            case "POST", ("badges", badge_id, "replace"):
                return self._replace(request, badge_id)
            case "GET", ("events", event_id):
                found = self.events.get(event_id)
                if found is None:
                    raise RequestRefused(404, "no such event")
                return SandboxResponse(200, {"data": found})
        raise RequestRefused(404, "no such path")

    def summary(self) -> dict[str, Any]:
        """Count the issued badges, by template and earner."""
        return {
            "badges": len(self.badges),
            "revoked": sum(badge["state"] == "revoked" for badge in self.badges.values()),
            "issued": [
                {"templateId": template, "earner": earner, "count": count}
                for (template, earner), count in self._issued.items()
            ],
            "doubled": sum(count > 1 for count in self._issued.values()),
        }

    def _issue(self, request: SandboxRequest) -> SandboxResponse:
        body = request.read_object("application/json")
        found = badge_problems(body)
        if found:
            raise RequestRefused(422, *found)
        badge = self._issue_checked(body, request)
        earner = body.get("issuer_earner_id") or body["recipient_email"].casefold()
        self._issued[badge["badge_template_id"], earner] += 1
        return SandboxResponse(201, {"data": badge})

    def _replace(self, request: SandboxRequest, badge_id: str) -> SandboxResponse:
        old = self.badges.get(badge_id)
        if old is None:
            raise RequestRefused(404, "no such badge")
        if old["state"] == "revoked":
            raise RequestRefused(422, "this badge is revoked already")
        body = request.read_object("application/json")
        body = {"recipient_email": old["recipient_email"], **body}
        body.setdefault("issuer_earner_id", old["issuer_earner_id"])
        found = badge_problems(body)
        if body["recipient_email"] != old["recipient_email"]:
            found.append("recipient_email cannot be changed by a replacement")
        if found:
            raise RequestRefused(422, *found)
        held = self._free_holders(badge_id)
        try:
            badge = self._issue_checked(body, request)
        except RequestRefused:
            self._badge_by_holder |= dict.fromkeys(held, badge_id)
            raise
        self._end(old, f"replaced by {badge['id']}")
        return SandboxResponse(201, {"data": badge})

    def _issue_checked(self, body: dict[str, Any], request: SandboxRequest) -> dict[str, Any]:
        """Issue a badge to a body without faults. Raises RequestRefused."""
        template = self.templates.get(body["badge_template_id"]) or BadgeTemplate(
            body["badge_template_id"]
        )
        if template.archived:
            raise RequestRefused(422, f"badge template {template.id} is archived and cannot issue")
        holders = _holder_keys(body)
        if not template.allow_duplicates and any(
            holder in self._badge_by_holder for holder in holders
        ):
            raise RequestRefused(422, "this earner already has a badge of this template")
        if len(self.badges) >= _MAX_BADGES:
            raise RequestRefused(507, "the sandbox is full: POST /control/reset")
        badge = self._badge(body, request.base_url + PATH_PREFIXES["credly"])
        self.badges[badge["id"]] = badge
        for holder in holders:
            self._badge_by_holder[holder] = badge["id"]
        self._add_event("badge.created", badge)
        return badge

    def _badge(self, body: dict[str, Any], url: str) -> dict[str, Any]:
        badge_id = str(uuid.uuid4())
        now = sandbox_request.format_rfc3339(sandbox_request.utc_now())
        first, last = body["issued_to_first_name"], body["issued_to_last_name"]
        return {
            "id": badge_id,
            "state": "pending",
            "recipient_email": body["recipient_email"],
            "issued_to": f"{first} {last}",
            "issued_to_first_name": first,
            "issued_to_middle_name": body.get("issued_to_middle_name"),
            "issued_to_last_name": last,
            "issuer_earner_id": body.get("issuer_earner_id"),
            "badge_template_id": body["badge_template_id"],
            "badge_template": {"id": body["badge_template_id"]},
            "locale": body.get("locale") or "en",
            "issued_at": body["issued_at"],
            "expires_at": body.get("expires_at") or None,
            "evidence": body.get("evidence", []),
            "accept_badge_url": f"{url}/earner/badges/{badge_id}/accept",
            "badge_url": f"{url}/badges/{badge_id}",
            "image_url": f"{url}/images/{badge_id}/badge.png",
            "created_at": now,
            "updated_at": now,
            "revoked_at": None,
            "revocation_reason": None,
        }

    def _list(self, request: SandboxRequest) -> SandboxResponse:
        criteria = _parse_filter(request.query.get("filter", ""))
        found = [badge for badge in self.badges.values() if _matches(badge, criteria)]
        try:
            page = max(1, int(request.query.get("page", "1")))
        except ValueError as error:
            raise RequestRefused(422, "page must be a number") from error
        shown = found[(page - 1) * _PER_PAGE : page * _PER_PAGE]
        metadata = {
            "count": len(shown),
            "current_page": page,
            "per": _PER_PAGE,
            "total_count": len(found),
            "total_pages": -(-len(found) // _PER_PAGE),
        }
        return SandboxResponse(200, {"data": shown, "metadata": metadata})

    def _revoke(self, request: SandboxRequest, badge_id: str) -> SandboxResponse:
        body = request.read_object("application/json")
        badge = self.badges.get(badge_id)
        if badge is None:
            raise RequestRefused(404, "no such badge")
        reason = body.get("reason")
        if not isinstance(reason, str) or not reason:
            raise RequestRefused(422, "reason is required")
        if badge["state"] == "revoked":
            raise RequestRefused(422, "this badge is revoked already")
        self._free_holders(badge_id)
        self._end(badge, reason)
        return SandboxResponse(200, {"data": badge})

    def _free_holders(self, badge_id: str) -> list[tuple[str, str, str]]:
        """Let a badge block no other; return the keys of its earner."""
        keys = [key for key, held in self._badge_by_holder.items() if held == badge_id]
        for key in keys:
            del self._badge_by_holder[key]
        return keys

    def _end(self, badge: dict[str, Any], reason: str) -> None:
        now = sandbox_request.format_rfc3339(sandbox_request.utc_now())
        badge |= {
            "state": "revoked",
            "revoked_at": now,
            "updated_at": now,
            "revocation_reason": reason,
        }
        self._add_event("badge.state.changed", badge)

    def _add_event(self, event_type: str, badge: dict[str, Any]) -> None:
        event_id = str(uuid.uuid4())
        self.events[event_id] = {
            "id": event_id,
            "organization_id": self._organization,
            "event_type": event_type,
            "occurred_at": sandbox_request.format_rfc3339(sandbox_request.utc_now()),
            "badge": dict(badge),
        }


def _holder_keys(body: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the keys of the earner; the duplicate rule applies to each."""
    template = body["badge_template_id"]
    holders = [(template, "email", body["recipient_email"].casefold())]
    if body.get("issuer_earner_id"):
        holders.append((template, "earner", body["issuer_earner_id"]))
    return holders


def _parse_filter(text: str) -> dict[str, str]:
    """Read `name::value|name::value`. Raises RequestRefused 422."""
    criteria = {}
    for part in filter(None, text.split("|")):
        name, separator, value = part.partition("::")
        if not separator or name not in _FILTERS:
            raise RequestRefused(422, f"cannot filter by {part}")
        criteria[name] = value
    return criteria


def _matches(badge: dict[str, Any], criteria: dict[str, str]) -> bool:
    return all(
        str(badge[name] or "").casefold() == value.casefold() for name, value in criteria.items()
    )


_REQUIRED_TEXT = (
    "recipient_email",
    "issued_to_first_name",
    "issued_to_last_name",
    "badge_template_id",
    "issued_at",
)
_OPTIONAL_TEXT = (
    "issued_to_middle_name",
    "issuer_earner_id",
    "locale",
    "country_name",
    "state_or_province",
)
_CREDLY_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", re.ASCII)
_EMAIL_ADDRESS = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def badge_problems(body: dict[str, Any]) -> list[str]:
    """Return all faults of a request for a badge; empty if it can be issued."""
    found = [
        f"{name} is required"
        for name in _REQUIRED_TEXT
        if body.get(name) is None or body[name] == ""
    ]
    found += [
        f"{name} must be text"
        for name in (*_REQUIRED_TEXT, *_OPTIONAL_TEXT)
        if body.get(name) is not None and not isinstance(body[name], str)
    ]
    email = body.get("recipient_email")
    if isinstance(email, str) and email and not _EMAIL_ADDRESS.fullmatch(email):
        found.append("recipient_email is no e-mail address")
    issued_at = body.get("issued_at")
    if isinstance(issued_at, str) and issued_at and not is_credly_time(issued_at):
        found.append('issued_at must look like "2014-04-01 09:41:00 -0500"')
    expires_at = body.get("expires_at")
    if expires_at is not None and expires_at is not False and not is_credly_time(expires_at):
        found.append('expires_at must be null, false or look like "2014-04-01 09:41:00 -0500"')
    if not isinstance(body.get("suppress_badge_notification_email", False), bool):
        found.append("suppress_badge_notification_email must be true or false")
    if not isinstance(body.get("evidence", []), list):
        found.append("evidence must be a list")
    return found


def is_credly_time(value: object) -> bool:
    """Return whether a value is a time as Credly writes it, and one that exists."""
    if not isinstance(value, str) or not _CREDLY_TIME.fullmatch(value):
        return False
    try:
        datetime.strptime(value, "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return False
    return True
