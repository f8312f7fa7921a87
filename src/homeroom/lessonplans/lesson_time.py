"""Division of contact time into outcomes and whole lessons (pure).

Every number is whole minutes, and every division adds up exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeroom.lessonplans.bloom import BloomLevel, OutcomeDomain
from homeroom.lessonplans.curriculum import (
    MIN_MINUTES,
    CurriculumModule,
    LearningOutcome,
    TeachingPreferences,
    contact_hours,
    count_lessons,
)

STEP_MINUTES = 5
SHORTEST_LESSON = MIN_MINUTES
_DEFAULT_WEIGHTS = {
    BloomLevel.REMEMBER: 4,
    BloomLevel.UNDERSTAND: 4,
    BloomLevel.APPLY: 5,
    BloomLevel.ANALYZE: 5,
    BloomLevel.EVALUATE: 5,
    BloomLevel.CREATE: 6,
}
"""Default weights by level. They are close together: the level says little about the time."""
_PRACTICAL_WEIGHT = 6
_WEIGHT_UNITS = 1_000


def split_by_largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """Split a whole number by positive weights; the shares add up exactly.

    The rest goes to the largest remainders, and on a tie to the earlier share.
    """
    whole = sum(weights)
    shares = [total * weight // whole for weight in weights]
    by_remainder = sorted(
        range(len(weights)), key=lambda index: (-(total * weights[index] % whole), index)
    )
    for index in by_remainder[: total - sum(shares)]:
        shares[index] += 1
    return shares


def split_into_lessons(minutes: int, preferences: TeachingPreferences) -> list[int]:
    """Return the lengths of the lessons for some minutes, in order.

    Lessons have the preferred length. What is left over makes one shorter lesson at the end, or,
    as the author prefers or where it is too short for a lesson, it is spread in steps of five.
    """
    if minutes == 0:
        return []
    length = preferences.lesson_minutes
    whole, left = divmod(minutes, length)
    is_short = 0 < left < SHORTEST_LESSON
    if preferences.leftover == "spread" or (is_short and whole > 0):
        count = whole if is_short and whole > 0 else count_lessons(minutes, length)
        return _spread(minutes, length, count)
    return [length] * whole + ([left] if left else [])


def _spread(minutes: int, length: int, count: int) -> list[int]:
    difference = minutes - count * length
    sign = 1 if difference >= 0 else -1
    steps, rest = divmod(abs(difference), STEP_MINUTES)
    lengths = [
        length + sign * STEP_MINUTES * share
        for share in split_by_largest_remainder(steps, [1] * count)
    ]
    lengths[-1] += sign * rest
    return lengths


@dataclass(frozen=True, slots=True)
class ModuleTime:
    """The minutes of a module by purpose; they add up to its contact time."""

    outcomes: tuple[int, ...]
    """Minutes of each outcome, in the module's order; 0: shares lessons with others."""
    shared: int
    """Minutes that the outcomes without hours share."""
    field: int
    review: int
    assessment: int


def module_time_error(module: CurriculumModule) -> str | None:
    """Return why a module's hours cannot be met, with the numbers; else None."""
    named = [outcome for outcome in module.outcomes if outcome.minutes is not None]
    special = [
        (name, minutes)
        for name, minutes in (
            ("field practice", module.field_minutes),
            ("review", module.review_minutes),
            ("assessment", module.assessment_minutes),
        )
        if minutes
    ]
    if not named and not special:
        return None
    asked = sum(outcome.minutes or 0 for outcome in named) + sum(each for _, each in special)
    parts = [f"{contact_hours(outcome.minutes or 0)} for {outcome.id!r}" for outcome in named]
    parts += [f"{contact_hours(minutes)} for the {name}" for name, minutes in special]
    numbers = f"{contact_hours(asked)} hours are asked for ({', '.join(parts)}), and the module has"
    has = f"{numbers} {contact_hours(module.minutes)}"
    left = module.minutes - asked
    free = len(module.outcomes) - len(named)
    if left < 0:
        return f"{has}: {contact_hours(-left)} too few"
    if free and left < max(SHORTEST_LESSON, STEP_MINUTES * free):
        return f"{has}: {left} minutes are left for {free} outcomes without hours"
    if not free and left > 0 and (left < SHORTEST_LESSON or module.review_minutes is not None):
        return f"{has}: {contact_hours(left)} have no purpose; give them to an outcome"
    return None


def divide_module(
    module: CurriculumModule,
    outcomes: Sequence[LearningOutcome],
    weights: Sequence[int],
    preferences: TeachingPreferences,
    *,
    is_practical: bool,
) -> ModuleTime:
    """Divide the contact time of a module whose hours can be met.

    A review, an assessment and field practice that the author neither asked for nor forbade get a
    lesson each where the outcomes keep enough lessons.
    """
    field, review, assessment = (
        module.field_minutes,
        module.review_minutes,
        module.assessment_minutes,
    )
    named = sum(outcome.minutes or 0 for outcome in outcomes)
    shared = module.minutes - named - (field or 0) - (review or 0) - (assessment or 0)
    free = [index for index, outcome in enumerate(outcomes) if outcome.minutes is None]
    if not free:
        return ModuleTime(
            tuple(outcome.minutes or 0 for outcome in outcomes),
            0,
            field or 0,
            (review or 0) + shared,
            assessment or 0,
        )
    length, count = preferences.lesson_minutes, shared // preferences.lesson_minutes
    if review is None and count >= max(6, len(free) + 3):
        review, shared = length, shared - length
    if assessment is None and count >= max(10, 2 * len(free) + 2):
        assessment, shared = length, shared - length
    if field is None and is_practical and count >= max(12, 3 * len(free)):
        field, shared = length, shared - length
    if not named:
        minutes = [0] * len(outcomes)
    else:
        minutes, shared = _end_at_lessons(outcomes, weights, shared, length), 0
    return ModuleTime(tuple(minutes), shared, field or 0, review or 0, assessment or 0)


def _end_at_lessons(
    outcomes: Sequence[LearningOutcome], weights: Sequence[int], shared: int, length: int
) -> list[int]:
    """Return the minutes of all outcomes where some name their hours.

    The others share the rest by weight, and end with a lesson wherever that is near.
    """
    free = [index for index, outcome in enumerate(outcomes) if outcome.minutes is None]
    minutes, end = [outcome.minutes or 0 for outcome in outcomes], 0
    for index, outcome in enumerate(outcomes):
        if outcome.minutes is None:
            later = [each for each in free if each > index]
            share = shared
            if later:
                target = shared * weights[index] // sum(weights[each] for each in (index, *later))
                share = (2 * (end + target) + length) // (2 * length) * length - end
                if share < STEP_MINUTES:
                    share = target // STEP_MINUTES * STEP_MINUTES
                share = max(STEP_MINUTES, min(share, shared - STEP_MINUTES * len(later)))
            minutes[index] = share
            shared -= share
        end += minutes[index]
    return minutes


def outcome_weight(outcome: LearningOutcome, level: BloomLevel, domain: OutcomeDomain) -> int:
    """Return the weight of an outcome in thousandths, declared or by level."""
    if outcome.weight is not None:
        return max(1, round(outcome.weight * _WEIGHT_UNITS))
    if domain is OutcomeDomain.PSYCHOMOTOR:
        return _PRACTICAL_WEIGHT * _WEIGHT_UNITS // 5
    return _DEFAULT_WEIGHTS[level] * _WEIGHT_UNITS // 5


def share_lessons(count: int, weights: Sequence[int]) -> list[int]:
    """Share at least one lesson to each weight; the shares add up to ``count``."""
    shares = [max(1, share) for share in split_by_largest_remainder(count, weights)]
    while sum(shares) > count:
        # The largest share in proportion to its weight gives; it is never the last lesson.
        giving = max(
            (index for index, share in enumerate(shares) if share > 1),
            key=lambda index: (shares[index] * 1_000_000 // weights[index], -index),
        )
        shares[giving] -= 1
    return shares


def cut_into_lessons(minutes: Sequence[int], lengths: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Lay outcomes end to end and cut them at the ends of lessons.

    Returns pairs of outcome index and minutes for each lesson. An overlap of less than five
    minutes goes to the lesson's other outcome, unless the outcome has no other lesson.
    """
    lessons: list[list[tuple[int, int]]] = []
    index, left = 0, minutes[0]
    for length in lengths:
        pieces: list[tuple[int, int]] = []
        room = length
        while room:
            if left == 0:
                index += 1
                left = minutes[index]
                continue
            piece = min(room, left)
            pieces.append((index, piece))
            room, left = room - piece, left - piece
        lessons.append(pieces)
    counts = [
        sum(index == each for pieces in lessons for each, _ in pieces)
        for index in range(len(minutes))
    ]
    for pieces in lessons:
        for at in [at for at, (_, piece) in enumerate(pieces) if piece < STEP_MINUTES][::-1]:
            index, piece = pieces[at]
            if counts[index] > 1 and len(pieces) > 1:
                del pieces[at]
                counts[index] -= 1
                other, length = pieces[at - 1 if at else 0]
                pieces[at - 1 if at else 0] = (other, length + piece)
    return lessons
