"""From quiz attempts to a chapter's score and a course's grade (pure). Rule B5."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from homeroom.catalogue.api import Course


@dataclass(frozen=True, slots=True)
class QuizAttempt:
    """One counted attempt at a chapter's quiz. Scores are in units of 1e-4, 0 is a score."""

    chapter_id: str
    attempt_id: str
    scaled: int
    threshold: int | None
    """The chapter's threshold when the attempt was recorded; later edits do not move it."""
    at: int


def score(attempts: Sequence[QuizAttempt], policy: str) -> int | None:
    """Return a quiz's score by its course's policy: best, latest, first or average; None: none."""
    if not attempts:
        return None
    in_time = sorted(attempts, key=lambda attempt: (attempt.at, attempt.attempt_id))
    match policy:
        case "latest":
            return in_time[-1].scaled
        case "first":
            return in_time[0].scaled
        case "average":
            return sum(attempt.scaled for attempt in attempts) // len(attempts)
        case _:
            return max(attempt.scaled for attempt in attempts)


def by_chapter(attempts: Iterable[QuizAttempt]) -> dict[str, list[QuizAttempt]]:
    """Group attempts by their chapter."""
    grouped: dict[str, list[QuizAttempt]] = {}
    for attempt in attempts:
        grouped.setdefault(attempt.chapter_id, []).append(attempt)
    return grouped


def grade(course: Course, attempts: Iterable[QuizAttempt]) -> int | None:
    """Return the mean score of the course's quizzes that were attempted; None where none was."""
    grouped = by_chapter(attempts)
    scores = [
        found
        for id in course.chapters
        if (found := score(grouped.get(id, []), course.quiz_policy)) is not None
    ]
    return sum(scores) // len(scores) if scores else None
