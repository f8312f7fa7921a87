"""Rows of messages that speak of a person: those to them, and those about them to others.

Suppressed addresses stay: whoever complained is not to be written to again.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import ColumnElement, Select, or_, select, union

from homeroom.db.personal import NOTHING, Holding, held_first, named_in, rows_of, says
from homeroom.jobs import api as jobs
from homeroom.notify.jobs import SendBundle
from homeroom.notify.table import ATTEMPT, BOUNCE, DELIVERY, NOTIFICATION, PREFERENCE, PROFILE
from homeroom.people.api import email_of


def _messages(user_id: str) -> Select[tuple[str]]:
    about = or_(says(NOTIFICATION.c.params, user_id), says(NOTIFICATION.c.about, user_id))
    return select(NOTIFICATION.c.id).where(or_(NOTIFICATION.c.user_id == user_id, about))


def _delivery(user_id: str) -> ColumnElement[bool]:
    return DELIVERY.c.notification_id.in_(_messages(user_id))


def _own_delivery(user_id: str) -> ColumnElement[bool]:
    own = select(NOTIFICATION.c.id).where(NOTIFICATION.c.user_id == user_id)
    return DELIVERY.c.notification_id.in_(own)


def _attempt(user_id: str) -> ColumnElement[bool]:
    return ATTEMPT.c.delivery_id.in_(select(DELIVERY.c.id).where(_delivery(user_id)))


def _bounce(user_id: str) -> ColumnElement[bool]:
    """Name what came back from this person's addresses; deliveries may be pruned before it."""
    profile = PROFILE.c.user_id == user_id
    addresses = union(
        email_of(user_id),
        select(PROFILE.c.sms).where(profile),
        select(PROFILE.c.chat).where(profile),
        select(DELIVERY.c.address).where(_own_delivery(user_id)),
    )
    deliveries = select(DELIVERY.c.id).where(_delivery(user_id))
    return or_(BOUNCE.c.address.in_(addresses), BOUNCE.c.delivery_id.in_(deliveries))


def _escaped(user_id: str) -> str:
    return msgspec.json.encode(user_id).decode()[1:-1]


_SHOWN = frozenset(DELIVERY.columns.keys()) - {"asked_by", "asked_why"}
PERSONAL = (
    held_first(DELIVERY.c.updated_at, _delivery),
    *jobs.work_on(lambda user_id: select(DELIVERY.c.job).where(_delivery(user_id))),
    *jobs.work_that_names(SendBundle.kind, lambda user_id: f":{_escaped(user_id)}:"),
    Holding(BOUNCE, _bounce),
    Holding(ATTEMPT, _attempt, shown=NOTHING),
    Holding(DELIVERY, _own_delivery, shown=_SHOWN),
    Holding(DELIVERY, _delivery, shown=NOTHING),
    rows_of(NOTIFICATION.c.user_id),
    Holding(NOTIFICATION, lambda user_id: NOTIFICATION.c.id.in_(_messages(user_id)), shown=NOTHING),
    rows_of(PREFERENCE.c.user_id),
    rows_of(PROFILE.c.user_id),
    named_in(DELIVERY.c.asked_by),
    named_in(ATTEMPT.c.actor),
)
