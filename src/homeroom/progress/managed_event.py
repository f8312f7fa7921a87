"""Resets, renewals and waivers: rights of managers, and the audit.

A manager sends those of its own people (decision 0053).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from homeroom.access import api as access
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.progress.event import (
    MANAGED_TYPES,
    EventResult,
    EventStatus,
    EventType,
    ProgressEvent,
    RejectedEvent,
    waiver_reason,
)

FindOwnPeople = Callable[[Tx, Collection[str]], Awaitable[frozenset[str]]]
"""Return those of some people that are the manager's own."""
_REFUSAL = (
    "You may do this for your own people: those whose managerId you are, and the facilitators of"
    " your programmes."
)
_RESET, _WAIVED = EventType.PROGRESS_RESET, EventType.CHAPTER_WAIVED
_RENEWED = EventType.ATTEMPT_RENEWED
_ACTIONS: Mapping[EventType, str] = {
    _RESET: "progress.reset",
    _RENEWED: "attempt.renewed",
    _WAIVED: "chapter.waived",
}
"""The audit's names; erasure knows them (``access/store.py``)."""
_AUDITED_STATUSES = frozenset({EventStatus.ACCEPTED, EventStatus.QUARANTINED})


def has_managed_event(events: Sequence[ProgressEvent | RejectedEvent]) -> bool:
    """Return whether a request resets, renews or waives; 50 ns an event."""
    return any(
        isinstance(each, ProgressEvent)
        and ((kind := each.type) is _RESET or kind is _WAIVED or kind is _RENEWED)
        for each in events
    )


async def audit_managed_events(
    tx: Tx, actor: str, events: Sequence[ProgressEvent], results: Sequence[EventResult]
) -> None:
    """Audit each reset, renewal and waiver, in the events' transaction.

    A repeat changes nothing and is no act. An event that is quarantined is audited now, as its
    replay does not know the sender.
    """
    await access.record_audits(
        tx,
        actor,
        [
            (_ACTIONS[event.type], event.user_id, _details(event, result))
            for event, result in zip(events, results, strict=True)
            if event.type in _ACTIONS and result.status in _AUDITED_STATUSES
        ],
    )


def _details(event: ProgressEvent, result: EventResult) -> Mapping[str, str]:
    details = {
        "courseId": event.course_id,
        "chapterId": event.chapter_id,
        "eventId": event.id,
        "reason": waiver_reason(event.metadata),
        "status": None if result.status is EventStatus.ACCEPTED else result.status.value,
    }
    return {name: value for name, value in details.items() if value is not None}


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
