"""Expected results of a workload, computed from its events alone (pure).

The code shares nothing with the roll-ups of Homeroom: it uses sums, maxima and sets over the
events, so that agreement of the two is evidence. The rules are those of ``docs/rules.md``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from homeroom.demo.workload import (
    LATER_CHAPTER,
    WEIGHT_SCALE,
    EventBody,
    EventSender,
    Outline,
    PlannedRequest,
    PlayedChapter,
    Workload,
)

FULL_PERCENT = 100.0
EventDisposition = Literal["counted", "held", "rejected"]
ExpectedStatus = Literal["registered", "in_progress", "completed"]


@dataclass(slots=True)
class ExpectedChapter:
    """The expected state of one chapter for one learner."""

    progress: float = 0.0
    """Percent."""
    time_spent: int = 0
    completed_at: datetime | None = None
    passed_at: datetime | None = None
    best_score: float | None = None
    """0 to 1; None if no attempt counts, which is not 0."""

    def done_at(self, lesson: PlayedChapter) -> datetime | None:
        """Return the time at which the chapter met all its criteria, or None."""
        needed = []
        if lesson.needs_completion:
            needed.append(self.completed_at)
        if lesson.needs_pass:
            needed.append(self.passed_at)
        times = [at for at in needed if at is not None]
        return max(times) if len(times) == len(needed) else None


@dataclass(slots=True)
class ExpectedCourse:
    """The expected state of one learner's course; seconds and percent."""

    status: ExpectedStatus = "registered"
    progress: float = 0.0
    time_spent: int = 0
    done: set[str] = field(default_factory=set)
    """The chapters that are done, optional ones included."""
    completed_at: datetime | None = None
    chapters: dict[str, ExpectedChapter] = field(default_factory=dict)

    @property
    def done_chapters(self) -> int:
        """Count the chapters that are done."""
        return len(self.done)


@dataclass(slots=True)
class ExpectedResults:
    """The expected results of a workload."""

    courses: dict[tuple[str, str], ExpectedCourse]
    """By user id and course id, for all enrolled learners."""
    dispositions: dict[str, EventDisposition]
    """By event id; held events count once the catalogue has their chapter."""
    conflict_answers: int
    """Conflicting bodies that were sent, repeats included."""
    time_spent: dict[str, int]
    """Seconds that each event id adds; rejected ids are missing."""
    conflicts: int
    """Different bodies that were sent under the id of another event."""
    signed_courses: frozenset[str]
    """The courses without a template at Credly, whose credentials are signed here."""

    @property
    def finished(self) -> dict[tuple[str, str], ExpectedCourse]:
        """Return the finished courses."""
        return {key: each for key, each in self.courses.items() if each.status == "completed"}

    def ids(self, *dispositions: EventDisposition) -> set[str]:
        """Return the event ids with one of these dispositions."""
        return {id for id, each in self.dispositions.items() if each in dispositions}

    @property
    def seconds(self) -> int:
        """Return all time spent."""
        return sum(each.time_spent for each in self.courses.values())


def compute_expected(plan: Workload, courses: Sequence[Outline]) -> ExpectedResults:
    """Return the results after all events were acknowledged and replayed."""
    outlines = {course.id: course for course in courses}
    dispositions: dict[str, EventDisposition] = {}
    conflicts: list[tuple[str, int]] = []
    kept: defaultdict[tuple[str, str], list[tuple[EventSender, EventBody]]] = defaultdict(list)
    time_spent: dict[str, int] = {}
    for learner in plan.learners:
        first: dict[str, EventBody] = {}
        for delivery in learner.track:
            for event in delivery.events:
                id = event["id"]
                if id in first:
                    if first[id] != event:
                        conflicts.append((id, event["timeSpent"]))
                    continue
                first[id] = event
                dispositions[id] = disposition = _event_disposition(delivery, event, outlines)
                if disposition != "rejected":
                    kept[event["userId"], event["courseId"]].append((delivery.sender, event))
                    time_spent[id] = event.get("timeSpent", 0)
    sums = {
        (learner.user_id, course_id): _expected_course(
            outlines[course_id], kept.get((learner.user_id, course_id), [])
        )
        for learner in plan.learners
        for course_id in learner.courses
    }
    return ExpectedResults(
        sums,
        dispositions,
        len(conflicts),
        time_spent,
        len(set(conflicts)),
        frozenset(each.id for each in courses if "badgeTemplateId" not in each.document),
    )


def _event_disposition(
    delivery: PlannedRequest, event: EventBody, outlines: Mapping[str, Outline]
) -> EventDisposition:
    if "userId" not in event or event["userId"] != delivery.user_id:
        return "rejected"
    if event.get("timeSpent", 0) < 0 or not 0 <= event.get("progress", 0) <= FULL_PERCENT:
        return "rejected"
    if event.get("chapterId") == LATER_CHAPTER:
        return "held"
    chapters = {lesson.id for lesson in outlines[event["courseId"]].lessons}
    if event.get("chapterId") is not None and event["chapterId"] not in chapters:
        raise ValueError(f"the plan has an event for an unknown chapter: {event['chapterId']}")
    return "counted"


def _expected_course(
    course: Outline, events: Sequence[tuple[EventSender, EventBody]]
) -> ExpectedCourse:
    found = ExpectedCourse()
    thresholds = {lesson.id: lesson.threshold for lesson in course.lessons}
    for sender, event in events:
        found.status = "in_progress"
        found.time_spent += event.get("timeSpent", 0)
        chapter_id = event.get("chapterId")
        if chapter_id is not None:
            chapter = found.chapters.setdefault(chapter_id, ExpectedChapter())
            _add_event(chapter, sender, event, thresholds.get(chapter_id))
    _roll_up(course, found)
    return found


def _add_event(
    chapter: ExpectedChapter, sender: EventSender, event: EventBody, threshold: int | None
) -> None:
    chapter.time_spent += event.get("timeSpent", 0)
    kind = event["eventType"]
    if kind in {"chapter_progress", "chapter_complete"}:
        percent = FULL_PERCENT if kind == "chapter_complete" else float(event.get("progress", 0))
        chapter.progress = max(chapter.progress, percent)
        if percent == FULL_PERCENT:
            chapter.completed_at = _earliest(chapter.completed_at, event)
    # Only the grader's scores count: a learner's own token could post any score.
    if kind == "quiz_attempt" and sender == "grader" and threshold is not None:
        quiz = event["quiz"]
        score = round(quiz["score"] / quiz["maxScore"], 4)
        chapter.best_score = max(score, chapter.best_score or 0.0)
        if quiz["score"] * WEIGHT_SCALE >= threshold * quiz["maxScore"]:
            chapter.passed_at = _earliest(chapter.passed_at, event)


def _earliest(current: datetime | None, event: EventBody) -> datetime:
    stamp = event["timestamp"]
    if isinstance(stamp, int):
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=stamp)
    else:
        at = datetime.fromisoformat(stamp)
    return at if current is None else min(current, at)


def _roll_up(course: Outline, expected: ExpectedCourse) -> None:
    """Compute percent, done chapters and completion of a course."""
    weighted = total = 0
    ends: list[datetime] = []
    complete = True
    for lesson in course.lessons:
        chapter = expected.chapters.get(lesson.id, ExpectedChapter())
        done_at = chapter.done_at(lesson)
        if done_at is not None:
            expected.done.add(lesson.id)
        if not lesson.required:
            continue
        total += lesson.weight
        points = WEIGHT_SCALE if done_at is not None else round(chapter.progress * 100)
        weighted += lesson.weight * points
        if done_at is None:
            complete = False
        else:
            ends.append(done_at)
    expected.progress = weighted // total / 100
    if complete:
        expected.status, expected.completed_at = "completed", max(ends)
