"""Who misses weeks again and again, and whether that is news (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from homeroom.activity.owed import DONE, State

WINDOW = 4
"""Closed weeks that are looked at."""
THRESHOLD = 2
"""Missed weeks of them that are too many, and expected weeks without which nobody is judged."""


class Mark(StrEnum):
    """What a facilitator's week looks like over all their offerings."""

    DONE = "done"
    LATE = "late"
    MISSED = "missed"
    EXEMPT = "exempt"
    OPEN = "open"


class News(StrEnum):
    """What there is to say of a facilitator."""

    NOTHING = "nothing"
    WARN = "warn"
    CONTINUING = "continuing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The weeks that were missed, and whether managers have to hear of it."""

    missed: tuple[str, ...]
    expected: int
    news: News


def mark(states: Iterable[State]) -> Mark | None:
    """Return one mark for the offerings of one facilitator in one week; the worst one counts.

    None means that nothing ran in that week.
    """
    found = set(states)
    if State.MISSED in found:
        return Mark.MISSED
    if State.OPEN in found:
        return Mark.OPEN
    if State.LATE in found:
        return Mark.LATE
    if found & DONE:
        return Mark.DONE
    return Mark.EXEMPT if found else None


def judge(
    marks: Sequence[tuple[str, Mark | None]],
    warned: Sequence[str] | None,
    *,
    late_is_missed: bool = False,
) -> Verdict:
    """Judge the four most recent closed weeks, given as pairs of week key and mark.

    ``warned`` are the missed weeks that the last warning named, None if none stands. Missed means
    that there is no log now; late is not missed unless ``late_is_missed``; exempt weeks count
    neither way. A set of missed weeks that was warned of already is continuing, not news.
    """
    bad = {Mark.MISSED, Mark.LATE} if late_is_missed else {Mark.MISSED}
    missed = tuple(key for key, each in marks if each in bad)
    expected = sum(each is not None and each is not Mark.EXEMPT for _, each in marks)
    if len(missed) < THRESHOLD or expected < THRESHOLD:
        return Verdict(missed, expected, News.NOTHING if warned is None else News.RESOLVED)
    same = warned is not None and set(warned) == set(missed)
    return Verdict(missed, expected, News.CONTINUING if same else News.WARN)
