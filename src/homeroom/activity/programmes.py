"""Set programmes up: their offerings, exemptions and schedules."""

from __future__ import annotations

from dataclasses import replace

from homeroom.access import api as access
from homeroom.activity import ledger, store
from homeroom.activity.duty import bring_up, judge_again
from homeroom.activity.jobs import PLANS, Plan, schedule_name
from homeroom.activity.owed import Exemption, Offering
from homeroom.activity.programme import Obligation, Programme
from homeroom.activity.week import week_of
from homeroom.db.database import Database
from homeroom.db.id import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, NotFound
from homeroom.jobs.api import declare_schedule, remove_schedule
from homeroom.notify.api import Notifications

TOPIC = "programmes"
_FIRST, _LAST = "0000-W01", "9999-W99"


class Programmes:
    """All programmes; built in ``wiring``."""

    def __init__(self, db: Database, notifications: Notifications) -> None:
        """Take where messages are taken back that are no longer true."""
        self._db, self._notifications = db, notifications

    async def put(self, tx: Tx, programme: Programme, actor: str) -> bool:
        """Store a programme with its schedules; say whether it is new.

        Another zone or grace counts from the next week on: deadlines that are set stay. Closing it
        ends what is owed from that day on, and its schedules.
        """
        before = await store.programme(tx, programme.id)
        await store.put_programme(tx, programme)
        await self._schedule(tx, programme, before)
        await bring_up(tx, programme)
        if before is not None and _rules(before) != _rules(programme):
            rows = await ledger.of_programme(tx, programme.id, _FIRST, _LAST)
            await judge_again(tx, self._notifications, programme, _not_over(rows, tx.now))
        await access.record(tx, actor, "programme.put", programme.id, {"title": programme.title})
        tx.notify(TOPIC, programme.id)
        return before is None

    async def _schedule(self, tx: Tx, programme: Programme, before: Programme | None) -> None:
        for plan_name, plan in PLANS.items():
            name = schedule_name(plan_name, programme.id)
            if programme.is_closed(tx.now):
                await remove_schedule(tx, name)
                continue
            same = before is not None and before.per_user_time == programme.per_user_time
            await declare_schedule(
                tx,
                name,
                _cron(plan, programme),
                programme.time_zone,
                plan.args(programme_id=programme.id),
                plan.catch_up,
                keep_edits=same,
            )

    async def put_offering(self, tx: Tx, offering: Offering, actor: str) -> bool:
        """Store an offering and open what it owes for the current week; say whether it is new.

        Raises ``NotFound`` for an unknown programme, ``Conflict`` for the offering of another one.
        """
        programme = await self.get(tx, offering.programme_id)
        before = await store.offering(tx, offering.id)
        if before is not None and before.programme_id != offering.programme_id:
            raise Conflict(
                f"The offering {offering.id!r} belongs to the programme {before.programme_id!r}."
            )
        await store.put_offering(tx, offering)
        if before is not None and before.facilitator_id != offering.facilitator_id:
            await ledger.hand_over(tx, offering.id, offering.facilitator_id)
        await bring_up(tx, programme)
        if before is not None and _dates(before) != _dates(offering):
            rows = await ledger.of_offering(tx, offering.id)
            await judge_again(tx, self._notifications, programme, rows)
        await access.record(tx, actor, "offering.put", offering.id, {"programme": programme.id})
        tx.notify(TOPIC, programme.id)
        return before is None

    async def get(self, tx: Tx, id: str) -> Programme:
        """Return a programme; raise ``NotFound``."""
        found = await store.programme(tx, id)
        if found is None:
            raise NotFound(f"There is no programme {id!r}.")
        return found

    async def exempt(
        self, tx: Tx, programme_id: str, rule: Exemption, note: str | None, actor: str
    ) -> store.KeptExemption:
        """Store an exemption and judge again what it touches; raise ``NotFound``."""
        programme = await self.get(tx, programme_id)
        if rule.offering_id is not None:
            offering = await store.offering(tx, rule.offering_id)
            if offering is None or offering.programme_id != programme_id:
                raise NotFound(f"There is no offering {rule.offering_id!r} in this programme.")
        kept = replace(rule, id=new_id())
        await store.add_exemption(tx, programme_id, kept, note, actor)
        await self._touch(tx, programme, kept)
        details = {"userId": kept.user_id, "offeringId": kept.offering_id, "reason": kept.reason}
        await access.record(tx, actor, "exemption.made", kept.id, details)
        return store.KeptExemption(kept, programme_id, note, actor, tx.now)

    async def end_exemption(self, tx: Tx, programme_id: str, id: str, actor: str) -> None:
        """Delete an exemption and judge again what it touched; raise ``NotFound``."""
        programme = await self.get(tx, programme_id)
        rule = next(
            (each.rule for each in await store.exemptions(tx, programme_id) if each.rule.id == id),
            None,
        )
        if rule is None or not await store.delete_exemption(tx, programme_id, id):
            raise NotFound(f"There is no exemption {id!r} in this programme.")
        await self._touch(tx, programme, rule)
        await access.record(tx, actor, "exemption.ended", id)

    async def _touch(self, tx: Tx, programme: Programme, rule: Exemption) -> None:
        await bring_up(tx, programme)
        first, last = week_of(rule.starts_on).key, week_of(rule.ends_on).key
        rows = await ledger.of_programme(tx, programme.id, first, last)
        mine = [
            row
            for row in rows
            if rule.user_id in (None, row.facilitator_id)
            and rule.offering_id in (None, row.offering_id)
        ]
        await judge_again(tx, self._notifications, programme, mine)
        tx.notify(TOPIC, programme.id)


def _cron(plan: Plan, programme: Programme) -> str:
    if programme.per_user_time and plan.per_user_cron is not None:
        return plan.per_user_cron
    return plan.cron


def _rules(programme: Programme) -> tuple[object, ...]:
    """Return what decides whether something is owed."""
    return programme.closed_on, programme.last_day_to_join


def _dates(offering: Offering) -> tuple[object, ...]:
    return offering.starts_on, offering.ends_on


def _not_over(rows: list[Obligation], now: int) -> list[Obligation]:
    """Return what a change of the programme's rules is about: weeks that have not ended.

    What somebody owed and missed before a programme was closed stays missed.
    """
    return [row for row in rows if row.deadline_at > now or row.exempt_reason is not None]
