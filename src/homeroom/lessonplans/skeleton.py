"""Split contact time into lessons and place the outcomes, before any text is written (pure).

Whatever writes the lessons later, their number, order, minutes and outcomes are decided here, so
that sums are right whoever writes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from homeroom.lessonplans import bloom
from homeroom.lessonplans.bloom import Bloom
from homeroom.lessonplans.curriculum import Curriculum, Module, Outcome, input_hash, lesson_count
from homeroom.lessonplans.text import one_line

MAX_TITLE = 120
_ADDRESS_MARKS = re.compile(r"[.:/]")
_NAMESPACE = uuid.UUID("5b0d0f3e-6f0c-5c53-9d0e-2f1f6d2f6a11")
"""Of lesson ids; must never change, or the same curriculum would get other ids."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An outcome in a lesson. ``verb`` None: no verb of the table was found in its text."""

    id: str
    text: str
    level: Bloom
    verb: str | None
    declared: bool
    """The author declared the level; else it was read from the verb."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A lesson that is to be written."""

    id: str
    index: int
    """Position in the plan, from 0."""
    module_index: int
    number: str
    """``module.lesson`` as people count: ``2.1``."""
    week: int
    """From 1."""
    title: str
    """A working title in the author's own words, unique in the plan."""
    minutes: int
    outcomes: tuple[Placed, ...]
    assesses: tuple[str, ...]
    """Ids of the outcomes whose last lesson this is: they must be assessed in it."""
    part: int
    of: int
    """The lesson is part ``part`` of ``of`` lessons on the same outcome."""


def largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """Split a whole number by weights, exactly; what is left over goes to the largest remainders.

    Ties go to the earlier ones. Weights are positive.
    """
    whole = sum(weights)
    shares = [total * weight // whole for weight in weights]
    by_remainder = sorted(
        range(len(weights)), key=lambda index: (-(total * weights[index] % whole), index)
    )
    for index in by_remainder[: total - sum(shares)]:
        shares[index] += 1
    return shares


def skeleton(curriculum: Curriculum) -> tuple[Slot, ...]:
    """Return all lessons of a curriculum in their order."""
    wishes = curriculum.preferences
    seed = input_hash(curriculum)
    per_week = len(wishes.weekdays) * wishes.lessons_per_day
    slots: list[Slot] = []
    titles: set[str] = set()
    for module_index, module in enumerate(curriculum.modules):
        count = lesson_count(module.minutes, wishes.lesson_minutes)
        minutes = largest_remainder(module.minutes, [1] * count)
        for position, share in enumerate(_shares(module, count)):
            index = len(slots)
            number = f"{module_index + 1}.{position + 1}"
            slots.append(
                Slot(
                    id=str(uuid.uuid5(_NAMESPACE, f"{seed}.{index}")),
                    index=index,
                    module_index=module_index,
                    number=number,
                    week=index // per_week + 1,
                    title=_unique(_title(share), number, titles),
                    minutes=minutes[position],
                    outcomes=tuple(_placed(outcome) for outcome in share.outcomes),
                    assesses=tuple(
                        outcome.id for outcome in share.outcomes if share.part == share.of
                    ),
                    part=share.part,
                    of=share.of,
                )
            )
    return tuple(slots)


@dataclass(frozen=True, slots=True)
class _Share:
    outcomes: tuple[Outcome, ...]
    part: int
    of: int


def _shares(module: Module, count: int) -> list[_Share]:
    """Give every outcome its lessons, or, where there are fewer lessons, every lesson its outcomes.

    Outcomes of a higher level get more of the lessons that are left once each has one.
    """
    outcomes = module.outcomes
    if count < len(outcomes):
        shares, start = [], 0
        for size in largest_remainder(len(outcomes), [1] * count):
            shares.append(_Share(outcomes[start : start + size], 1, 1))
            start += size
        return shares
    weights = [2 + _placed(outcome).level.rank for outcome in outcomes]
    extra = largest_remainder(count - len(outcomes), weights)
    return [
        _Share((outcome,), part, 1 + more)
        for outcome, more in zip(outcomes, extra, strict=True)
        for part in range(1, 2 + more)
    ]


def _placed(outcome: Outcome) -> Placed:
    found = bloom.read(outcome.text)
    declared = outcome.level is not None
    return Placed(outcome.id, outcome.text, outcome.level or found.level, found.verb, declared)


def _title(share: _Share) -> str:
    text = one_line(share.outcomes[0].text).rstrip(".;:, ")
    if len(share.outcomes) > 1:
        text += f" (and {len(share.outcomes) - 1} more)"
    end = f" ({share.part} of {share.of})" if share.of > 1 else ""
    return _shortened(text, MAX_TITLE - len(end)) + end


def _shortened(text: str, room: int) -> str:
    """Return whole words that fit: half a web address would be one that nobody gave."""
    if len(text) <= room:
        return text
    words = text[:room].split(" ")[:-1]
    return " ".join(words) + "…" if words else _ADDRESS_MARKS.sub(" ", text)[: room - 1] + "…"


def _unique(title: str, number: str, titles: set[str]) -> str:
    """Return the title, with the lesson's number where an earlier lesson has the same."""
    if title.casefold() in titles:
        title = f"{title} [{number}]"
    titles.add(title.casefold())
    return title
