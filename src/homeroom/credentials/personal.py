"""Rows of credentials that speak of a person."""

from __future__ import annotations

from homeroom.credentials.store import CREDENTIAL
from homeroom.db.personal import rows_of

PERSONAL = (rows_of(CREDENTIAL.c.user_id),)
