"""From a learner's chapters to course progress (pure). Rules B6 and B7.

Percent is the weighted mean over the measured (required) chapters of the learner's own course
version. What a version does not contain is not counted, so no removed lesson can push anybody above
100 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from homeroom.catalogue.api import Chapter, Course, MoveOn
from homeroom.progress.event import FULL
from homeroom.progress.merge import ChapterState, carried


class CourseState(msgspec.Struct):
    """One learner's course in one attempt, kept by adding what each commit changed."""

    version: int
    weighted_sum: int = 0
    """Sum of weight x progress (1e-4 units x basis points) over the measured chapters."""
    required_satisfied: int = 0
    """How many of the measured chapters are satisfied."""
    satisfied: int = 0
    """How many chapters are satisfied, optional ones included."""
    time_spent: int = 0
    """Seconds: all chapters' time, plus time that no chapter was named for."""
    unattributed: int = 0
    last_at: int = 0
    last_seq: int = 0
    """The latest ledger row of the attempt, from which those before it are followed."""
    chapters: dict[str, ChapterState] = {}
    """By chapter id, those that an event spoke of; also what the version no longer has."""


class Share(NamedTuple):
    """What one chapter gives to its course."""

    weighted: int
    satisfied: bool


def is_satisfied(chapter: Chapter, state: ChapterState) -> bool:
    """Say whether a chapter counts as done: by its ``moveOn`` (cmi5 13.1.4), or as waived."""
    return chapter.satisfied(
        state.completed_at is not None, state.passed_at is not None, state.waived_at is not None
    )


def share(chapter: Chapter, state: ChapterState) -> Share:
    """Return a chapter's share of the course: a satisfied chapter counts in full."""
    satisfied = is_satisfied(chapter, state)
    if not chapter.measured:
        return Share(0, satisfied)
    return Share(chapter.weight * (FULL if satisfied else state.progress), satisfied)


def add_change(course: CourseState, chapter: Chapter, before: Share, after: Share) -> None:
    """Add to the course what one chapter gained between two states."""
    course.weighted_sum += after.weighted - before.weighted
    if after.satisfied and not before.satisfied:
        course.satisfied += 1
        course.required_satisfied += chapter.measured


def add_merged(
    course: CourseState, chapter: Chapter, before: ChapterState, after: ChapterState
) -> bool:
    """Add to the course what merging events gave a chapter; say if it was satisfied before.

    The same as ``add_change`` of both shares. Most events only raise the progress of a chapter for
    which nothing is proved yet, and those take an eighth of the time here.
    """
    if (
        chapter.measured  # so it wants something to be proved
        and after.completed_at is None
        and after.passed_at is None
        and after.waived_at is None
    ):
        course.weighted_sum += chapter.weight * (after.progress - before.progress)
        return False
    was = share(chapter, before)
    add_change(course, chapter, was, share(chapter, after))
    return was.satisfied


def recompute(
    course: Course,
    chapters: Mapping[str, ChapterState],
    *,
    unattributed: int = 0,
    last_at: int = 0,
    last_seq: int = 0,
) -> CourseState:
    """Return the course state from all chapter states; what ``add_change`` keeps must equal it.

    ``last_at`` is the latest time of events without a chapter.
    """
    state = CourseState(
        version=course.version,
        unattributed=unattributed,
        last_at=last_at,
        last_seq=last_seq,
        chapters=dict(chapters),
    )
    state.time_spent = unattributed + sum(chapter.time_spent for chapter in chapters.values())
    nothing, untouched = Share(0, satisfied=False), ChapterState()
    for id, chapter in course.chapters.items():
        add_change(state, chapter, nothing, share(chapter, chapters.get(id, untouched)))
    for chapter_state in chapters.values():
        state.last_at = max(state.last_at, chapter_state.last_at)
    return state


def fresh(course: Course) -> CourseState:
    """Return the state of a learner who has done nothing yet."""
    return recompute(course, {})


def moved_to(course: Course, old: CourseState) -> CourseState:
    """Return what an attempt's chapters make of another version of its course."""
    return recompute(
        course,
        old.chapters,
        unattributed=old.unattributed,
        last_at=old.last_at,
        last_seq=old.last_seq,
    )


def carried_over(course: Course, old: CourseState) -> CourseState:
    """Return what a new attempt at a version of the course begins with, given the one before."""
    return recompute(course, {id: carried(each) for id, each in old.chapters.items()})


def satisfied_at(chapter: Chapter, state: ChapterState) -> int | None:
    """Return the time from which a chapter was satisfied, by the earliest events that say so."""
    earned, waived = _earned_at(chapter, state), state.waived_at
    if earned is None or waived is None:
        return waived if earned is None else earned
    return min(earned, waived)


def _earned_at(chapter: Chapter, state: ChapterState) -> int | None:
    """Return the time from which the events of the learner itself satisfied a chapter."""
    completed, passed = state.completed_at, state.passed_at
    if not chapter.satisfied(completed is not None, passed is not None):
        return None
    times = [time for time in (completed, passed) if time is not None]
    match chapter.move_on:
        case MoveOn.COMPLETED:
            return completed
        case MoveOn.PASSED:
            return passed
        case MoveOn.COMPLETED_AND_PASSED:
            return max(times)
        case MoveOn.COMPLETED_OR_PASSED:
            return min(times)
        case MoveOn.NOT_APPLICABLE:
            return None


def percent(course: Course, state: CourseState) -> int | None:
    """Return course progress in basis points, rounded down; None where nothing can be measured.

    100 % is shown only if every required chapter is satisfied.
    """
    if course.total_weight == 0:
        return None
    points = state.weighted_sum // course.total_weight
    if state.required_satisfied < len(course.required):
        return min(points, FULL - 1)
    return min(points, FULL)
