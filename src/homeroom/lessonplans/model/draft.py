"""A lesson put together from the answers of a model, part by part (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from homeroom.lessonplans.generator import PLACES, LessonTask
from homeroom.lessonplans.lesson import (
    LessonBody,
    LessonFinding,
    LessonPart,
    check_lesson,
    find_links,
)
from homeroom.lessonplans.lesson_content import check_model_text, check_quizzes, count_words
from homeroom.lessonplans.lesson_parts import FilledPlace, fill_places, merge_parts
from homeroom.lessonplans.open_places import has_open_place

MAX_PLACE_WORDS = 300


@dataclass(frozen=True, slots=True)
class LessonDraft:
    """A lesson with what a model wrote into it, and the parts that failed a check."""

    body: LessonBody
    findings: list[LessonFinding]
    failed: tuple[str, ...]
    """Parts, and ``places`` if a text for an open place failed."""

    def without_failed(self, task: LessonTask, base: LessonBody) -> LessonBody:
        """Return the lesson with the failed parts as they are in ``base``."""
        return merge_parts(self.body, base, _parts_behind(task, self.failed))


def compose_draft(
    task: LessonTask,
    base: LessonBody,
    body: LessonBody,
    names: Sequence[str],
    answer: LessonPart | None,
    findings: list[LessonFinding],
) -> LessonDraft:
    """Put an answer into ``body`` and check every part that the task asks for.

    ``names`` are what the answer was to hold, and ``findings`` say why there is none.
    """
    body = merge_parts(body, base, _parts_behind(task, names))
    if answer is None:
        return LessonDraft(body, findings, tuple(names))
    body = merge_parts(body, answer, [name for name in names if name != PLACES])
    problems: list[LessonFinding] = []
    if PLACES in names:
        filled: list[FilledPlace] = getattr(answer, PLACES)
        problems += _check_places(task, filled)
        try:
            body = fill_places(body, task.places, {each.place: each.text for each in filled})
        except ValidationError:
            problems.append(LessonFinding("too_long", "a text for a place is too long", PLACES))
    problems += [
        each
        for each in (
            *check_lesson(task.slot, body, titles=task.titles, allowed_links=task.allowed_links),
            *check_quizzes(task.slot, body, written=task.parts),
            *check_model_text(task.slot, body, task.parts),
        )
        if each.field in task.parts
    ]
    failed = {each.field for each in problems}
    return LessonDraft(body, problems, tuple(name for name in task.names if name in failed))


def place_parts(task: LessonTask) -> tuple[str, ...]:
    """Return the parts that hold the task's open places."""
    return tuple(dict.fromkeys(place.field.split("/", 1)[0] for place in task.places))


def _parts_behind(task: LessonTask, names: Collection[str]) -> list[str]:
    parts = [name for name in names if name != PLACES]
    return [*parts, *place_parts(task)] if PLACES in names else parts


def _check_places(task: LessonTask, filled: Sequence[FilledPlace]) -> Iterator[LessonFinding]:
    counts: Mapping[int, int] = Counter(each.place for each in filled)
    for number in range(1, len(task.places) + 1):
        if counts.get(number, 0) != 1:
            message = f"place {number} has {counts.get(number, 0)} texts; it needs one"
            yield LessonFinding("missing", message, PLACES)
    for number in sorted(set(counts) - set(range(1, len(task.places) + 1))):
        yield LessonFinding("missing", f"there is no place {number}", PLACES)
    for each in filled:
        if has_open_place(each.text):
            yield LessonFinding("open_place", f"place {each.place} is still open", PLACES)
        if count_words(each.text) > MAX_PLACE_WORDS:
            message = f"the text for place {each.place} has more than {MAX_PLACE_WORDS} words"
            yield LessonFinding("too_long", message, PLACES)
        for link in sorted(find_links([each.text]) - set(task.allowed_links)):
            message = f"the address {link} is not in the curriculum"
            yield LessonFinding("invented_link", message, PLACES)
