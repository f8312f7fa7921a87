"""Allocation of contact time, outcomes and activity patterns to lessons (pure).

It runs before any lesson is generated and fixes the number of lessons, their order, minutes,
outcomes, purpose and what they retrieve. No generator can change them, so the sums are right.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from homeroom.lessonplans.activity_patterns import PatternChooser, teaching_place
from homeroom.lessonplans.bloom import BloomLevel, OutcomeDomain
from homeroom.lessonplans.curriculum import (
    Curriculum,
    CurriculumModule,
    LearningOutcome,
    TeachingPreferences,
    input_hash,
    one_line,
)
from homeroom.lessonplans.lesson_sequence import (
    LessonStage,
    lesson_phases,
    lesson_stages,
    prerequisite_order,
)
from homeroom.lessonplans.lesson_time import (
    cut_into_lessons,
    divide_module,
    outcome_weight,
    share_lessons,
    split_by_largest_remainder,
    split_into_lessons,
)
from homeroom.lessonplans.outcome_reading import read_outcome, without_end_marks
from homeroom.lessonplans.verb_table import OutcomeLanguage, ReadingBasis
from homeroom.lessonplans.wording import Wording, load_wording, wording_language

MAX_WORKING_TITLE = 120
MAX_RETRIEVED = 2
_LINK_PUNCTUATION = re.compile(r"[.:/]")
_LESSON_ID_NAMESPACE = uuid.UUID("5b0d0f3e-6f0c-5c53-9d0e-2f1f6d2f6a11")
"""Namespace of lesson ids. It must never change: a curriculum's lessons keep their ids."""


@dataclass(frozen=True, slots=True)
class PlacedOutcome:
    """An outcome in a lesson; ``verb`` is None if its text has no known verb."""

    id: str
    text: str
    level: BloomLevel
    verb: str | None
    declared: bool
    """True if the author declared the level, False if the text implied it."""
    domain: OutcomeDomain = OutcomeDomain.COGNITIVE
    domain_declared: bool = False
    basis: ReadingBasis = "verb"
    evidence: str = ""
    """The words of the text that implied level and domain."""
    minutes: int = 0
    """Its share of the lesson; 0 in lessons of a review and in plans of earlier releases."""
    criteria: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetrievedOutcome:
    """An outcome of an earlier lesson that a lesson begins with."""

    id: str
    text: str
    lesson: str
    """Number of the last earlier lesson that taught it."""


@dataclass(frozen=True, slots=True)
class LessonSlot:
    """The frame of one lesson: its place, minutes, outcomes and purpose."""

    id: str
    index: int
    """Position in the plan, from 0."""
    module_index: int
    number: str
    """Module and lesson, both counted from 1: ``2.1``."""
    week: int
    """From 1."""
    title: str
    """A working title in the author's own words, unique in the plan."""
    minutes: int
    outcomes: tuple[PlacedOutcome, ...]
    assesses: tuple[str, ...]
    """Ids of the outcomes that this lesson must assess: their last lesson, or the assessment."""
    part: int
    of: int
    """The lesson is part ``part`` of ``of`` lessons on the same outcome."""
    stage: LessonStage = LessonStage.WHOLE
    retrieves: tuple[RetrievedOutcome, ...] = ()
    patterns: tuple[str, ...] = ()
    """Ids of the activity patterns, in order; empty in plans of earlier releases."""

    @property
    def leading(self) -> PlacedOutcome:
        """Return the outcome that decides the methods: most minutes, highest level."""
        return max(self.outcomes, key=lambda outcome: (outcome.minutes, outcome.level.rank))


@dataclass(frozen=True, slots=True)
class _LessonShare:
    """A lesson of a module before it has a number."""

    minutes: int
    outcomes: tuple[PlacedOutcome, ...]
    stage: LessonStage
    part: int = 1
    of: int = 1
    assesses: tuple[str, ...] = ()


@dataclass(slots=True)
class _TaughtOutcomes:
    """The outcomes taught so far, with the lessons that taught them last."""

    modules: list[dict[str, RetrievedOutcome]] = field(default_factory=list)
    recent: dict[str, RetrievedOutcome] = field(default_factory=dict)

    def retrieved_in(
        self, index: int, module_index: int, today: set[str]
    ) -> tuple[RetrievedOutcome, ...]:
        """Return what a lesson retrieves: from the last lesson, and from the last module."""
        others = [each for each in reversed(self.recent.values()) if each.id not in today]
        chosen = others[:1] or list(reversed(self.recent.values()))[:1]
        earlier = list(self.modules[module_index - 1].values()) if module_index else others[1:]
        earlier = [each for each in earlier if each.id not in {*today, *(one.id for one in chosen)}]
        if earlier:
            chosen.append(earlier[index % len(earlier)])
        return tuple(chosen[:MAX_RETRIEVED])

    def record(self, number: str, module_index: int, outcomes: Sequence[PlacedOutcome]) -> None:
        """Record the outcomes of a lesson."""
        while len(self.modules) <= module_index:
            self.modules.append({})
        for outcome in outcomes:
            taught = RetrievedOutcome(outcome.id, outcome.text, number)
            self.modules[module_index][outcome.id] = taught
            self.recent.pop(outcome.id, None)
            self.recent[outcome.id] = taught


def allocate_lessons(curriculum: Curriculum) -> tuple[LessonSlot, ...]:
    """Return all lessons of a curriculum in their order."""
    preferences = curriculum.preferences
    language = wording_language(curriculum)
    wording = load_wording(language)
    seed = input_hash(curriculum)
    per_week = len(preferences.weekdays) * preferences.lessons_per_day
    chooser = PatternChooser(
        seed, teaching_place(preferences.delivery_mode), preferences.group_size
    )
    slots: list[LessonSlot] = []
    titles: set[str] = set()
    taught = _TaughtOutcomes()
    turns: dict[LessonStage, int] = {}
    for module_index, module in enumerate(curriculum.modules):
        for position, share in enumerate(_module_lessons(module, preferences, language)):
            index = len(slots)
            number = f"{module_index + 1}.{position + 1}"
            retrieves = taught.retrieved_in(
                index, module_index, {outcome.id for outcome in share.outcomes}
            )
            slot = LessonSlot(
                id=str(uuid.uuid5(_LESSON_ID_NAMESPACE, f"{seed}.{index}")),
                index=index,
                module_index=module_index,
                number=number,
                week=index // per_week + 1,
                title=_unique_title(_working_title(share, module, wording), number, titles),
                minutes=share.minutes,
                outcomes=share.outcomes,
                assesses=share.assesses,
                part=share.part,
                of=share.of,
                stage=share.stage,
                retrieves=retrieves,
            )
            turn = turns[share.stage] = turns.get(share.stage, -1) + 1
            phases = lesson_phases(share.stage, turn, share.minutes, can_retrieve=bool(retrieves))
            leading = slot.leading
            slots.append(
                replace(slot, patterns=chooser.choose(phases, leading.domain, leading.level))
            )
            taught.record(number, module_index, share.outcomes)
    return tuple(slots)


def place_outcome(outcome: LearningOutcome, language: OutcomeLanguage) -> PlacedOutcome:
    """Return an outcome with its level and domain, declared or read."""
    reading = read_outcome(outcome.text, language)
    return PlacedOutcome(
        id=outcome.id,
        text=outcome.text,
        level=outcome.level or reading.level,
        verb=reading.verb,
        declared=outcome.level is not None,
        domain=outcome.domain or reading.domain,
        domain_declared=outcome.domain is not None,
        basis=reading.basis,
        evidence=reading.evidence,
        criteria=outcome.criteria,
    )


def _module_lessons(
    module: CurriculumModule, preferences: TeachingPreferences, language: OutcomeLanguage
) -> Iterator[_LessonShare]:
    ordered = prerequisite_order(module.outcomes)[0]
    placed = [place_outcome(outcome, language) for outcome in ordered]
    weights = [
        outcome_weight(outcome, place.level, place.domain)
        for outcome, place in zip(ordered, placed, strict=True)
    ]
    time = divide_module(
        module,
        ordered,
        weights,
        preferences,
        is_practical=any(each.domain is OutcomeDomain.PSYCHOMOTOR for each in placed),
    )
    assesses_at_end = time.assessment > 0
    if time.shared:
        lengths = split_into_lessons(time.shared, preferences)
        shares = _share_whole_lessons(placed, weights, lengths)
    else:
        lengths = split_into_lessons(sum(time.outcomes), preferences)
        shares = _share_by_minutes(placed, cut_into_lessons(time.outcomes, lengths), lengths)
    for share in _assess_last(shares):
        yield replace(share, assesses=()) if assesses_at_end else share
    for stage, minutes in (
        (LessonStage.FIELD_PRACTICE, time.field),
        (LessonStage.REVIEW, time.review),
        (LessonStage.ASSESSMENT, time.assessment),
    ):
        lengths = split_into_lessons(minutes, preferences)
        for part, length in enumerate(lengths, start=1):
            is_last_assessment = stage is LessonStage.ASSESSMENT and part == len(lengths)
            ids = tuple(each.id for each in placed) if is_last_assessment else ()
            yield _LessonShare(length, tuple(placed), stage, part, len(lengths), ids)


def _share_whole_lessons(
    placed: Sequence[PlacedOutcome], weights: Sequence[int], lengths: Sequence[int]
) -> Iterator[_LessonShare]:
    """Give each outcome whole lessons, or each lesson several outcomes."""
    count = len(lengths)
    if count < len(placed):
        start = 0
        for length, size in zip(
            lengths, split_by_largest_remainder(len(placed), [1] * count), strict=True
        ):
            group = placed[start : start + size]
            minutes = split_by_largest_remainder(length, weights[start : start + size])
            start += size
            yield _LessonShare(
                length,
                tuple(replace(each, minutes=one) for each, one in zip(group, minutes, strict=True)),
                LessonStage.WHOLE,
            )
        return
    remaining = iter(lengths)
    for outcome, lessons in zip(placed, share_lessons(count, weights), strict=True):
        for part, stage in enumerate(lesson_stages(lessons), start=1):
            length = next(remaining)
            yield _LessonShare(length, (replace(outcome, minutes=length),), stage, part, lessons)


def _share_by_minutes(
    placed: Sequence[PlacedOutcome],
    lessons: Sequence[Sequence[tuple[int, int]]],
    lengths: Sequence[int],
) -> Iterator[_LessonShare]:
    """Give each outcome its minutes; a lesson may end one outcome and begin the next."""
    leaders = [max(pieces, key=lambda piece: piece[1])[0] for pieces in lessons]
    parts: dict[int, int] = {}
    for pieces, leader, length in zip(lessons, leaders, lengths, strict=True):
        part = parts[leader] = parts.get(leader, 0) + 1
        of = leaders.count(leader)
        yield _LessonShare(
            length,
            tuple(replace(placed[index], minutes=minutes) for index, minutes in pieces),
            lesson_stages(of)[part - 1],
            part,
            of,
        )


def _assess_last(shares: Iterator[_LessonShare]) -> list[_LessonShare]:
    """Let the last lesson of each outcome assess it."""
    lessons = list(shares)
    last = {outcome.id: at for at, share in enumerate(lessons) for outcome in share.outcomes}
    return [
        replace(share, assesses=tuple(each.id for each in share.outcomes if last[each.id] == at))
        for at, share in enumerate(lessons)
    ]


def _working_title(share: _LessonShare, module: CurriculumModule, wording: Wording) -> str:
    end = ""
    if share.of > 1:
        stage = wording.stages[share.stage]
        end = " " + wording.titles["part"].format(part=share.part, of=share.of, stage=stage)
    if share.stage.value in wording.titles:
        text = wording.titles[share.stage.value].format(module=one_line(module.title))
    else:
        text = without_end_marks(one_line(share.outcomes[0].text), ".;:, ")
        if len(share.outcomes) > 1:
            text += " " + wording.titles["more"].format(count=len(share.outcomes) - 1)
    return _shorten(text, MAX_WORKING_TITLE - len(end)) + end


def _shorten(text: str, max_length: int) -> str:
    """Shorten a text to whole words.

    Half a web address would be an address that is not in the curriculum, so a single long word
    loses its link punctuation.
    """
    if len(text) <= max_length:
        return text
    words = text[:max_length].split(" ")[:-1]
    if words:
        return " ".join(words) + "…"
    return _LINK_PUNCTUATION.sub(" ", text)[: max_length - 1] + "…"


def _unique_title(title: str, number: str, titles: set[str]) -> str:
    """Return the title, with the lesson's number if an earlier lesson has the same."""
    if title.casefold() in titles:
        title = f"{title} [{number}]"
    titles.add(title.casefold())
    return title
