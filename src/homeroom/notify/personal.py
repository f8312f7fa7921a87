"""Rows of messages that speak of a person.

Suppressed addresses stay: whoever complained is not to be written to again.
"""

from __future__ import annotations

from sqlalchemy import Select, select

from homeroom.db.personal import Holding, named_in, rows_of
from homeroom.jobs import api as jobs
from homeroom.notify.table import ATTEMPT, BOUNCE, DELIVERY, NOTIFICATION, PREFERENCE, PROFILE


def _messages(user_id: str) -> Select[tuple[str]]:
    return select(NOTIFICATION.c.id).where(NOTIFICATION.c.user_id == user_id)


def _deliveries(user_id: str) -> Select[tuple[str]]:
    return select(DELIVERY.c.id).where(DELIVERY.c.notification_id.in_(_messages(user_id)))


def _jobs(user_id: str) -> Select[tuple[str]]:
    return select(DELIVERY.c.job).where(DELIVERY.c.notification_id.in_(_messages(user_id)))


PERSONAL = (
    *jobs.work_on(_jobs),
    Holding(BOUNCE, lambda user_id: BOUNCE.c.delivery_id.in_(_deliveries(user_id))),
    Holding(ATTEMPT, lambda user_id: ATTEMPT.c.delivery_id.in_(_deliveries(user_id))),
    Holding(DELIVERY, lambda user_id: DELIVERY.c.notification_id.in_(_messages(user_id))),
    rows_of(NOTIFICATION.c.user_id),
    rows_of(PREFERENCE.c.user_id),
    rows_of(PROFILE.c.user_id),
    named_in(DELIVERY.c.asked_by),
    named_in(ATTEMPT.c.actor),
)
