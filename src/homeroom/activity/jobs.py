"""What the schedules of a programme do: open its weeks, remind, warn and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from homeroom.jobs.api import LOW, JobArgs, SlotArgs

TIMEOUT = timedelta(minutes=10)


class ProgrammeArgs(SlotArgs, frozen=True, kw_only=True):
    """A job about one programme, for one slot of one of its schedules."""

    queue: ClassVar[str] = "activity"
    timeout: ClassVar[timedelta] = TIMEOUT

    programme_id: str


class OpenWeek(ProgrammeArgs, frozen=True, kw_only=True):
    """Open what is owed for the week that begins. Result: ``{"opened"}``."""

    kind: ClassVar[str] = "activity.open_week"


class Remind(ProgrammeArgs, frozen=True, kw_only=True):
    """Remind facilitators whose log is open. Result: ``{"sent", "repeated"}``."""

    kind: ClassVar[str] = "activity.remind"


class Warn(ProgrammeArgs, frozen=True, kw_only=True):
    """Warn facilitators whose log is still missing. Result: ``{"sent", "repeated"}``."""

    kind: ClassVar[str] = "activity.warn"


class Report(ProgrammeArgs, frozen=True, kw_only=True):
    """Report to managers on the week that has ended. Result: ``{"sent", "repeated"}``."""

    kind: ClassVar[str] = "activity.report"


class PruneRuns(JobArgs, frozen=True, kw_only=True):
    """Drop old fan-outs. Result: ``{"dropped"}``."""

    kind: ClassVar[str] = "activity.prune"
    queue: ClassVar[str] = "activity"
    priority: ClassVar[int] = LOW


@dataclass(frozen=True, slots=True)
class Plan:
    """When one of a programme's schedules fires, in its own time zone."""

    args: type[ProgrammeArgs]
    cron: str
    catch_up: timedelta
    """How long after a downtime it still makes sense."""
    per_user_cron: str | None = None
    """When to look, where everybody's own clock counts."""


PLANS: Mapping[str, Plan] = {
    "open_week": Plan(OpenWeek, "0 0 * * 1", timedelta(days=6)),
    # Monday 09:00, worth it until 20:00
    "reminder": Plan(Remind, "0 9 * * 1", timedelta(hours=11), "*/15 * * * 1-2"),
    # Thursday 08:00, worth it until Friday 18:00
    "deadline_warning": Plan(Warn, "0 8 * * 4", timedelta(hours=34), "*/15 * * * 4-5"),
    # Tuesday 10:00, worth it until Wednesday 18:00
    "report": Plan(Report, "0 10 * * 2", timedelta(hours=32)),
}
"""By the first part of a schedule's name; the rest is the programme's id."""


def schedule_name(plan: str, programme_id: str) -> str:
    """Return what a programme's schedule is called: ``reminder.data-lab``."""
    return f"{plan}.{programme_id}"
