"""Rows of programmes that speak of a person: what was taught and logged stays the school's."""

from __future__ import annotations

from homeroom.activity.table import EXEMPTION, LOG, OBLIGATION, OFFERING, PROGRAMME, WARNING
from homeroom.db.personal import Holding, named_in, rows_of, said_in

PERSONAL = (
    named_in(OFFERING.c.facilitator_id),
    named_in(LOG.c.facilitator_id),
    named_in(OBLIGATION.c.facilitator_id),
    named_in(EXEMPTION.c.created_by),
    Holding(  # without it, weeks that nothing was owed for would be judged as missed
        EXEMPTION,
        lambda user_id: EXEMPTION.c.user_id == user_id,
        lambda user_id, pseudonym: {"user_id": pseudonym, "note": None},
        frozenset(EXEMPTION.columns.keys()) - {"created_by"},
    ),
    rows_of(WARNING.c.user_id),
    said_in(PROGRAMME.c.managers),
)
