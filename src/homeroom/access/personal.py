"""Lines of the audit trail that name a person: what was done stays, who it was does not."""

from __future__ import annotations

from homeroom.access.store import audit
from homeroom.db.personal import Holding, named_in, said_in

_OF_PEOPLE = ("person.exported", "mail.unsubscribed")

PERSONAL = (
    named_in(audit.c.actor),
    Holding(
        audit,  # the same column names courses, queues and keys, which may be called like a person
        lambda user_id: (audit.c.subject == user_id) & audit.c.action.in_(_OF_PEOPLE),
        lambda user_id, pseudonym: {"subject": pseudonym},
        frozenset({"id", "at", "action", "subject"}),
    ),
    said_in(audit.c.details),
)
