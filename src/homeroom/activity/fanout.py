"""Say to everybody concerned what a slot of a schedule is for: in chunks, and once.

A chunk is one transaction: what it selects, the messages, their deliveries and their jobs. A crash
between two chunks has the job run again from the beginning, and the messages that are there already
stay the only ones of their keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from homeroom.activity import ledger, store
from homeroom.activity.compliance import News
from homeroom.activity.duty import bring_up, missing_rows, window, withdraw
from homeroom.activity.jobs import OpenWeek, ProgrammeArgs, PruneRuns, Remind, Report, Warn
from homeroom.activity.programme import Obligation, Programme
from homeroom.activity.selection import (
    COMPLIANCE_CHECK,
    LOG_CHECK,
    OBLIGATIONS_CHECK,
    REPORT_CHECK,
    Case,
    cases,
    is_empty,
    owed_params,
    reminders,
    report,
    report_params,
    warnings,
)
from homeroom.activity.selection import Report as ToManagers
from homeroom.activity.week import (
    MONDAY,
    REMINDER_TIME,
    THURSDAY,
    WARNING_TIME,
    Week,
    has_passed,
    parse_week,
    report_ends_at,
    week_at,
)
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.jobs.api import Done, FiredSlot, JobContext, Outcome, Registry
from homeroom.notify.api import Message, Notifications, Planned
from homeroom.people import api as people

log = structlog.get_logger(__name__)
CHUNK = 200
"""People in one transaction."""
RUNS_KEPT = 90 * 86_400 * 1_000_000
ADMIN, OPERATOR = "admin", "operator"


class FanOut:
    """Runs the schedules' jobs; built in ``wiring``."""

    def __init__(self, db: Database, notifications: Notifications, *, chunk: int = CHUNK) -> None:
        """Take where messages go, and how many people one transaction is about."""
        self._db, self._notifications, self._chunk = db, notifications, chunk

    def register(self, registry: Registry) -> None:
        """Say who runs the jobs, and what is still true of messages that are about to be sent."""
        registry.add(OpenWeek, self.open_week)
        registry.add(Remind, self.remind, preview=self.preview_reminders)
        registry.add(Warn, self.warn, preview=self.preview_warnings)
        registry.add(Report, self.report, preview=self.preview_report)
        registry.add(PruneRuns, self.prune)
        checks = self._notifications.checks
        checks.add(OBLIGATIONS_CHECK, _still_owed)
        checks.add(REPORT_CHECK, _still_to_report)
        checks.add(COMPLIANCE_CHECK, _still_missing)
        checks.add(LOG_CHECK, _still_there)

    async def open_week(self, ctx: JobContext, args: OpenWeek) -> Outcome:
        """Open the week's obligations."""
        async with self._db.write() as tx:
            programme = await store.programme(tx, args.programme_id)
            opened = 0 if programme is None else await bring_up(tx, programme)
            outcome = Done({"opened": opened})
            await ctx.settle(tx, outcome)
        return outcome

    async def remind(self, ctx: JobContext, args: Remind) -> Outcome:
        """Send Monday's reminders."""
        return await self._ask(ctx, args)

    async def warn(self, ctx: JobContext, args: Warn) -> Outcome:
        """Send Thursday's warnings."""
        return await self._ask(ctx, args)

    async def _ask(self, ctx: JobContext, args: ProgrammeArgs) -> Outcome:
        """Page through what is owed, by facilitator, and hand over a chunk's messages at a time."""
        programme = await self._begin(args)
        if programme is None:
            return Done({"sent": 0, "repeated": 0})
        week = _asked_for(programme, args)
        after = ""
        while True:
            async with self._db.write() as tx:
                rows = await ledger.of_programme(
                    tx, programme.id, week.key, week.key, after, self._chunk
                )
                messages = await _asking(tx, programme, week, rows, args)
                sent = await self._notifications.send(tx, messages)
                await ledger.count_run(tx, args.schedule, args.slot, sent.new, sent.repeated)
            if not rows:
                break
            after = rows[-1].facilitator_id
        return await self._end(ctx, args)

    async def report(self, ctx: JobContext, args: Report) -> Outcome:
        """Send Tuesday's report and the warnings that come with it."""
        programme = await self._begin(args)
        if programme is None:
            return Done({"sent": 0, "repeated": 0})
        async with self._db.read() as tx:
            made = await self._report(tx, programme, args)
            messages = made.messages + await _unmanaged(tx, programme, args, made)
        warned = {case.user_id: case for case in made.cases if case.verdict.news is News.WARN}
        for chunk in _chunks(messages, self._chunk):
            async with self._db.write() as tx:
                sent = await self._notifications.send(tx, chunk)
                await ledger.count_run(tx, args.schedule, args.slot, sent.new, sent.repeated)
        week = _reported(programme, args)
        async with self._db.write() as tx:
            for case in made.cases:
                if case.user_id in warned:
                    missed = case.verdict.missed
                    await ledger.warn(tx, programme.id, case.user_id, week.key, missed)
                elif case.verdict.news is News.RESOLVED:
                    await withdraw(tx, self._notifications, programme, case.user_id)
        return await self._end(ctx, args)

    async def prune(self, ctx: JobContext, args: PruneRuns) -> Outcome:
        """Drop what fan-outs did long ago."""
        async with self._db.write() as tx:
            outcome = Done({"dropped": await ledger.prune_runs(tx, tx.now - RUNS_KEPT)})
            await ctx.settle(tx, outcome)
        return outcome

    async def _begin(self, args: ProgrammeArgs) -> Programme | None:
        async with self._db.write() as tx:
            programme = await store.programme(tx, args.programme_id)
            if programme is None:
                return None
            await ledger.begin_run(tx, args.schedule, args.slot, args.slot_at, args.late)
            await bring_up(tx, programme)
        return programme

    async def _end(self, ctx: JobContext, args: ProgrammeArgs) -> Outcome:
        async with self._db.write() as tx:
            await ledger.end_run(tx, args.schedule, args.slot)
            [run] = [
                run for run in await ledger.runs(tx, args.schedule, 1_000) if run.slot == args.slot
            ]
            outcome = Done({"sent": run.sent, "repeated": run.repeated})
            await ctx.settle(tx, outcome)
        return outcome

    async def _report(self, tx: Tx, programme: Programme, args: ProgrammeArgs) -> ToManagers:
        week = _reported(programme, args)
        history = await _history(tx, programme, week)
        warned = await ledger.warned(tx, programme.id, week.key)
        name = await _names(tx, [row.facilitator_id for row in history])
        return report(programme, week, history, warned, name, tx.now)

    # What a run would do.

    async def preview_reminders(self, tx: Tx, args: Remind) -> Any:
        """Say who would be reminded, who would not, and why."""
        return await self._preview_asking(tx, args)

    async def preview_warnings(self, tx: Tx, args: Warn) -> Any:
        """Say who would be warned, who would not, and why."""
        return await self._preview_asking(tx, args)

    async def _preview_asking(self, tx: Tx, args: ProgrammeArgs) -> Any:
        programme = await store.programme(tx, args.programme_id)
        if programme is None:
            return {"messages": [], "others": []}
        week = _asked_for(programme, args)
        rows = await ledger.of_programme(tx, programme.id, week.key, week.key)
        rows += [row for row in await missing_rows(tx, programme) if row.week_key == week.key]
        messages = await _asking(tx, programme, week, rows, args)
        planned = await self._notifications.notifier.plan(tx, messages)
        told = {message.user_id for message in messages}
        others: dict[str, set[str]] = {}
        for row in rows:
            if row.facilitator_id not in told:
                others.setdefault(row.facilitator_id, set()).add(_why_not(row, programme, tx.now))
        return {
            "week": week.key,
            "messages": [_planned(each) for each in planned],
            "others": [
                {"userId": user_id, "reason": "; ".join(sorted(reasons))}
                for user_id, reasons in sorted(others.items())
            ],
        }

    async def preview_report(self, tx: Tx, args: Report) -> Any:
        """Say what managers would be told, and who would hear nothing."""
        programme = await store.programme(tx, args.programme_id)
        if programme is None:
            return {"messages": [], "others": []}
        made = await self._report(tx, programme, args)
        messages = made.messages + await _unmanaged(tx, programme, args, made)
        planned = await self._notifications.notifier.plan(tx, messages)
        told = {message.user_id for message in messages}
        return {
            "week": _reported(programme, args).key,
            "messages": [_planned(each) for each in planned],
            "others": [
                {"userId": manager_id, "reason": "there is nothing to report"}
                for manager_id in programme.managers
                if manager_id not in told
            ],
        }

    async def missed(self, tx: Tx, slot: FiredSlot) -> None:
        """Tell admins and operators that a slot came due while nothing ran."""
        found = await people.with_role(tx, ADMIN) + await people.with_role(tx, OPERATOR)
        messages = [
            Message(
                key=f"schedule_missed:{slot.schedule}:{slot.slot}:{user_id}",
                type="schedule_missed",
                user_id=user_id,
                params={"schedule": slot.schedule, "slot": slot.slot, "foundAt": tx.now},
                metadata={"schedule": slot.schedule, "slot": slot.slot},
                group=f"schedule_missed:{user_id}",  # a long downtime is one mail, and one more
            )
            for user_id in sorted({person.id for person in found})
        ]
        await self._notifications.send(tx, messages)


def _asked_for(programme: Programme, args: ProgrammeArgs) -> Week:
    """Return the week that a slot asks for: it is fixed by the slot, not by when the job runs."""
    week = week_at(args.slot_at, programme.zone)
    previous = isinstance(args, Remind) and programme.target_week == "previous"
    return week.shifted(-1) if previous else week


def _reported(programme: Programme, args: ProgrammeArgs) -> Week:
    return week_at(args.slot_at, programme.zone).shifted(-1)


async def _asking(
    tx: Tx, programme: Programme, week: Week, rows: Sequence[Obligation], args: ProgrammeArgs
) -> list[Message]:
    remind = isinstance(args, Remind)
    messages = (reminders if remind else warnings)(programme, week, rows, tx.now)
    if not programme.per_user_time or not messages:
        return messages
    known = await people.find(tx, [message.user_id for message in messages])
    day, at = (MONDAY, REMINDER_TIME) if remind else (THURSDAY, WARNING_TIME)
    asked = week.shifted(1) if remind and programme.target_week == "previous" else week

    def is_time(user_id: str) -> bool:
        person = known.get(user_id)
        own = None if person is None else person.time_zone
        return has_passed(asked, day, at, ZoneInfo(own) if own else programme.zone, tx.now)

    return [message for message in messages if is_time(message.user_id)]


def _why_not(row: Obligation, programme: Programme, now: int) -> str:
    if programme.is_closed(now):
        return "the programme is closed"
    state = row.now(now)
    if row.is_owed(now):
        return "it is not time yet, or too late"
    return state.value if row.exempt_reason is None else f"{state.value}: {row.exempt_reason}"


def _planned(each: Planned) -> dict[str, Any]:
    return {
        "userId": each.message.user_id,
        "type": each.message.type,
        "key": each.message.key,
        "sentBefore": each.known,
        "deliveries": [
            {
                "channel": choice.channel.value,
                "status": choice.status.value,
                "reason": choice.reason,
            }
            for choice in each.choices
        ],
    }


async def _history(tx: Tx, programme: Programme, week: Week) -> list[Obligation]:
    rows = await window(tx, programme, week_at(tx.now, programme.zone))
    if any(row.week_key == week.key for row in rows):
        return rows
    return rows + await ledger.of_programme(tx, programme.id, week.key, week.key)


async def _names(tx: Tx, user_ids: Sequence[str]) -> Any:
    known = await people.find(tx, user_ids)

    def name(user_id: str) -> str:
        person = known.get(user_id)
        return user_id if person is None else f"{person.given_name} {person.family_name}"

    return name


async def _unmanaged(
    tx: Tx, programme: Programme, args: ProgrammeArgs, made: ToManagers
) -> list[Message]:
    """Return messages to admins where a report has something to say and nobody to say it to."""
    week = _reported(programme, args)
    expires_at = report_ends_at(week, programme.zone)
    if programme.managers or programme.is_closed(tx.now) or expires_at <= tx.now:
        return []
    history = await _history(tx, programme, week)
    name = await _names(tx, [row.facilitator_id for row in history])
    rows = [row for row in history if row.week_key == week.key]
    params = report_params(programme, week, rows, made.cases, name, tx.now)
    if is_empty(params):
        return []
    admins = await people.with_role(tx, ADMIN)
    log.warning("programme_without_managers", programme=programme.id, admins=len(admins))
    return [
        Message(
            key=f"unmanaged_programme:{programme.id}:{week.key}:{admin.id}",
            type="unmanaged_programme",
            user_id=admin.id,
            params=params,
            metadata={"programmeId": programme.id, "week": week.key},
            expires_at=expires_at,
        )
        for admin in admins
    ]


def _chunks(messages: Sequence[Message], size: int) -> list[Sequence[Message]]:
    return [messages[start : start + size] for start in range(0, len(messages), size)]


# What is still true when a message is about to be sent.


async def _still_owed(
    tx: Tx, about: Mapping[str, Any], params: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    programme = await store.programme(tx, about["programmeId"])
    if programme is None or programme.is_closed(tx.now):
        return None
    rows = await ledger.of_user(tx, programme.id, about["week"], about["userId"])
    mine = [row for row in rows if row.is_owed(tx.now)]
    return owed_params(programme, mine) if mine else None


async def report_of(tx: Tx, programme: Programme, week: Week) -> dict[str, Any]:
    """Return what Tuesday's report on a week says by now."""
    history = await _history(tx, programme, week)
    found = cases(programme, history, await ledger.warned(tx, programme.id, week.key), tx.now)
    name = await _names(tx, [row.facilitator_id for row in history])
    rows = [row for row in history if row.week_key == week.key]
    return report_params(programme, week, rows, found, name, tx.now)


async def _still_to_report(
    tx: Tx, about: Mapping[str, Any], params: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    programme = await store.programme(tx, about["programmeId"])
    if programme is None or programme.is_closed(tx.now):
        return None
    now = await report_of(tx, programme, parse_week(about["week"]))
    return None if is_empty(now) and not programme.all_clear else now


async def _still_missing(
    tx: Tx, about: Mapping[str, Any], params: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    programme = await store.programme(tx, about["programmeId"])
    if programme is None or programme.is_closed(tx.now):
        return None
    history = await window(tx, programme, week_at(tx.now, programme.zone))
    mine = [row for row in history if row.facilitator_id == about["userId"]]
    found: Sequence[Case] = cases(programme, mine, {}, tx.now)
    return params if found else None


async def _still_there(
    tx: Tx, about: Mapping[str, Any], params: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    return None if await store.log(tx, about["logId"]) is None else params
