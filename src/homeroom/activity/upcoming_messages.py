"""The messages that a programme's coming schedules send next, as of now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from homeroom.activity.fanout import load_names
from homeroom.activity.jobs import PROGRAMME_SCHEDULES, programme_schedule_name
from homeroom.activity.obligation_rules import Programme
from homeroom.db.tx import Tx
from homeroom.errors import NotFound
from homeroom.jobs.api import Registry, UpcomingSlot, preview_next_slot

_WRITING_KINDS = tuple(kind for kind in PROGRAMME_SCHEDULES if kind != "open_week")


@dataclass(frozen=True, slots=True)
class UpcomingMessages:
    """One coming slot of a programme with its recipients by name."""

    kind: str
    """The first part of the schedule's name."""
    slot: UpcomingSlot
    names: dict[str, str]

    @property
    def preview(self) -> dict[str, Any]:
        """Return the week, the messages, and those who get none; empty without a slot."""
        return dict(self.slot.preview or {})


async def list_upcoming_messages(
    tx: Tx, registry: Registry, programme: Programme
) -> list[UpcomingMessages]:
    """Return coming slots that write to people: earliest first, paused last.

    A closed programme has no schedules.
    """
    found = []
    for kind in _WRITING_KINDS:
        try:
            name = programme_schedule_name(kind, programme.id)
            slot = await preview_next_slot(tx, registry, name)
        except NotFound:
            continue
        user_ids = list(dict.fromkeys(_user_ids(slot.preview or {})))
        name_of = await load_names(tx, user_ids)
        found.append(UpcomingMessages(kind, slot, {each: name_of(each) for each in user_ids}))
    never = max((each.slot.slot.at for each in found if each.slot.slot), default=0) + 1
    return sorted(found, key=lambda each: each.slot.slot.at if each.slot.slot else never)


def _user_ids(preview: dict[str, Any]) -> list[str]:
    groups = ("messages", "sentBefore", "others")
    return [each["userId"] for group in groups for each in preview.get(group, ())]
