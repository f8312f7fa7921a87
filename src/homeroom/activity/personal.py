"""Rows of programmes that speak of a person: what was taught and logged stays the school's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, func

from homeroom.activity.table import EXEMPTION, LOG, OBLIGATION, OFFERING, PROGRAMME, WARNING
from homeroom.db.personal import Holding, named_in, rows_of


def _quoted(user_id: str) -> str:
    return msgspec.json.encode(user_id).decode()


def _managed(user_id: str) -> ColumnElement[bool]:
    return PROGRAMME.c.managers.contains(_quoted(user_id), autoescape=True)


def _other_manager(user_id: str, pseudonym: str) -> Mapping[str, Any]:
    found = func.replace(PROGRAMME.c.managers, _quoted(user_id), _quoted(pseudonym))
    return {"managers": found}


PERSONAL = (
    named_in(OFFERING.c.facilitator_id),
    named_in(LOG.c.facilitator_id),
    named_in(OBLIGATION.c.facilitator_id),
    named_in(EXEMPTION.c.created_by),
    rows_of(EXEMPTION.c.user_id),
    rows_of(WARNING.c.user_id),
    Holding(PROGRAMME, _managed, _other_manager),
)
