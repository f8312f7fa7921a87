"""What must be found after a class was played, worked out from what was sent alone (pure).

This knows nothing of how Homeroom counts: it takes sums, maxima and sets over the events, so that
agreement of the two says something. The rules are those of the HTTP page and the rules page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from homeroom.demo.course import SCALE, Lesson, Outline
from homeroom.demo.plan import LATER_CHAPTER, Delivery, Event, Plan, Sender

FULL = 100.0
Fate = Literal["counted", "held", "rejected"]
Status = Literal["registered", "in_progress", "completed"]


@dataclass(slots=True)
class ChapterSum:
    """What a learner's events say of one chapter."""

    progress: float = 0.0
    """Percent."""
    time_spent: int = 0
    completed_at: datetime | None = None
    passed_at: datetime | None = None
    best_score: float | None = None
    """0 to 1; None where no attempt counts, which is not 0."""

    def done_at(self, lesson: Lesson) -> datetime | None:
        """Return when the chapter was done by what it asks for; None where it is not."""
        needed = []
        if lesson.needs_completion:
            needed.append(self.completed_at)
        if lesson.needs_pass:
            needed.append(self.passed_at)
        times = [at for at in needed if at is not None]
        return max(times) if len(times) == len(needed) else None


@dataclass(slots=True)
class CourseSum:
    """What must be found for one learner's course. Times are in seconds, progress in percent."""

    status: Status = "registered"
    progress: float = 0.0
    time_spent: int = 0
    done: set[str] = field(default_factory=set)
    """The chapters that are done, optional ones included."""
    completed_at: datetime | None = None
    chapters: dict[str, ChapterSum] = field(default_factory=dict)

    @property
    def done_chapters(self) -> int:
        """Count the chapters that are done."""
        return len(self.done)


@dataclass(slots=True)
class Expected:
    """What must be found after the play."""

    courses: dict[tuple[str, str], CourseSum]
    """By user id and course id; everybody who was enrolled."""
    fates: dict[str, Fate]
    """What becomes of each event id: those held are counted once the catalogue knows more."""
    conflict_answers: int
    """How often a conflicting body was sent, repeats included."""
    time_spent: dict[str, int]
    """Seconds that each event id adds; nothing for a rejected one."""
    conflicts: int
    """How many different bodies were sent under an id that had another one."""

    @property
    def finished(self) -> dict[tuple[str, str], CourseSum]:
        """Return the finished courses."""
        return {key: each for key, each in self.courses.items() if each.status == "completed"}

    def ids(self, *fates: Fate) -> set[str]:
        """Return the event ids of some fates."""
        return {id for id, fate in self.fates.items() if fate in fates}

    @property
    def seconds(self) -> int:
        """Return all time spent."""
        return sum(each.time_spent for each in self.courses.values())


def expect(plan: Plan, courses: Sequence[Outline]) -> Expected:
    """Return what must be found once everything of the plan was acknowledged and replayed."""
    outlines = {course.id: course for course in courses}
    fates: dict[str, Fate] = {}
    conflicts: list[tuple[str, int]] = []
    kept: defaultdict[tuple[str, str], list[tuple[Sender, Event]]] = defaultdict(list)
    time_spent: dict[str, int] = {}
    for learner in plan.learners:
        first: dict[str, Event] = {}
        for delivery in learner.track:
            for event in delivery.events:
                id = event["id"]
                if id in first:
                    if first[id] != event:
                        conflicts.append((id, event["timeSpent"]))
                    continue
                first[id] = event
                fates[id] = fate = _fate(delivery, event, outlines)
                if fate != "rejected":
                    kept[event["userId"], event["courseId"]].append((delivery.sender, event))
                    time_spent[id] = event.get("timeSpent", 0)
    sums = {
        (learner.user_id, course_id): _course(
            outlines[course_id], kept.get((learner.user_id, course_id), [])
        )
        for learner in plan.learners
        for course_id in learner.courses
    }
    return Expected(sums, fates, len(conflicts), time_spent, len(set(conflicts)))


def _fate(delivery: Delivery, event: Event, outlines: Mapping[str, Outline]) -> Fate:
    if "userId" not in event or event["userId"] != delivery.user_id:
        return "rejected"
    if event.get("timeSpent", 0) < 0 or not 0 <= event.get("progress", 0) <= FULL:
        return "rejected"
    if event.get("chapterId") == LATER_CHAPTER:
        return "held"
    chapters = {lesson.id for lesson in outlines[event["courseId"]].lessons}
    if event.get("chapterId") is not None and event["chapterId"] not in chapters:
        raise ValueError(f"the plan names a chapter that nobody knows: {event['chapterId']}")
    return "counted"


def _course(course: Outline, events: Sequence[tuple[Sender, Event]]) -> CourseSum:
    found = CourseSum()
    thresholds = {lesson.id: lesson.threshold for lesson in course.lessons}
    for sender, event in events:
        found.status = "in_progress"
        found.time_spent += event.get("timeSpent", 0)
        chapter_id = event.get("chapterId")
        if chapter_id is not None:
            chapter = found.chapters.setdefault(chapter_id, ChapterSum())
            _add(chapter, sender, event, thresholds.get(chapter_id))
    _roll_up(course, found)
    return found


def _add(chapter: ChapterSum, sender: Sender, event: Event, threshold: int | None) -> None:
    chapter.time_spent += event.get("timeSpent", 0)
    kind = event["eventType"]
    if kind in {"chapter_progress", "chapter_complete"}:
        percent = FULL if kind == "chapter_complete" else float(event.get("progress", 0))
        chapter.progress = max(chapter.progress, percent)
        if percent == FULL:
            chapter.completed_at = _earlier(chapter.completed_at, event)
    # Only the platform's grader is believed: a learner's own token could post any score.
    if kind == "quiz_attempt" and sender == "grader" and threshold is not None:
        quiz = event["quiz"]
        score = round(quiz["score"] / quiz["maxScore"], 4)
        chapter.best_score = max(score, chapter.best_score or 0.0)
        if quiz["score"] * SCALE >= threshold * quiz["maxScore"]:
            chapter.passed_at = _earlier(chapter.passed_at, event)


def _earlier(known: datetime | None, event: Event) -> datetime:
    stamp = event["timestamp"]
    if isinstance(stamp, int):
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=stamp)
    else:
        at = datetime.fromisoformat(stamp)
    return at if known is None else min(known, at)


def _roll_up(course: Outline, found: CourseSum) -> None:
    """Work out percent, done chapters and the end of a course; a done chapter counts in full."""
    weighted = total = 0
    ends: list[datetime] = []
    complete = True
    for lesson in course.lessons:
        chapter = found.chapters.get(lesson.id, ChapterSum())
        done_at = chapter.done_at(lesson)
        if done_at is not None:
            found.done.add(lesson.id)
        if not lesson.required:
            continue
        total += lesson.weight
        points = SCALE if done_at is not None else round(chapter.progress * 100)
        weighted += lesson.weight * points
        if done_at is None:
            complete = False
        else:
            ends.append(done_at)
    found.progress = weighted // total / 100
    if complete:
        found.status, found.completed_at = "completed", max(ends)
