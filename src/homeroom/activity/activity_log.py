"""Facilitators' logs, and their effect on obligations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from homeroom.access import api as access
from homeroom.activity import obligation_store, store
from homeroom.activity.downtime_rules import extended_deadline
from homeroom.activity.obligation_rules import (
    Obligation,
    ObligationState,
    Offering,
    Programme,
    decide_obligation,
    parse_week,
    state_after_submission,
)
from homeroom.activity.obligation_update import (
    open_and_close_weeks,
    resolve_outdated_warnings,
    resolve_reminders,
)
from homeroom.activity.recipient_selection import build_late_log_alerts, late_log_key
from homeroom.activity.store import ActivityLog
from homeroom.db.database import Database
from homeroom.db.ids import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, NotFound
from homeroom.jobs.api import downtimes
from homeroom.notify.api import Notifications
from homeroom.people import api as people

TOPIC = "activity-logs"
ActivityLogStatus = Literal["draft", "submitted"]


def unknown_offering(id: str) -> NotFound:
    """Return the error for an offering that does not exist, or not for the caller."""
    return NotFound(f"There is no offering {id!r}.")


class ActivityLogs:
    """Writes, changes and deletes activity logs."""

    def __init__(self, db: Database, notifications: Notifications) -> None:
        """Store the notifications that alert managers to late logs."""
        self._db, self._notifications = db, notifications

    async def offering(self, tx: Tx, id: str) -> Offering:
        """Return an offering; raise ``NotFound``."""
        offering = await store.get_offering(tx, id)
        if offering is None:
            raise unknown_offering(id)
        return offering

    async def lock(self, tx: Tx, id: str) -> None:
        """Lock a log that is read to be changed, until this transaction ends."""
        await tx.lock("activity log", [id])

    async def get(self, tx: Tx, id: str) -> ActivityLog:
        """Return a log; raise ``NotFound``."""
        activity_log = await store.get_log(tx, id)
        if activity_log is None:
            raise NotFound(f"There is no activity log {id!r}.")
        return activity_log

    async def write(
        self,
        tx: Tx,
        offering_id: str,
        week_key: str,
        status: ActivityLogStatus,
        content: Mapping[str, Any],
    ) -> ActivityLog:
        """Store the log of a week; only a submitted one satisfies the obligation.

        The server's clock decides when it was received. Raises ``NotFound`` for an unknown
        offering; ``Conflict`` for a week that has a log already, or that has no obligation.
        """
        offering = await self.offering(tx, offering_id)
        programme = await self._programme(tx, offering)
        row = await self._get_or_open_obligation(tx, programme, offering, week_key)
        submitted_at = tx.now if status == "submitted" else None
        log = ActivityLog(
            new_id(),
            offering_id,
            week_key,
            offering.facilitator_id,
            programme.id,
            status,
            content,
            tx.now,
            tx.now,
            submitted_at,
        )
        if not await store.add_log(tx, log):
            known = await store.get_week_log(tx, offering_id, week_key)
            raise Conflict(
                f"The offering {offering_id!r} has a log for {week_key} already.",
                hint="Change it with PATCH /api/v1/activity-logs/{id}.",
                details={"logId": None if known is None else known.id},
            )
        if submitted_at is not None:
            await self._submit(tx, programme, row, log)
        _publish(tx, log)
        return log

    async def change(
        self, tx: Tx, log: ActivityLog, status: ActivityLogStatus | None, content: Mapping[str, Any]
    ) -> ActivityLog:
        """Replace a log's content, and submit it if it was a draft.

        An edit never changes the time of submission. Raises ``Conflict`` for a log that would
        become a draft again.
        """
        after = status or log.status
        if log.status == "submitted" and after == "draft":
            raise Conflict(
                "A submitted log cannot become a draft again.",
                hint="Delete it with DELETE /api/v1/activity-logs/{id}.",
            )
        first = log.status == "draft" and after == "submitted"
        await store.update_log(tx, log.id, after, content, tx.now if first else None)
        if first:
            offering = await self.offering(tx, log.offering_id)
            programme = await self._programme(tx, offering)
            row = await self._get_or_open_obligation(tx, programme, offering, log.week_key)
            await self._submit(tx, programme, row, log)
        _publish(tx, log)
        return await self.get(tx, log.id)

    async def delete(self, tx: Tx, log: ActivityLog, actor: str) -> None:
        """Delete a log; the obligation that it satisfied is open again."""
        offering = await self.offering(tx, log.offering_id)
        programme = await self._programme(tx, offering)
        await store.delete_log(tx, log.id)
        row = await obligation_store.get_obligation(tx, log.offering_id, log.week_key)
        if row is not None and row.log_id == log.id:
            exemptions = await store.list_exemptions(tx, programme.id)
            decision = decide_obligation(
                offering,
                parse_week(log.week_key),
                exemptions,
                closed_on=programme.closed_on,
                last_day_to_join=programme.last_day_to_join,
            )
            await obligation_store.reopen_obligation(tx, log.offering_id, log.week_key, decision)
            await obligation_store.mark_missed(tx, programme.id)
        keys = [late_log_key(log.id, manager_id) for manager_id in programme.managers]
        await self._notifications.resolve(tx, keys)
        details = {"offeringId": log.offering_id, "week": log.week_key}
        await access.record_audit(tx, actor, "activity_log.deleted", log.id, details)
        _publish(tx, log)

    async def _programme(self, tx: Tx, offering: Offering) -> Programme:
        programme = await store.get_programme(tx, offering.programme_id)
        assert programme is not None  # an offering is made within a programme
        return programme

    async def _get_or_open_obligation(
        self, tx: Tx, programme: Programme, offering: Offering, week_key: str
    ) -> Obligation:
        """Return the obligation for a week, opened if due; raise ``Conflict``."""
        await open_and_close_weeks(tx, programme)
        row = await obligation_store.get_obligation(tx, offering.id, week_key)
        if row is None:
            raise Conflict(
                f"There is no log to write for {week_key}: the week has not begun, the offering"
                " does not run in it, or the offering was created later."
            )
        return row

    async def _submit(
        self, tx: Tx, programme: Programme, row: Obligation, log: ActivityLog
    ) -> None:
        """Satisfy the obligation, and alert managers of a late log at once."""
        exempt = row.state is ObligationState.EXEMPT
        deadline_at = extended_deadline(row.deadline_at, await downtimes(tx, row.opens_at))
        state = ObligationState.SUBMITTED if exempt else state_after_submission(deadline_at, tx.now)
        await obligation_store.satisfy_obligation(tx, row.offering_id, row.week_key, state, log.id)
        await resolve_reminders(
            tx, self._notifications, programme, row.week_key, row.facilitator_id
        )
        await resolve_outdated_warnings(tx, self._notifications, programme, [row.facilitator_id])
        if state is not ObligationState.LATE:
            return
        person = await people.get(tx, row.facilitator_id)
        name = row.facilitator_id
        if person is not None:
            name = f"{person.given_name} {person.family_name}"
        done = await obligation_store.get_obligation(tx, row.offering_id, row.week_key)
        assert done is not None
        await self._notifications.send(
            tx, build_late_log_alerts(programme, done, log.id, lambda _: name, tx.now)
        )


def _publish(tx: Tx, log: ActivityLog) -> None:
    tx.notify(TOPIC, log.id)
    tx.notify_about(log.facilitator_id, TOPIC)
