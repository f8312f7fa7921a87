"""What Credly asks of an order for a badge.

Source: https://www.credly.com/docs/issued_badges, read as documentation; not tried on the real one.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

_REQUIRED = (
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
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", re.ASCII)
_ADDRESS = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def problems(order: dict[str, Any]) -> list[str]:
    """List everything that is wrong with an order; empty when it can be issued."""
    found = [
        f"{name} is required" for name in _REQUIRED if order.get(name) is None or order[name] == ""
    ]
    found += [
        f"{name} must be text"
        for name in (*_REQUIRED, *_OPTIONAL_TEXT)
        if order.get(name) is not None and not isinstance(order[name], str)
    ]
    email = order.get("recipient_email")
    if isinstance(email, str) and email and not _ADDRESS.fullmatch(email):
        found.append("recipient_email is no e-mail address")
    issued_at = order.get("issued_at")
    if isinstance(issued_at, str) and issued_at and not is_moment(issued_at):
        found.append('issued_at must look like "2014-04-01 09:41:00 -0500"')
    expires_at = order.get("expires_at")
    if expires_at is not None and expires_at is not False and not is_moment(expires_at):
        found.append('expires_at must be null, false or look like "2014-04-01 09:41:00 -0500"')
    if not isinstance(order.get("suppress_badge_notification_email", False), bool):
        found.append("suppress_badge_notification_email must be true or false")
    if not isinstance(order.get("evidence", []), list):
        found.append("evidence must be a list")
    return found


def is_moment(value: object) -> bool:
    """Say whether a value is a time as Credly writes it, and one that exists."""
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        return False
    try:
        datetime.strptime(value, "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return False
    return True
