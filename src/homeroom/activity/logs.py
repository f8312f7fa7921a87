"""Take facilitators' logs: drafts, hand-ins, edits, and what each does to what is owed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from homeroom.access import api as access
from homeroom.activity import ledger, store
from homeroom.activity.duty import bring_up, review, settle
from homeroom.activity.owed import Offering, State, owed, satisfied
from homeroom.activity.programme import Obligation, Programme
from homeroom.activity.selection import late_log, late_log_key
from homeroom.activity.store import Log
from homeroom.activity.week import parse_week
from homeroom.db.database import Database
from homeroom.db.id import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, NotFound
from homeroom.notify.api import Notifications
from homeroom.people import api as people

TOPIC = "activity-logs"
LogStatus = Literal["draft", "submitted"]


class Logs:
    """All activity logs; built in ``wiring``."""

    def __init__(self, db: Database, notifications: Notifications) -> None:
        """Take where late logs are told of."""
        self._db, self._notifications = db, notifications

    async def offering(self, tx: Tx, id: str) -> Offering:
        """Return an offering; raise ``NotFound``."""
        found = await store.offering(tx, id)
        if found is None:
            raise NotFound(f"There is no offering {id!r}.")
        return found

    async def hold(self, tx: Tx, id: str) -> None:
        """Let nobody else change a log until this transaction ends; for who reads it to change."""
        await tx.lock("activity log", [id])

    async def get(self, tx: Tx, id: str) -> Log:
        """Return a log; raise ``NotFound``."""
        found = await store.log(tx, id)
        if found is None:
            raise NotFound(f"There is no activity log {id!r}.")
        return found

    async def write(
        self,
        tx: Tx,
        offering_id: str,
        week_key: str,
        status: LogStatus,
        content: Mapping[str, Any],
    ) -> Log:
        """Store the log of a week; a submitted one satisfies what is owed, a draft does not.

        When it came is what this server's clock says. Raises ``NotFound`` for an unknown offering;
        ``Conflict`` for a week that has a log already, or for which none can be owed.
        """
        offering = await self.offering(tx, offering_id)
        programme = await self._programme(tx, offering)
        row = await self._row(tx, programme, offering, week_key)
        submitted_at = tx.now if status == "submitted" else None
        log = Log(
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
            known = await store.log_of(tx, offering_id, week_key)
            raise Conflict(
                f"The offering {offering_id!r} has a log for {week_key} already.",
                hint="Change it with PATCH /api/v1/activity-logs/{id}.",
                details={"logId": None if known is None else known.id},
            )
        if submitted_at is not None:
            await self._hand_in(tx, programme, row, log)
        tx.notify(TOPIC, log.id)
        return log

    async def change(
        self, tx: Tx, log: Log, status: LogStatus | None, content: Mapping[str, Any]
    ) -> Log:
        """Replace what a log says, and hand it in if it was a draft.

        An edit never changes when it was handed in. Raises ``Conflict`` for a log that would become
        a draft again.
        """
        after = status or log.status
        if log.status == "submitted" and after == "draft":
            raise Conflict(
                "A log that was handed in cannot become a draft again.",
                hint="Delete it with DELETE /api/v1/activity-logs/{id} to take it back.",
            )
        first = log.status == "draft" and after == "submitted"
        await store.change_log(tx, log.id, after, content, tx.now if first else None)
        if first:
            offering = await self.offering(tx, log.offering_id)
            programme = await self._programme(tx, offering)
            row = await self._row(tx, programme, offering, log.week_key)
            await self._hand_in(tx, programme, row, log)
        tx.notify(TOPIC, log.id)
        return await self.get(tx, log.id)

    async def delete(self, tx: Tx, log: Log, actor: str) -> None:
        """Delete a log; what it satisfied is owed again."""
        offering = await self.offering(tx, log.offering_id)
        programme = await self._programme(tx, offering)
        await store.delete_log(tx, log.id)
        row = await ledger.one(tx, log.offering_id, log.week_key)
        if row is not None and row.log_id == log.id:
            rules = [each.rule for each in await store.exemptions(tx, programme.id)]
            what = owed(
                offering,
                parse_week(log.week_key),
                rules,
                closed_on=programme.closed_on,
                last_day_to_join=programme.last_day_to_join,
            )
            await ledger.reopen(tx, log.offering_id, log.week_key, what)
            await ledger.close_passed(tx, programme.id)
        keys = [late_log_key(log.id, manager_id) for manager_id in programme.managers]
        await self._notifications.resolve(tx, keys)
        details = {"offeringId": log.offering_id, "week": log.week_key}
        await access.record(tx, actor, "activity_log.deleted", log.id, details)
        tx.notify(TOPIC, log.id)

    async def _programme(self, tx: Tx, offering: Offering) -> Programme:
        found = await store.programme(tx, offering.programme_id)
        assert found is not None  # an offering is made within a programme
        return found

    async def _row(
        self, tx: Tx, programme: Programme, offering: Offering, week_key: str
    ) -> Obligation:
        """Return what is owed for a week; raise ``Conflict`` if nothing can be."""
        await bring_up(tx, programme)
        row = await ledger.one(tx, offering.id, week_key)
        if row is None:
            raise Conflict(
                f"There is no log to write for {week_key}: it has not begun, the offering does not"
                " run in it, or it was before Homeroom knew of the offering."
            )
        return row

    async def _hand_in(self, tx: Tx, programme: Programme, row: Obligation, log: Log) -> None:
        """Satisfy what is owed, and tell managers of a late one at once."""
        exempt = row.state is State.EXEMPT
        state = State.SUBMITTED if exempt else satisfied(row.deadline_at, tx.now)
        await ledger.satisfy(tx, row.offering_id, row.week_key, state, log.id)
        await settle(tx, self._notifications, programme, row.week_key, row.facilitator_id)
        await review(tx, self._notifications, programme, [row.facilitator_id])
        if state is not State.LATE:
            return
        person = await people.get(tx, row.facilitator_id)
        called = row.facilitator_id
        if person is not None:
            called = f"{person.given_name} {person.family_name}"
        done = await ledger.one(tx, row.offering_id, row.week_key)
        assert done is not None
        await self._notifications.send(
            tx, late_log(programme, done, log.id, lambda _: called, tx.now)
        )
