"""Which log is owed for which week, and why one is not (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from homeroom.activity.week import FRIDAY, THURSDAY, Week

WEEKEND = timedelta(days=2)
JOINED_LATE = "joined after the week's last day to join"
CLOSED = "the programme is closed"


class State(StrEnum):
    """Where the log of an offering and a week is."""

    OPEN = "open"
    SUBMITTED = "submitted"
    LATE = "late"
    MISSED = "missed"
    EXEMPT = "exempt"


DONE = frozenset({State.SUBMITTED, State.LATE})
OWED = frozenset({State.OPEN, State.MISSED})
"""Nothing has arrived, and something should: the states that a log can satisfy."""


@dataclass(frozen=True, slots=True)
class Offering:
    """A course that a facilitator gives within a programme; both dates belong to it."""

    id: str
    programme_id: str
    title: str
    facilitator_id: str
    starts_on: date
    ends_on: date


@dataclass(frozen=True, slots=True)
class Exemption:
    """Days on which nothing is owed; both dates belong to it.

    Without ``user_id`` it holds for everybody (a holiday), without ``offering_id`` for all that
    somebody gives.
    """

    id: str
    starts_on: date
    ends_on: date
    reason: str
    """``leave``, ``holiday`` or ``other``."""
    user_id: str | None = None
    offering_id: str | None = None

    def holds_for(self, offering: Offering) -> bool:
        """Say whether it is about an offering."""
        return self.user_id in (None, offering.facilitator_id) and self.offering_id in (
            None,
            offering.id,
        )


@dataclass(frozen=True, slots=True)
class Owed:
    """Whether the log of a week is owed; ``reason`` says why it is not."""

    state: State
    reason: str | None = None


def owed(
    offering: Offering,
    week: Week,
    exemptions: Iterable[Exemption] = (),
    *,
    closed_on: date | None = None,
    last_day_to_join: int = THURSDAY,
) -> Owed | None:
    """Return what a facilitator owes for a week; None if the offering does not run in it.

    Who joins after ``last_day_to_join`` (a day of the ISO week) is exempt for that week. So is
    somebody whose leave and holidays, taken together, cover every working day on which the offering
    runs in that week; a day off within a week of work changes nothing. A programme that is closed
    before the week has ended asks for nothing any more.
    """
    sunday = week.monday + timedelta(days=6)
    if offering.starts_on > sunday or offering.ends_on < week.monday:
        return None
    if closed_on is not None and closed_on <= sunday:
        return Owed(State.EXEMPT, CLOSED)
    if offering.starts_on > week.day(last_day_to_join):
        return Owed(State.EXEMPT, JOINED_LATE)
    reason = _covered(offering, week, [each for each in exemptions if each.holds_for(offering)])
    return Owed(State.OPEN) if reason is None else Owed(State.EXEMPT, reason)


def _covered(offering: Offering, week: Week, exemptions: list[Exemption]) -> str | None:
    first = max(week.monday, offering.starts_on)
    last = min(week.monday + timedelta(days=6), offering.ends_on)
    working = min(last, week.day(FRIDAY))
    if first <= working:
        last = working
    reason: str | None = None
    day = first
    while day <= last:
        covering = next(
            (each for each in exemptions if each.starts_on <= day <= each.ends_on), None
        )
        if covering is None:
            return None
        reason = reason or covering.reason
        day += timedelta(days=1)
    return reason


def at(state: State, deadline_at: int, now: int) -> State:
    """Return a stored state as it is at an instant: an open one is missed once its time is over.

    On time means that the log was received before the deadline, which is exclusive.
    """
    return State.MISSED if state is State.OPEN and now >= deadline_at else state


def satisfied(deadline_at: int, received_at: int) -> State:
    """Return what a log that the server received at an instant makes of what was owed."""
    return State.SUBMITTED if received_at < deadline_at else State.LATE
