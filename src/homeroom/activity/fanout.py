"""Fan-out of a schedule's slot: messages to all recipients, in chunks, each once.

A chunk is one transaction with its messages, their deliveries and their jobs. After a crash between
two chunks the job runs again from the beginning, and messages with a known key are not added again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from homeroom.activity import obligation_store, store
from homeroom.activity.jobs import (
    OpenWeek,
    ProgrammeJobArgs,
    PruneScheduleRuns,
    SendDeadlineWarnings,
    SendLogReminders,
    SendManagerReport,
    is_slot_outstanding,
)
from homeroom.activity.obligation_rules import (
    MONDAY,
    REMINDER_TIME,
    THURSDAY,
    WARNING_TIME,
    Obligation,
    Programme,
    WarningChange,
    Week,
    has_local_time_passed,
    parse_week,
    report_expires_at,
    week_at,
)
from homeroom.activity.obligation_update import (
    list_compliance_history,
    list_down_weeks,
    missing_obligations,
    open_and_close_weeks,
    resolve_compliance_warning,
)
from homeroom.activity.recipient_selection import (
    COMPLIANCE_CHECK,
    LOG_CHECK,
    OBLIGATIONS_CHECK,
    REPORT_CHECK,
    ComplianceCase,
    ManagerReport,
    NameLookup,
    build_deadline_warnings,
    build_manager_report,
    build_obligation_params,
    build_reminders,
    build_report_params,
    describe_skip,
    find_compliance_cases,
    is_report_empty,
    reminder_end_of,
)
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.jobs.api import Done, JobContext, Outcome, Registry
from homeroom.notify.api import Message, Notifications, PlannedMessage
from homeroom.people import api as people

log = structlog.get_logger(__name__)
RECIPIENTS_PER_TRANSACTION = 200
"""The most recipients in one transaction."""
ADMIN = "admin"


class FanOut:
    """Handlers of the schedules' jobs."""

    def __init__(
        self, db: Database, notifications: Notifications, *, chunk: int = RECIPIENTS_PER_TRANSACTION
    ) -> None:
        """Store the notifications, and how many recipients one transaction has."""
        self._db, self._notifications, self._chunk = db, notifications, chunk

    def register(self, registry: Registry) -> None:
        """Register the handlers, and the relevance checks of their messages."""
        add: Callable[..., None] = partial(registry.add, is_outstanding=is_slot_outstanding)
        add(OpenWeek, self.open_week)
        add(SendLogReminders, self.send_reminders, preview=self.preview_reminders)
        add(SendDeadlineWarnings, self.send_warnings, preview=self.preview_warnings)
        add(SendManagerReport, self.send_report, preview=self.preview_report)
        registry.add(PruneScheduleRuns, self.prune)
        checks = self._notifications.checks
        checks.add(OBLIGATIONS_CHECK, _check_obligations)
        checks.add(REPORT_CHECK, _check_report)
        checks.add(COMPLIANCE_CHECK, _check_compliance)
        checks.add(LOG_CHECK, _check_log)

    async def open_week(self, ctx: JobContext, args: OpenWeek) -> Outcome:
        """Open the week's obligations."""
        async with self._db.write() as tx:
            programme = await store.get_programme(tx, args.programme_id)
            opened = 0 if programme is None else await open_and_close_weeks(tx, programme)
            outcome = Done({"opened": opened})
            await ctx.settle(tx, outcome)
        return outcome

    async def send_reminders(self, ctx: JobContext, args: SendLogReminders) -> Outcome:
        """Send Monday's reminders."""
        return await self._send_obligation_messages(ctx, args)

    async def send_warnings(self, ctx: JobContext, args: SendDeadlineWarnings) -> Outcome:
        """Send Thursday's warnings."""
        return await self._send_obligation_messages(ctx, args)

    async def _send_obligation_messages(self, ctx: JobContext, args: ProgrammeJobArgs) -> Outcome:
        """Page through obligations by facilitator, sending one chunk at a time."""
        programme = await self._begin_run(args)
        if programme is None:
            return Done({"sent": 0, "repeated": 0})
        week = _target_week(programme, args)
        after = ""
        while True:
            async with self._db.write() as tx:
                rows = await obligation_store.list_obligations(
                    tx, programme.id, week.key, week.key, after, self._chunk
                )
                messages = await _build_obligation_messages(tx, programme, week, rows, args)
                sent = await self._notifications.send(tx, messages)
                await obligation_store.count_schedule_run(
                    tx, args.schedule, args.slot, sent.new, sent.repeated
                )
            if not rows:
                break
            after = rows[-1].facilitator_id
        return await self._finish_run(ctx, args)

    async def send_report(self, ctx: JobContext, args: SendManagerReport) -> Outcome:
        """Send Tuesday's report and the warnings that come with it."""
        programme = await self._begin_run(args)
        if programme is None:
            return Done({"sent": 0, "repeated": 0})
        async with self._db.read() as tx:
            report = await self._build_report(tx, programme, args)
            messages = report.messages + await _build_unmanaged_programme_messages(
                tx, programme, args, report
            )
        warned = {
            case.user_id: case
            for case in report.cases
            if case.result.warning_change is WarningChange.WARN
        }
        for chunk in _chunks(messages, self._chunk):
            async with self._db.write() as tx:
                sent = await self._notifications.send(tx, chunk)
                await obligation_store.count_schedule_run(
                    tx, args.schedule, args.slot, sent.new, sent.repeated
                )
        week = _reported_week(programme, args)
        async with self._db.write() as tx:
            for case in report.cases:
                if case.user_id in warned:
                    missed = case.result.missed
                    await obligation_store.record_warning(
                        tx, programme.id, case.user_id, week.key, missed
                    )
                elif case.result.warning_change is WarningChange.RESOLVED:
                    await resolve_compliance_warning(
                        tx, self._notifications, programme, case.user_id
                    )
        return await self._finish_run(ctx, args)

    async def prune(self, ctx: JobContext, args: PruneScheduleRuns) -> Outcome:
        """Delete the records of old fan-outs."""
        async with self._db.write() as tx:
            before = tx.now - obligation_store.SCHEDULE_RUN_RETENTION_US
            outcome = Done({"dropped": await obligation_store.prune_schedule_runs(tx, before)})
            await ctx.settle(tx, outcome)
        return outcome

    async def _begin_run(self, args: ProgrammeJobArgs) -> Programme | None:
        async with self._db.write() as tx:
            programme = await store.get_programme(tx, args.programme_id)
            if programme is None:
                return None
            await obligation_store.begin_schedule_run(
                tx, args.schedule, args.slot, args.slot_at, args.late
            )
            await open_and_close_weeks(tx, programme)
        return programme

    async def _finish_run(self, ctx: JobContext, args: ProgrammeJobArgs) -> Outcome:
        async with self._db.write() as tx:
            await obligation_store.finish_schedule_run(tx, args.schedule, args.slot)
            [run] = [
                run
                for run in await obligation_store.list_schedule_runs(tx, args.schedule, 1_000)
                if run.slot == args.slot
            ]
            outcome = Done({"sent": run.sent, "repeated": run.repeated})
            await ctx.settle(tx, outcome)
        return outcome

    async def _build_report(
        self, tx: Tx, programme: Programme, args: ProgrammeJobArgs
    ) -> ManagerReport:
        week = _reported_week(programme, args)
        history = await _report_history(tx, programme, week)
        warned = await obligation_store.open_warnings(tx, programme.id, week.key)
        name = await load_names(tx, [row.facilitator_id for row in history])
        down_weeks = await list_down_weeks(tx, programme, history)
        return build_manager_report(programme, week, history, warned, name, tx.now, down_weeks)

    # Previews of runs.

    async def preview_reminders(self, tx: Tx, args: SendLogReminders) -> Any:
        """Return who would be reminded, who would not, and why."""
        return await self._preview_obligation_messages(tx, args)

    async def preview_warnings(self, tx: Tx, args: SendDeadlineWarnings) -> Any:
        """Return who would be warned, who would not, and why."""
        return await self._preview_obligation_messages(tx, args)

    async def _preview_obligation_messages(self, tx: Tx, args: ProgrammeJobArgs) -> Any:
        programme = await store.get_programme(tx, args.programme_id)
        if programme is None:
            return {"messages": [], "others": []}
        week = _target_week(programme, args)
        rows = await obligation_store.list_obligations(tx, programme.id, week.key, week.key)
        rows += [
            row for row in await missing_obligations(tx, programme) if row.week_key == week.key
        ]
        messages = await _build_obligation_messages(tx, programme, week, rows, args)
        planned = await self._notifications.notifier.plan(tx, messages)
        recipients = {message.user_id for message in messages}
        others: dict[str, set[str]] = {}
        reminder_end = reminder_end_of(programme, week)

        def is_too_late(row: Obligation) -> bool:
            is_reminder = isinstance(args, SendLogReminders)
            return tx.now >= (reminder_end if is_reminder else row.deadline_at)

        for row in rows:
            if row.facilitator_id not in recipients:
                others.setdefault(row.facilitator_id, set()).add(
                    describe_skip(row, programme, tx.now, is_too_late(row))
                )
        return {
            "week": week.key,
            **_preview_messages(planned),
            "others": [
                {"userId": user_id, "reason": "; ".join(sorted(reasons))}
                for user_id, reasons in sorted(others.items())
            ],
        }

    async def preview_report(self, tx: Tx, args: SendManagerReport) -> Any:
        """Return the messages that managers would get, and who would get none."""
        programme = await store.get_programme(tx, args.programme_id)
        if programme is None:
            return {"messages": [], "others": []}
        report = await self._build_report(tx, programme, args)
        messages = report.messages + await _build_unmanaged_programme_messages(
            tx, programme, args, report
        )
        planned = await self._notifications.notifier.plan(tx, messages)
        recipients = {message.user_id for message in messages}
        return {
            "week": _reported_week(programme, args).key,
            **_preview_messages(planned),
            "others": [
                {"userId": manager_id, "reason": "there is nothing to report"}
                for manager_id in programme.managers
                if manager_id not in recipients
            ],
        }


def _target_week(programme: Programme, args: ProgrammeJobArgs) -> Week:
    """Return the week of a slot, which does not depend on when the job runs."""
    week = week_at(args.slot_at, programme.zone)
    previous = isinstance(args, SendLogReminders) and programme.target_week == "previous"
    return week.shifted(-1) if previous else week


def _reported_week(programme: Programme, args: ProgrammeJobArgs) -> Week:
    return week_at(args.slot_at, programme.zone).shifted(-1)


async def _build_obligation_messages(
    tx: Tx, programme: Programme, week: Week, rows: Sequence[Obligation], args: ProgrammeJobArgs
) -> list[Message]:
    is_reminder = isinstance(args, SendLogReminders)
    messages = (build_reminders if is_reminder else build_deadline_warnings)(
        programme, week, rows, tx.now
    )
    if not programme.per_user_time or not messages:
        return messages
    known = await people.find(tx, [message.user_id for message in messages])
    day, at = (MONDAY, REMINDER_TIME) if is_reminder else (THURSDAY, WARNING_TIME)
    target = week.shifted(1) if is_reminder and programme.target_week == "previous" else week

    def is_time(user_id: str) -> bool:
        person = known.get(user_id)
        own = None if person is None else person.time_zone
        return has_local_time_passed(
            target, day, at, ZoneInfo(own) if own else programme.zone, tx.now
        )

    return [message for message in messages if is_time(message.user_id)]


def _preview_messages(planned: Sequence[PlannedMessage]) -> dict[str, Any]:
    """Return the messages that a run would send, and apart those sent before."""
    return {
        "messages": [_preview_message(each) for each in planned if not each.was_sent],
        "sentBefore": [_message_fields(each) for each in planned if each.was_sent],
    }


def _message_fields(each: PlannedMessage) -> dict[str, Any]:
    message = each.message
    return {"userId": message.user_id, "type": message.type, "key": message.key}


def _preview_message(each: PlannedMessage) -> dict[str, Any]:
    return {
        **_message_fields(each),
        "deliveries": [
            {
                "channel": planned.channel.value,
                "status": planned.status.value,
                "reason": None if planned.reason is None else planned.reason.text,
                "reasonCode": None if planned.reason is None else planned.reason.code.value,
            }
            for planned in each.deliveries
        ],
    }


async def _report_history(tx: Tx, programme: Programme, week: Week) -> list[Obligation]:
    rows = await list_compliance_history(tx, programme, week_at(tx.now, programme.zone))
    if any(row.week_key == week.key for row in rows):
        return rows
    return rows + await obligation_store.list_obligations(tx, programme.id, week.key, week.key)


async def load_names(tx: Tx, user_ids: Sequence[str]) -> NameLookup:
    """Return the lookup of full names; a person who is not stored has the id."""
    known = await people.find(tx, user_ids)

    def name(user_id: str) -> str:
        person = known.get(user_id)
        return user_id if person is None else f"{person.given_name} {person.family_name}"

    return name


async def _build_unmanaged_programme_messages(
    tx: Tx, programme: Programme, args: ProgrammeJobArgs, report: ManagerReport
) -> list[Message]:
    """Return messages to admins for a report that no manager can read."""
    week = _reported_week(programme, args)
    expires_at = report_expires_at(week, programme.zone)
    if programme.managers or programme.is_closed(tx.now) or expires_at <= tx.now:
        return []
    history = await _report_history(tx, programme, week)
    name = await load_names(tx, [row.facilitator_id for row in history])
    rows = [row for row in history if row.week_key == week.key]
    down_weeks = await list_down_weeks(tx, programme, rows)
    params = build_report_params(programme, week, history, report.cases, name, tx.now, down_weeks)
    if is_report_empty(params):
        return []
    admins = await people.list_with_role(tx, ADMIN)
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


# Relevance checks, run before a message is sent: None means that it is outdated.


async def _check_obligations(
    tx: Tx, about: Mapping[str, Any], params: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    programme = await store.get_programme(tx, about["programmeId"])
    if programme is None or programme.is_closed(tx.now):
        return None
    rows = await obligation_store.list_facilitator_obligations(
        tx, programme.id, about["week"], about["userId"]
    )
    own_rows = [row for row in rows if row.is_outstanding(tx.now)]
    return build_obligation_params(programme, own_rows) if own_rows else None


async def build_week_report(tx: Tx, programme: Programme, week: Week) -> dict[str, Any]:
    """Return the current content of Tuesday's report on a week."""
    history = await _report_history(tx, programme, week)
    warned = await obligation_store.open_warnings(tx, programme.id, week.key)
    down_weeks = await list_down_weeks(tx, programme, history)
    cases = find_compliance_cases(programme, history, warned, tx.now, down_weeks)
    name = await load_names(tx, [row.facilitator_id for row in history])
    return build_report_params(programme, week, history, cases, name, tx.now, down_weeks)


async def _check_report(
    tx: Tx, about: Mapping[str, Any], params: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    programme = await store.get_programme(tx, about["programmeId"])
    if programme is None or programme.is_closed(tx.now):
        return None
    now = await build_week_report(tx, programme, parse_week(about["week"]))
    return None if is_report_empty(now) and not programme.all_clear else now


async def _check_compliance(
    tx: Tx, about: Mapping[str, Any], params: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    programme = await store.get_programme(tx, about["programmeId"])
    if programme is None or programme.is_closed(tx.now):
        return None
    history = await list_compliance_history(tx, programme, week_at(tx.now, programme.zone))
    own_rows = [row for row in history if row.facilitator_id == about["userId"]]
    down_weeks = await list_down_weeks(tx, programme, own_rows)
    cases: Sequence[ComplianceCase] = find_compliance_cases(
        programme, own_rows, {}, tx.now, down_weeks
    )
    return params if cases else None


async def _check_log(
    tx: Tx, about: Mapping[str, Any], params: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    return None if await store.get_log(tx, about["logId"]) is None else params
