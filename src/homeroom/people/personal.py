"""Rows of the directory, and of erasures, that speak of a person."""

from __future__ import annotations

from homeroom.db.personal import NOTHING, Holding, named_in, rows_of
from homeroom.people.store import ERASURE, PERSON

PERSONAL = (
    Holding(
        PERSON,
        lambda user_id: PERSON.c.manager_id == user_id,
        lambda user_id, pseudonym: {"manager_id": None},
        NOTHING,
    ),
    rows_of(PERSON.c.id),
    named_in(ERASURE.c.erased_by),
)
