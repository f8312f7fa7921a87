"""Rows of the directory that speak of a person."""

from __future__ import annotations

from homeroom.db.personal import Holding, rows_of
from homeroom.people.store import PERSON

PERSONAL = (
    Holding(
        PERSON,
        lambda user_id: PERSON.c.manager_id == user_id,
        lambda user_id, pseudonym: {"manager_id": None},
        is_shown=False,
    ),
    rows_of(PERSON.c.id),
)
