"""Jobs of a programme's schedules: open its weeks, remind, warn and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from homeroom.activity import obligation_store, store
from homeroom.db.tx import Tx
from homeroom.jobs.api import HIGH, LOW, Job, JobArgs, SlotArgs

TIMEOUT = timedelta(minutes=10)
_WEEK_US = 7 * 86_400 * 1_000_000


class ProgrammeJobArgs(SlotArgs, frozen=True, kw_only=True):
    """A job about one programme, for one slot of one of its schedules."""

    queue: ClassVar[str] = "activity"
    timeout: ClassVar[timedelta] = TIMEOUT

    programme_id: str

    def log_fields(self) -> dict[str, str | int]:
        """Return the programme and the slot."""
        return {"programme_id": self.programme_id, "slot": self.slot}


class OpenWeek(ProgrammeJobArgs, frozen=True, kw_only=True):
    """Open the obligations of the week that begins. Result: ``{"opened"}``."""

    kind: ClassVar[str] = "activity.open_week"


class SendLogReminders(ProgrammeJobArgs, frozen=True, kw_only=True):
    """Remind facilitators whose log is open. Result: ``{"sent", "repeated"}``."""

    kind: ClassVar[str] = "activity.remind"
    of_consequence: ClassVar[bool] = True


class SendDeadlineWarnings(ProgrammeJobArgs, frozen=True, kw_only=True):
    """Warn facilitators whose log is still missing. Result: ``{"sent", "repeated"}``."""

    kind: ClassVar[str] = "activity.warn"
    of_consequence: ClassVar[bool] = True


class SendManagerReport(ProgrammeJobArgs, frozen=True, kw_only=True):
    """Report to managers on the last week. Result: ``{"sent", "repeated"}``."""

    kind: ClassVar[str] = "activity.report"
    of_consequence: ClassVar[bool] = True


class PruneScheduleRuns(JobArgs, frozen=True, kw_only=True):
    """Delete old fan-outs. Result: ``{"dropped"}``."""

    kind: ClassVar[str] = "activity.prune"
    queue: ClassVar[str] = "activity"
    priority: ClassVar[int] = LOW


class ReportMissedSlots(JobArgs, frozen=True, kw_only=True):
    """Tell admins and operators which slots were missed. Result: ``{"slots"}``."""

    kind: ClassVar[str] = "activity.report_missed"
    queue: ClassVar[str] = "activity"
    priority: ClassVar[int] = HIGH


@dataclass(frozen=True, slots=True)
class ProgrammeSchedule:
    """One of a programme's schedules, in the programme's time zone."""

    args: type[ProgrammeJobArgs]
    cron: str
    catch_up: timedelta
    """Time after a slot within which a missed one still runs."""
    per_user_cron: str | None = None
    """Cron text where each facilitator's own time zone counts."""


PROGRAMME_SCHEDULES: Mapping[str, ProgrammeSchedule] = {
    "open_week": ProgrammeSchedule(OpenWeek, "0 0 * * 1", timedelta(days=6)),
    # Monday 09:00, caught up until 20:00
    "reminder": ProgrammeSchedule(
        SendLogReminders, "0 9 * * 1", timedelta(hours=11), "*/15 * * * 1-2"
    ),
    # Thursday 08:00, caught up until Friday 18:00
    "deadline_warning": ProgrammeSchedule(
        SendDeadlineWarnings, "0 8 * * 4", timedelta(hours=34), "*/15 * * * 4-5"
    ),
    # Tuesday 10:00, caught up until Wednesday 18:00
    "report": ProgrammeSchedule(SendManagerReport, "0 10 * * 2", timedelta(hours=32)),
}
"""By the first part of a schedule's name; the rest is the programme's id."""


def programme_schedule_name(schedule: str, programme_id: str) -> str:
    """Return the name of a programme's schedule: ``reminder.data-lab``."""
    return f"{schedule}.{programme_id}"


async def is_slot_outstanding(tx: Tx, job: Job, args: ProgrammeJobArgs) -> bool:
    """Return whether the slot's fan-out is not done, while its record would be kept.

    A week that was not opened is opened by the next slot, with all that are due.
    """
    if isinstance(args, OpenWeek):
        return args.slot_at > tx.now - _WEEK_US
    if args.slot_at < tx.now - obligation_store.SCHEDULE_RUN_RETENTION_US:
        return False
    if await store.get_programme(tx, args.programme_id) is None:
        return False
    return not await obligation_store.is_schedule_run_done(tx, args.schedule, args.slot)
