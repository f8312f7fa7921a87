"""Rows of what was sent to partners that speak of a person."""

from __future__ import annotations

from homeroom.db.personal import rows_of
from homeroom.dispatch.store import DISPATCH

PERSONAL = (rows_of(DISPATCH.c.user_id),)
