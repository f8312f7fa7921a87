"""Public interface of activity: programmes, exemptions, schedules, compliance."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from homeroom.access import api as access
from homeroom.activity import activity_log, obligation_store, store
from homeroom.activity.activity_log import ActivityLogs
from homeroom.activity.downtime_report import DowntimeReport, enqueue_missed_report
from homeroom.activity.fanout import FanOut
from homeroom.activity.jobs import (
    PROGRAMME_SCHEDULES,
    ProgrammeSchedule,
    PruneScheduleRuns,
    programme_schedule_name,
)
from homeroom.activity.message_preview import build_preview_params
from homeroom.activity.obligation_rules import (
    ComplianceMark,
    Exemption,
    Obligation,
    ObligationState,
    Offering,
    Programme,
    Week,
    is_expected,
    mark_week,
    parse_week,
    week_at,
    week_of,
)
from homeroom.activity.obligation_store import (
    PERSONAL,
    ScheduleRun,
    find_missed_weeks,
    list_schedule_runs,
)
from homeroom.activity.obligation_update import (
    list_down_weeks,
    open_and_close_weeks,
    reevaluate_obligations,
)
from homeroom.activity.store import ActivityLog, ExemptionRecord, select_facilitators
from homeroom.activity.upcoming_messages import UpcomingMessages, list_upcoming_messages
from homeroom.csv_escape import escape_formula
from homeroom.db.database import Database
from homeroom.db.ids import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Invalid, NotFound
from homeroom.jobs.api import Registry, declare_schedule, remove_schedule
from homeroom.notify.api import Notifications
from homeroom.people import api as people

TOPIC = "programmes"
_FIRST_WEEK, _LAST_WEEK = "0000-W01", "9999-W99"
COMPLIANCE_DEFAULT_WEEKS = 12
COMPLIANCE_MAX_WEEKS = 60


def unknown_programme(id: str) -> NotFound:
    """Return the error for a programme that does not exist, or not for the caller."""
    return NotFound(f"There is no programme {id!r}.")


class Programmes:
    """Stores programmes, offerings and exemptions, and updates their obligations."""

    def __init__(self, db: Database, notifications: Notifications) -> None:
        """Store the notifications in which outdated messages are resolved."""
        self._db, self._notifications = db, notifications

    async def put(self, tx: Tx, programme: Programme, actor: str) -> bool:
        """Store a programme with its schedules; return whether it is new.

        Another zone or grace counts from the next week on: stored deadlines stay. Closing it ends
        its obligations from that day on, and its schedules.
        """
        before = await store.get_programme(tx, programme.id)
        await store.put_programme(tx, programme)
        await self._schedule(tx, programme, before)
        await open_and_close_weeks(tx, programme)
        if before is not None and _rule_fields(before) != _rule_fields(programme):
            rows = await obligation_store.list_obligations(
                tx, programme.id, _FIRST_WEEK, _LAST_WEEK
            )
            await reevaluate_obligations(
                tx, self._notifications, programme, _open_or_exempt(rows, tx.now)
            )
        await access.record_audit(
            tx, actor, "programme.put", programme.id, {"title": programme.title}
        )
        _publish(tx, programme, [])
        return before is None

    async def _schedule(self, tx: Tx, programme: Programme, before: Programme | None) -> None:
        for kind, schedule in PROGRAMME_SCHEDULES.items():
            name = programme_schedule_name(kind, programme.id)
            if programme.is_closed(tx.now):
                await remove_schedule(tx, name)
                continue
            same = before is not None and before.per_user_time == programme.per_user_time
            await declare_schedule(
                tx,
                name,
                _schedule_cron(schedule, programme),
                programme.time_zone,
                schedule.args(programme_id=programme.id),
                schedule.catch_up,
                keep_operator_changes=same,
            )

    async def put_offering(self, tx: Tx, offering: Offering, actor: str) -> bool:
        """Store an offering and open its current week; return whether it is new.

        Raises ``NotFound`` for an unknown programme, ``Conflict`` for the offering of another one.
        """
        return await self.put_offerings(tx, offering.programme_id, [offering], actor) == 1

    async def put_offerings(
        self, tx: Tx, programme_id: str, offerings: Sequence[Offering], actor: str
    ) -> int:
        """Store offerings of one programme; return how many are new."""
        programme = await self.get(tx, programme_id)
        new_dates: list[str] = []
        new = 0
        for offering in offerings:
            before = await store.get_offering(tx, offering.id)
            if before is not None and before.programme_id != programme_id:
                raise Conflict(
                    f"The offering {offering.id!r} belongs to the programme"
                    f" {before.programme_id!r}."
                )
            await store.put_offering(tx, offering)
            if before is None:
                new += 1
                continue
            if before.facilitator_id != offering.facilitator_id:
                await obligation_store.reassign_obligations(
                    tx, offering.id, offering.facilitator_id
                )
            if _date_fields(before) != _date_fields(offering):
                new_dates.append(offering.id)
        await open_and_close_weeks(tx, programme)
        for id in new_dates:
            rows = await obligation_store.list_offering_obligations(tx, id)
            await reevaluate_obligations(tx, self._notifications, programme, rows)
        for offering in offerings:
            details = {"programme": programme.id}
            await access.record_audit(tx, actor, "offering.put", offering.id, details)
        _publish(tx, programme, [offering.facilitator_id for offering in offerings])
        return new

    async def get(self, tx: Tx, id: str) -> Programme:
        """Return a programme; raise ``NotFound``."""
        programme = await store.get_programme(tx, id)
        if programme is None:
            raise unknown_programme(id)
        return programme

    async def add_exemption(
        self, tx: Tx, programme_id: str, exemption: Exemption, note: str | None, actor: str
    ) -> ExemptionRecord:
        """Store an exemption and reevaluate what it covers; raise ``NotFound``."""
        programme = await self.get(tx, programme_id)
        if exemption.offering_id is not None:
            offering = await store.get_offering(tx, exemption.offering_id)
            if offering is None or offering.programme_id != programme_id:
                raise NotFound(f"There is no offering {exemption.offering_id!r} in this programme.")
        record = ExemptionRecord(
            id=new_id(),
            programme_id=programme_id,
            user_id=exemption.user_id,
            offering_id=exemption.offering_id,
            starts_on=exemption.starts_on,
            ends_on=exemption.ends_on,
            reason=exemption.reason,
            note=note,
            created_by=actor,
            created_at=tx.now,
        )
        await store.add_exemption(tx, record)
        await self._reevaluate_exempted(tx, programme, record)
        details = {
            "userId": record.user_id,
            "offeringId": record.offering_id,
            "reason": record.reason,
        }
        await access.record_audit(tx, actor, "exemption.made", record.id, details)
        return record

    async def end_exemption(self, tx: Tx, programme_id: str, id: str, actor: str) -> None:
        """Delete an exemption and reevaluate what it covered; raise ``NotFound``."""
        programme = await self.get(tx, programme_id)
        stored = await store.list_exemptions(tx, programme_id)
        exemption = next((each for each in stored if each.id == id), None)
        if exemption is None or not await store.delete_exemption(tx, programme_id, id):
            raise NotFound(f"There is no exemption {id!r} in this programme.")
        await self._reevaluate_exempted(tx, programme, exemption)
        await access.record_audit(tx, actor, "exemption.ended", id)

    async def _reevaluate_exempted(
        self, tx: Tx, programme: Programme, exemption: Exemption
    ) -> None:
        await open_and_close_weeks(tx, programme)
        first, last = week_of(exemption.starts_on).key, week_of(exemption.ends_on).key
        rows = await obligation_store.list_obligations(tx, programme.id, first, last)
        affected = [
            row
            for row in rows
            if exemption.user_id in (None, row.facilitator_id)
            and exemption.offering_id in (None, row.offering_id)
        ]
        await reevaluate_obligations(tx, self._notifications, programme, affected)
        _publish(tx, programme, [row.facilitator_id for row in affected])


def _publish(tx: Tx, programme: Programme, facilitators: Sequence[str]) -> None:
    """Publish that a programme changed, and the weeks of some facilitators."""
    tx.notify(TOPIC, programme.id)
    for manager_id in programme.managers:
        tx.notify_about(manager_id, TOPIC)
    for facilitator_id in facilitators:
        tx.notify_about(facilitator_id, activity_log.TOPIC)


def _schedule_cron(schedule: ProgrammeSchedule, programme: Programme) -> str:
    if programme.per_user_time and schedule.per_user_cron is not None:
        return schedule.per_user_cron
    return schedule.cron


def _rule_fields(programme: Programme) -> tuple[object, ...]:
    """Return the rules that decide whether an obligation exists."""
    return programme.closed_on, programme.last_day_to_join


def _date_fields(offering: Offering) -> tuple[object, ...]:
    return offering.starts_on, offering.ends_on


def _open_or_exempt(rows: list[Obligation], now: int) -> list[Obligation]:
    """Return the obligations that a change of rules affects: open weeks.

    A log that was missed before a programme was closed stays missed.
    """
    return [row for row in rows if row.deadline_at > now or row.exempt_reason is not None]


@dataclass(frozen=True, slots=True)
class ComplianceReportRow:
    """One facilitator's weeks; None where they had no offering."""

    user_id: str
    name: str
    marks: tuple[ComplianceMark | None, ...]
    missed: int
    late: int
    expected: int


@dataclass(frozen=True, slots=True)
class ComplianceReport:
    """Marks of all facilitators, week by week."""

    programme_id: str
    weeks: tuple[str, ...]
    rows: tuple[ComplianceReportRow, ...]


def list_report_weeks(
    programme: Programme, now: int, first: Week | None = None, last: Week | None = None
) -> list[Week]:
    """Return some weeks, the last twelve by default.

    Raises ``Invalid`` for too many or none.
    """
    last = last or week_at(now, programme.zone)
    weeks: list[Week] = []
    try:
        week = first or last.shifted(1 - COMPLIANCE_DEFAULT_WEEKS)
        while week <= last and len(weeks) <= COMPLIANCE_MAX_WEEKS:
            weeks.append(week)
            week = week.shifted(1)
    except OverflowError:
        raise Invalid("The calendar ends in the years 1 and 9999.") from None
    if not weeks or len(weeks) > COMPLIANCE_MAX_WEEKS:
        raise Invalid(f"Ask for 1 to {COMPLIANCE_MAX_WEEKS} weeks, the first one before the last.")
    return weeks


async def build_compliance_report(
    tx: Tx, programme: Programme, first: Week | None = None, last: Week | None = None
) -> ComplianceReport:
    """Return the report on some weeks, the last twelve by default, as of now.

    Raises ``Invalid`` for weeks in the wrong order or too many of them.
    """
    weeks = [each.key for each in list_report_weeks(programme, tx.now, first, last)]
    states: dict[str, dict[str, list[ObligationState]]] = {}
    obligations = await obligation_store.list_obligations(tx, programme.id, weeks[0], weeks[-1])
    down_weeks = await list_down_weeks(tx, programme, obligations)
    for row in obligations:
        states_by_week = states.setdefault(row.facilitator_id, {})
        states_by_week.setdefault(row.week_key, []).append(row.state_at(tx.now))
    known = await people.find(tx, states)
    rows = []
    for user_id, states_by_week in states.items():
        marks = tuple(
            mark_week(states_by_week.get(key, ()), was_down=key in down_weeks) for key in weeks
        )
        person = known.get(user_id)
        name = user_id if person is None else f"{person.given_name} {person.family_name}"
        expected = sum(map(is_expected, marks))
        rows.append(
            ComplianceReportRow(
                user_id,
                name,
                marks,
                marks.count(ComplianceMark.MISSED),
                marks.count(ComplianceMark.LATE),
                expected,
            )
        )
    rows.sort(key=lambda row: (row.name, row.user_id))
    return ComplianceReport(programme.id, tuple(weeks), tuple(rows))


def format_compliance_csv(report: ComplianceReport) -> str:
    """Return the report as CSV, with formulas escaped."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["userId", "name", *report.weeks, "missed", "late", "expected"])
    for row in report.rows:
        shown: Sequence[str] = ["" if each is None else each.value for each in row.marks]
        writer.writerow(
            [
                escape_formula(row.user_id),
                escape_formula(row.name),
                *shown,
                row.missed,
                row.late,
                row.expected,
            ]
        )
    return out.getvalue()


__all__ = [
    "PERSONAL",
    "PROGRAMME_SCHEDULES",
    "Activity",
    "ActivityLog",
    "ComplianceMark",
    "ComplianceReport",
    "Exemption",
    "ExemptionRecord",
    "Obligation",
    "ObligationState",
    "Offering",
    "Programme",
    "PruneScheduleRuns",
    "ScheduleRun",
    "Week",
    "build_compliance_report",
    "build_preview_params",
    "enqueue_missed_report",
    "find_missed_weeks",
    "format_compliance_csv",
    "list_report_weeks",
    "list_schedule_runs",
    "parse_week",
    "programme_schedule_name",
    "select_facilitators",
    "unknown_programme",
    "week_at",
]


class Activity:
    """The programmes, logs and fan-out of one database, as ``bootstrap`` builds them."""

    def __init__(self, db: Database, notifications: Notifications) -> None:
        """Build programmes, logs and fan-out on one database."""
        self.programmes = Programmes(db, notifications)
        self.logs = ActivityLogs(db, notifications)
        self.fan_out = FanOut(db, notifications)
        self.downtime_report = DowntimeReport(db, notifications)
        self._registry: Registry | None = None

    def register(self, registry: Registry) -> None:
        """Register the handlers of the schedules' jobs."""
        self.fan_out.register(registry)
        self.downtime_report.register(registry)
        self._registry = registry

    async def list_upcoming_messages(self, tx: Tx, programme: Programme) -> list[UpcomingMessages]:
        """Return what a programme's coming slots would send; ``register`` comes first."""
        assert self._registry is not None
        return await list_upcoming_messages(tx, self._registry, programme)
