"""Rows of the audit trail that name a person: what was done stays, who it was does not."""

from __future__ import annotations

from homeroom.access.store import audit
from homeroom.db.personal import named_in

PERSONAL = (named_in(audit.c.actor), named_in(audit.c.subject))
