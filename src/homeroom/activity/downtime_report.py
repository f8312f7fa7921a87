"""Report the slots that schedules missed during a downtime: one message a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from homeroom.activity.jobs import ReportMissedSlots
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.jobs.api import (
    Done,
    Job,
    JobContext,
    Outcome,
    Registry,
    SlotRecord,
    enqueue,
    has_unreported_slots,
    take_unreported_slots,
)
from homeroom.notify.api import Message, Notifications
from homeroom.people import api as people

ADMIN, OPERATOR = "admin", "operator"
_REPORT_DELAY = timedelta(seconds=30)
"""Time for all schedules to find their missed slots, so that one message has them all."""


class DowntimeReport:
    """Handler of the job that reports missed slots."""

    def __init__(self, db: Database, notifications: Notifications) -> None:
        """Store the notifications that write the messages."""
        self._db, self._notifications = db, notifications

    def register(self, registry: Registry) -> None:
        """Register the handler."""
        registry.add(ReportMissedSlots, self.report, is_outstanding=_is_report_outstanding)

    async def report(self, ctx: JobContext, args: ReportMissedSlots) -> Outcome:
        """Notify admins and operators of all slots that were not reported yet."""
        async with self._db.write() as tx:
            slots = await take_unreported_slots(tx)
            if slots:
                await self._notifications.send(tx, await _build_messages(tx, slots))
            outcome = Done({"slots": len(slots)})
            await ctx.settle(tx, outcome)
        return outcome


async def _is_report_outstanding(tx: Tx, job: Job, args: ReportMissedSlots) -> bool:
    return await has_unreported_slots(tx)


async def enqueue_missed_report(tx: Tx) -> None:
    """Enqueue a report, in a transaction that records missed slots.

    Of the jobs of one downtime the first reports all slots and the others find none.
    """
    await enqueue(tx, ReportMissedSlots(), delay=_REPORT_DELAY)


async def _build_messages(tx: Tx, slots: Sequence[SlotRecord]) -> list[Message]:
    recipients = await people.list_with_role(tx, ADMIN) + await people.list_with_role(tx, OPERATOR)
    params = build_missed_params(slots)
    return [
        Message(
            key=f"schedule_missed:{tx.now}:{user_id}",
            type="schedule_missed",
            user_id=user_id,
            params=params,
            metadata={"schedules": [each["schedule"] for each in params["schedules"]]},
        )
        for user_id in sorted({person.id for person in recipients})
    ]


def build_missed_params(slots: Sequence[SlotRecord]) -> dict[str, Any]:
    """Return the content of the message: a line for each schedule, by its name."""
    by_schedule: dict[str, list[SlotRecord]] = {}
    for slot in sorted(slots, key=lambda each: each.slot_at):
        by_schedule.setdefault(slot.schedule, []).append(slot)
    lines: list[Mapping[str, Any]] = [
        {"schedule": name, "runs": len(own), "first": own[0].slot, "last": own[-1].slot}
        for name, own in sorted(by_schedule.items())
    ]
    return {
        "schedules": lines,
        "runs": len(slots),
        "foundAt": max(slot.fired_at for slot in slots),
    }
