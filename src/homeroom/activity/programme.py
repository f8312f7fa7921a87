"""A programme, what is owed in it, and how it may be set up (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal
from zoneinfo import ZoneInfo

from homeroom.activity.owed import OWED, State, at
from homeroom.activity.week import THURSDAY, Week, local_date, parse_week

Target = Literal["current", "previous"]


@dataclass(frozen=True, slots=True)
class Programme:
    """A programme with its rules. Its zone decides what a week and a deadline is."""

    id: str
    title: str
    time_zone: str
    grace_minutes: int = 0
    """How long after the end of the week a log still is on time."""
    closed_on: date | None = None
    """From this day on nothing is owed and nobody hears anything; None: it runs."""
    managers: tuple[str, ...] = ()
    log_url: str | None = None
    """Where facilitators write their logs; it becomes the link of their messages."""
    target_week: Target = "current"
    """Which week Monday's reminder asks for; ``current`` is hours old by then."""
    last_day_to_join: int = THURSDAY
    """Who joins later in a week (Monday is 1) owes nothing for it."""
    late_is_missed: bool = False
    copy_facilitator: bool = True
    """Whether somebody whom managers are warned of hears of it too."""
    all_clear: bool = False
    """Whether managers get Tuesday's report when there is nothing in it."""
    per_user_time: bool = False
    """Whether reminders and warnings go by the clock of the person rather than the programme's."""

    @property
    def zone(self) -> ZoneInfo:
        """Return its time zone."""
        return ZoneInfo(self.time_zone)

    def is_closed(self, now: int) -> bool:
        """Say whether it is closed on the date that its wall shows (microseconds UTC)."""
        return self.closed_on is not None and self.closed_on <= local_date(now, self.zone)


@dataclass(frozen=True, slots=True)
class Obligation:
    """What is owed for one offering and one week. Instants are microseconds UTC."""

    offering_id: str
    offering_title: str
    week_key: str
    facilitator_id: str
    programme_id: str
    opens_at: int
    deadline_at: int
    """Frozen when the week opened: another zone or grace counts from the next week on."""
    state: State
    exempt_reason: str | None = None
    log_id: str | None = None
    satisfied_at: int | None = None

    @property
    def week(self) -> Week:
        """Return its week."""
        return parse_week(self.week_key)

    def is_owed(self, now: int) -> bool:
        """Say whether a log is missing, be it late already or not."""
        return self.now(now) in OWED

    def now(self, now: int) -> State:
        """Return its state at an instant."""
        return at(self.state, self.deadline_at, now)
