"""Somebody whose token was checked (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ROLES = (
    "learner",
    "facilitator",
    "manager",
    "author",
    "operator",
    "viewer",
    "service",
    "admin",
)
"""The roles of the API page; what each may do is said by the routes."""


@dataclass(frozen=True, slots=True, eq=False)
class Principal:
    """Who asks: the ``sub`` of a JWT, or the name of an API key or sign-in.

    One stands for one check of a token, so that what is made of it is found again by itself.
    """

    subject: str
    roles: frozenset[str]
    via: Literal["key", "jwt", "session"]
    key_id: str | None = None
    """The API key behind it, where there is one; of the admin key a mark (``Access``)."""
    expires_at: float | None = None
    """When its token ends, in seconds since 1970; None where the token itself has no end."""
