"""Rows of the catalogue that speak of a person."""

from __future__ import annotations

from homeroom.catalogue.store import ENROLMENT
from homeroom.db.personal import rows_of

PERSONAL = (rows_of(ENROLMENT.c.user_id),)
