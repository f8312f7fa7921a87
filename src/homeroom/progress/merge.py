"""How events change a chapter: maximum, sum and union, so that no order of arrival matters (pure).

Rules B3 to B6 and B13: progress is the maximum, time spent is the sum of deltas that each carry an
id, ``completed``, ``passed`` and ``waived`` are sticky. Any permutation, splitting and duplication
of the same events therefore gives the same chapter.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from homeroom.catalogue.api import Chapter
from homeroom.progress.event import FULL, Event, EventType

_HEARTBEAT, _WAIVED = EventType.HEARTBEAT, EventType.CHAPTER_WAIVED


class ChapterState(msgspec.Struct, array_like=True, gc=False):
    """What is known of one learner's chapter in one attempt. Times are microseconds UTC.

    It is kept as a JSON array in this order: a new field comes last, with a default.
    """

    progress: int = 0
    """Basis points."""
    time_spent: int = 0
    """Seconds."""
    completed_at: int | None = None
    """The earliest time at which an event reported it complete; None where none did."""
    passed_at: int | None = None
    """The earliest time at which a quiz attempt that counts passed it."""
    last_at: int = 0
    """The latest event's time, however late it came; 0 where there was none but a waiver."""
    waived_at: int | None = None
    """The earliest time at which somebody let the learner off; None where nobody did."""

    @property
    def completed(self) -> bool:
        """Say whether an event reported the chapter complete; it never becomes false again."""
        return self.completed_at is not None

    @property
    def passed(self) -> bool:
        """Say whether a quiz attempt passed it; a later fail takes nothing away."""
        return self.passed_at is not None


def join(one: ChapterState, other: ChapterState) -> ChapterState:
    """Return what two sets of events make of a chapter, from what each makes of it."""
    completed_at, passed_at, waived_at = one.completed_at, one.passed_at, one.waived_at
    # Most events bring none of these, and a call of a function takes longer than the rest here.
    if other.completed_at is not None:
        completed_at = _earliest(completed_at, other.completed_at)
    if other.passed_at is not None:
        passed_at = _earliest(passed_at, other.passed_at)
    if other.waived_at is not None:
        waived_at = _earliest(waived_at, other.waived_at)
    return ChapterState(
        one.progress if one.progress > other.progress else other.progress,
        one.time_spent + other.time_spent,
        completed_at,
        passed_at,
        one.last_at if one.last_at > other.last_at else other.last_at,
        waived_at,
    )


def carried(state: ChapterState) -> ChapterState:
    """Return what a new attempt begins with: all but the time, of which a second counts once."""
    return replace(state, time_spent=0)


def _earliest(one: int | None, other: int) -> int:
    return other if one is None or other < one else one


def merge(state: ChapterState, event: Event, chapter: Chapter | None) -> None:
    """Let one event change a chapter's state in place.

    ``chapter`` is the chapter in the course version that the event was recorded under, from which a
    quiz's threshold comes; None where that version does not have it.
    """
    at = event.at
    state.time_spent += event.time_spent
    if event.type is _WAIVED:  # which is not the learner's doing
        if state.waived_at is None or at < state.waived_at:
            state.waived_at = at
        return
    if at > state.last_at:
        state.last_at = at
    progress = event.progress
    if progress is not None and event.type is not _HEARTBEAT:
        if progress > state.progress:
            state.progress = progress
        if progress == FULL and (state.completed_at is None or at < state.completed_at):
            state.completed_at = at
    if event.quiz is None or not event.trusted or not passes_quiz(event, chapter):
        return
    if state.passed_at is None or at < state.passed_at:
        state.passed_at = at


def scaled_score(event: Event) -> int | None:
    """Return a quiz attempt's score in units of 1e-4, rounded down; 0 is a score, None is none."""
    if event.quiz is None:
        return None
    score = int(event.quiz.score / event.quiz.max_score * FULL + 1e-6)
    return FULL - 1 if score >= FULL and event.quiz.score < event.quiz.max_score else score


def passes_quiz(event: Event, chapter: Chapter | None) -> bool:
    """Say whether an attempt reaches the chapter's threshold (``scaled >= threshold``, cmi5)."""
    score = scaled_score(event)
    if score is None or chapter is None or chapter.pass_threshold is None:
        return False
    return score >= chapter.pass_threshold
