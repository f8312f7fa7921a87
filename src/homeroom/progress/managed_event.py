"""Resets, renewals and waivers by managers, for their own people (decision 0053)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.progress.event import MANAGED_TYPES, ProgressEvent, RejectedEvent

FindOwnPeople = Callable[[Tx, Collection[str]], Awaitable[frozenset[str]]]
"""Return those of some people that are the manager's own."""
_REFUSAL = (
    "You may do this for your own people: those whose managerId you are, and the facilitators of"
    " your programmes."
)


async def reject_foreign_events(
    db: Database, find_own: FindOwnPeople, events: list[ProgressEvent | RejectedEvent]
) -> None:
    """Replace, in the list, those events of a manager that are about other people.

    One query for all learners of a request, and none without such an event. The answer is the same
    for a learner who does not exist.
    """
    managed = {
        index: each
        for index, each in enumerate(events)
        if isinstance(each, ProgressEvent) and each.type in MANAGED_TYPES
    }
    if not managed:
        return
    async with db.read() as tx:
        own = await find_own(tx, {each.user_id for each in managed.values()})
    for index, each in managed.items():
        if each.user_id not in own:
            events[index] = RejectedEvent(each.id, "forbidden", _REFUSAL)
