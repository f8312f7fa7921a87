"""Recipients of messages, for the jobs that deliver them.

The columns are named here again: ``notify.tables`` would load the directory and an HTTP client into
commands that only list jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, column, select, table

from homeroom.db.tx import Tx
from homeroom.jobs.subject import JobSubject, SubjectMatch, SubjectSource

_DELIVERY = table("delivery", column("id"), column("notification_id"), column("job"))
_NOTIFICATION = table("notification", column("id"), column("user_id"))
_MESSAGES = _DELIVERY.join(_NOTIFICATION, _NOTIFICATION.c.id == _DELIVERY.c.notification_id)


async def _read(tx: Tx, delivery_ids: Sequence[str]) -> dict[str, JobSubject]:
    rows = await tx.fetch(
        select(_DELIVERY.c.id, _NOTIFICATION.c.user_id)
        .select_from(_MESSAGES)
        .where(_DELIVERY.c.id.in_(delivery_ids))
    )
    return {id: JobSubject(user_id) for id, user_id in rows}


def _select_jobs(match: SubjectMatch) -> Select[tuple[str]]:
    job: Any = _DELIVERY.c.job
    is_recipient = match.user(_NOTIFICATION.c.user_id)
    return select(job).select_from(_MESSAGES).where(is_recipient, job.is_not(None))


SUBJECTS = SubjectSource("deliveryId", _read, _select_jobs)
