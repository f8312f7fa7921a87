"""Generated workload of a class: learners, events and requests (pure)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

WEIGHT_SCALE = 10_000
"""Weights and scores are counted in units of 1e-4, percentages in basis points."""


@dataclass(frozen=True, slots=True)
class PlayedChapter:
    """One chapter of a course document."""

    id: str
    weight: int
    """In units of 1e-4."""
    required: bool
    needs_completion: bool
    needs_pass: bool
    threshold: int | None
    """Share of the points that passes its quiz, in units of 1e-4; None without one."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The parts of a course that a workload needs."""

    id: str
    lessons: tuple[PlayedChapter, ...]
    document: Mapping[str, Any]
    """The body of ``PUT /api/v1/courses/{id}``."""
    hours: float

    def with_chapter(self, id: str, title: str) -> dict[str, Any]:
        """Return a later version with one more optional chapter at its end."""
        units = [dict(unit) for unit in self.document["units"]]
        more = {"id": id, "title": title, "required": False}
        units[-1] = {**units[-1], "chapters": [*units[-1]["chapters"], more]}
        return {**self.document, "units": units}


def parse_outline(document: Mapping[str, Any]) -> Outline:
    """Read a course document; raise KeyError if a part of it is missing."""
    return Outline(
        id=str(document["courseId"]),
        lessons=tuple(
            _parse_chapter(chapter) for unit in document["units"] for chapter in unit["chapters"]
        ),
        document=document,
        hours=float(document.get("estimatedHours", 1)),
    )


def _parse_chapter(chapter: Mapping[str, Any]) -> PlayedChapter:
    move_on = chapter.get("moveOn", "Completed")
    if move_on not in {"Completed", "Passed", "CompletedAndPassed"}:
        raise ValueError(f"the demo does not play chapters that move on by {move_on}")
    quiz = chapter.get("quiz")
    return PlayedChapter(
        id=str(chapter["id"]),
        weight=round(chapter.get("weight", 1) * WEIGHT_SCALE),
        required=bool(chapter.get("required", True)),
        needs_completion=move_on != "Passed",
        needs_pass=move_on != "Completed",
        threshold=None if quiz is None else round(quiz["passThreshold"] * WEIGHT_SCALE),
    )


WORKLOAD_SPAN = timedelta(weeks=6)
LATER_CHAPTER = "added-later"
"""A chapter that players report before the catalogue has it."""
MAX_BATCH_EVENTS = 20

EventSender = Literal["player", "grader"]
CourseEnding = Literal["finishes", "drops", "never begins"]
EventBody = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of a learner with its time and events."""

    user_id: str
    sender: EventSender
    """A player with the learner's own token, or the platform's grader with a service key."""
    at: float
    """The time of the request: 0 is the start of the workload and 1 its end."""
    events: tuple[EventBody, ...]
    cut: bool = False
    """The connection is closed before the answer; the request is sent again."""


@dataclass(slots=True)
class PlannedLearner:
    """One learner: the courses with their endings, and the requests (``track``)."""

    user_id: str
    courses: dict[str, CourseEnding]
    track: list[PlannedRequest] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Workload:
    """A class and all its requests."""

    learners: tuple[PlannedLearner, ...]
    late_course: str
    """The course that gets ``LATER_CHAPTER`` after all requests."""

    @property
    def request_count(self) -> int:
        """Count the requests; one that is cut and repeated counts once."""
        return sum(len(learner.track) for learner in self.learners)

    @property
    def event_count(self) -> int:
        """Count the events sent, repeats included."""
        return sum(len(each.events) for learner in self.learners for each in learner.track)


@dataclass(frozen=True, slots=True)
class _TimedEvent:
    """An event before it is put into a request."""

    at: datetime
    sender: EventSender
    event: EventBody


def generate_workload(
    courses: Sequence[Outline], *, learners: int, seed: int, now: datetime
) -> Workload:
    """Generate the six weeks of ``learners`` that end at ``now``.

    The longest course is the one that most take; about two thirds of the attempts finish. Raises
    ValueError without courses or learners.
    """
    if not courses or learners < 1:
        raise ValueError("a class needs a course and a learner")
    planned = generate_learners(courses, learners=learners, seed=seed, now=now)
    return Workload(tuple(planned), _by_length(courses)[0].id)


def generate_learners(
    courses: Sequence[Outline], *, learners: int, seed: int, now: datetime
) -> Iterator[PlannedLearner]:
    """Generate the learners of ``generate_workload`` one by one, for a large school."""
    by_length = _by_length(courses)
    for index in range(learners):
        rng = random.Random(f"{seed}.{index}")
        yield _plan_learner(rng, index, by_length, by_length[0], now)


def _by_length(courses: Sequence[Outline]) -> Sequence[Outline]:
    return sorted(courses, key=lambda course: -len(course.lessons))


def _plan_learner(
    rng: random.Random, index: int, courses: Sequence[Outline], late: Outline, now: datetime
) -> PlannedLearner:
    user_id = f"learner-{index + 1:03d}"
    # Shares of the class are dealt in turn rather than drawn: a small class has some of each too.
    turn = index % 20
    taken = courses[:1] if turn < 11 else courses[1:2] if turn < 16 else courses
    endings: dict[str, CourseEnding] = {}
    moments: list[_TimedEvent] = []
    for place, course in enumerate(taken or courses[:1]):
        ending: CourseEnding = "finishes"
        if (index * 7 + place * 3) % 20 == 4:
            ending = "never begins"
        elif (index * 7 + place * 3) % 20 < 6:
            ending = "drops"
        endings[course.id] = ending
        moments += _CourseSimulation(rng, user_id, course, now).play(ending)
        if ending == "drops" and course is late and turn % 2:
            moments += _later_chapter_events(rng, user_id, course, moments[-1].at)
    moments.sort(key=lambda moment: moment.at)
    learner = PlannedLearner(user_id, endings)
    if moments:
        learner.track = _inject_faults(rng, _batch_events(rng, user_id, moments, now), user_id)
    return learner


class _CourseSimulation:
    """The events of one learner in one course."""

    def __init__(self, rng: random.Random, user_id: str, course: Outline, now: datetime) -> None:
        self.rng, self.user_id, self.course, self.now = rng, user_id, course, now
        self.epoch_times = rng.random() < 0.3
        self.moments: list[_TimedEvent] = []
        share = min(1.0, max(0.1, len(course.lessons) / 20))
        length = (WORKLOAD_SPAN - timedelta(hours=8)) * share * rng.uniform(0.7, 1)
        slack = WORKLOAD_SPAN - timedelta(hours=6) - length
        self.began = now - WORKLOAD_SPAN + slack * rng.random()
        self.length = length

    def play(self, ending: CourseEnding) -> list[_TimedEvent]:
        """Return the events of the learner in order of time."""
        rng, lessons = self.rng, list(self.course.lessons)
        if ending == "never begins":
            return []
        unfinished = ending == "drops"
        if unfinished:
            lessons = lessons[: rng.randint(1, len(lessons) // 2)]
        else:
            lessons = [each for each in lessons if each.required or rng.random() < 0.5]
        for index, lesson in enumerate(lessons):
            at = self.began + self.length * ((index + 0.4 * rng.random()) / len(lessons))
            self._lesson(lesson, at, stops=unfinished and index == len(lessons) - 1)
        return self.moments

    def _lesson(self, lesson: PlayedChapter, at: datetime, *, stops: bool) -> None:
        rng = self.rng
        quarters = sorted(rng.sample(range(4, 396), rng.randint(1, 4)))
        for step in quarters:
            at = self._progress(at, lesson, step / 4)
            if rng.random() < 0.15:
                at = self._heartbeat(at, lesson.id if rng.random() < 0.7 else None)
        if stops:
            return
        if lesson.needs_completion:
            at = self._complete(at, lesson)
        if lesson.threshold is not None:
            self._quiz(at, lesson, lesson.threshold)

    def _progress(self, at: datetime, lesson: PlayedChapter, percent: float) -> datetime:
        spent = self.rng.randint(20, 900)
        at += timedelta(seconds=spent)
        self._add(at, "player", "chapter_progress", lesson.id, timeSpent=spent, progress=percent)
        return at

    def _complete(self, at: datetime, lesson: PlayedChapter) -> datetime:
        spent = self.rng.randint(5, 300)
        at += timedelta(seconds=spent)
        if self.rng.random() < 0.5:
            self._add(
                at, "player", "chapter_complete", lesson.id, timeSpent=spent, is_decisive=True
            )
        else:
            self._add(
                at, "player", "chapter_progress", lesson.id, timeSpent=spent, progress=100,
                is_decisive=True,
            )  # fmt: skip
        return at

    def _heartbeat(self, at: datetime, chapter_id: str | None) -> datetime:
        spent = self.rng.randint(1, 60)
        at += timedelta(seconds=spent)
        self._add(at, "player", "heartbeat", chapter_id, timeSpent=spent)
        return at

    def _quiz(self, at: datetime, lesson: PlayedChapter, threshold: int) -> None:
        """Fail some attempts, then pass; one learner in thirty forges a score."""
        rng, most = self.rng, 20
        needed = -(-threshold * most // 10_000)
        if rng.random() < 0.03:
            at += timedelta(seconds=90)
            self._attempt(at, "player", lesson, "forged", most, most)
        fails = rng.choices((0, 1, 2), (70, 22, 8))[0]
        for number in range(fails + 1):
            at += timedelta(minutes=rng.randint(4, 25))
            # One learner in ten first scores zero, which differs from no score.
            low = 0 if number == 0 and rng.random() < 0.1 else rng.randint(0, needed - 1)
            points = rng.randint(needed, most) if number == fails else low
            self._attempt(at, "grader", lesson, str(number + 1), points, most)

    def _attempt(
        self,
        at: datetime,
        sender: EventSender,
        lesson: PlayedChapter,
        name: str,
        points: int,
        most: int,
    ) -> None:
        self._add(
            at,
            sender,
            "quiz_attempt",
            lesson.id,
            timeSpent=self.rng.randint(30, 240),
            quiz={"attemptId": f"{lesson.id}.{name}", "score": points, "maxScore": most},
            is_decisive=True,
        )

    def _add(
        self,
        at: datetime,
        sender: EventSender,
        kind: str,
        chapter_id: str | None,
        *,
        is_decisive: bool = False,
        **more: Any,
    ) -> None:
        """Add an event; one that is ``is_decisive`` has a correct clock."""
        rng = self.rng
        shown = at
        if not is_decisive and rng.random() < 0.02:
            # Devices whose clock was never set, is far ahead, or a few hours off.
            shown = rng.choice(
                (datetime(1970, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC),
                 at - timedelta(hours=3), self.now + timedelta(hours=rng.randint(1, 9)))
            )  # fmt: skip
        event: dict[str, Any] = {
            "id": random_event_id(rng, at),
            "userId": self.user_id,
            "courseId": self.course.id,
            "eventType": kind,
            "timestamp": _format_timestamp(shown, epoch=self.epoch_times and sender == "player"),
            **more,
        }
        if chapter_id is not None:
            event["chapterId"] = chapter_id
        if rng.random() < 0.1:
            event["metadata"] = {"player": "web", "rate": rng.choice((1, 1.25, 1.5, 2))}
        self.moments.append(_TimedEvent(at, sender, event))


def _later_chapter_events(
    rng: random.Random, user_id: str, course: Outline, at: datetime
) -> list[_TimedEvent]:
    moments = []
    for percent in (30, 60):
        at += timedelta(minutes=5)
        event = {
            "id": random_event_id(rng, at),
            "userId": user_id,
            "courseId": course.id,
            "chapterId": LATER_CHAPTER,
            "eventType": "chapter_progress",
            "progress": percent,
            "timeSpent": rng.randint(60, 300),
            "timestamp": _format_timestamp(at, epoch=False),
        }
        moments.append(_TimedEvent(at, "player", event))
    return moments


def random_event_id(rng: random.Random, at: datetime) -> str:
    """Return a UUIDv7 of a time, with random bits from the seed."""
    ms = int(at.timestamp() * 1_000)
    high, low = rng.getrandbits(12), rng.getrandbits(62) | 1 << 63
    text = f"{ms:012x}7{high:03x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _format_timestamp(at: datetime, *, epoch: bool) -> str | int:
    """Return a time in RFC 3339 or epoch milliseconds, as players send it."""
    whole = at.replace(microsecond=at.microsecond // 1_000 * 1_000)
    if epoch:
        return round(whole.timestamp() * 1_000)
    return whole.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _batch_events(
    rng: random.Random, user_id: str, moments: Sequence[_TimedEvent], now: datetime
) -> list[PlannedRequest]:
    """Put events into requests of 1 to 20; each quiz attempt has its own."""
    sent: list[PlannedRequest] = []
    waiting: list[EventBody] = []
    batch_size, began = rng.randint(1, MAX_BATCH_EVENTS), now - WORKLOAD_SPAN

    def share_of_time(moment: _TimedEvent) -> float:
        at = (moment.at - began) / WORKLOAD_SPAN
        if rng.random() < 0.04:  # the device was without a network for some days
            at += rng.uniform(0.02, 0.1)
        return min(1.0, max(0.0, at))

    for moment in moments:
        if moment.sender == "grader":
            sent.append(PlannedRequest(user_id, "grader", share_of_time(moment), (moment.event,)))
            continue
        waiting.append(moment.event)
        if len(waiting) == batch_size:
            sent.append(PlannedRequest(user_id, "player", share_of_time(moment), tuple(waiting)))
            waiting, batch_size = [], rng.randint(1, MAX_BATCH_EVENTS)
    if waiting:
        sent.append(PlannedRequest(user_id, "player", share_of_time(moments[-1]), tuple(waiting)))
    # Players without a network send late: an event may arrive days after a later one.
    return sorted(sent, key=lambda delivery: delivery.at)


def _inject_faults(
    rng: random.Random, track: Sequence[PlannedRequest], user_id: str
) -> list[PlannedRequest]:
    """Add repeats, cut connections, conflicts and invalid events to a track."""
    sent: list[PlannedRequest] = []
    sent_before: dict[EventSender, list[EventBody]] = {"player": [], "grader": []}
    for delivery in track:
        events, before = list(delivery.events), sent_before[delivery.sender]
        if before and rng.random() < 0.08:
            events.insert(rng.randint(0, len(events)), rng.choice(before))
        if rng.random() < 0.03:
            events.append(rng.choice(delivery.events))
        if before and rng.random() < 0.015:
            earlier = rng.choice(before)
            if earlier.get("chapterId") != LATER_CHAPTER:  # held events may never conflict
                events.append({**earlier, "timeSpent": earlier["timeSpent"] + 1})
        if delivery.sender == "player" and rng.random() < 0.02:
            events.append(_invalid_event(rng, delivery.events[0], user_id))
        whole = replace(delivery, events=tuple(events), cut=rng.random() < 0.03)
        sent.append(whole)
        before += delivery.events
        if rng.random() < 0.05:
            sent.append(replace(whole, cut=False))
    return sent


def _invalid_event(rng: random.Random, like: EventBody, user_id: str) -> EventBody:
    """Return an event that is always rejected."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    faulty: dict[str, Any] = {**like, "id": random_event_id(rng, at), "chapterId": "any"}
    match rng.randrange(4):
        case 0:
            return faulty | {"eventType": "chapter_progress", "progress": 250}
        case 1:
            return faulty | {"timeSpent": -5}
        case 2:
            return faulty | {"userId": f"not-{user_id}"}
        case _:
            return {key: value for key, value in faulty.items() if key != "userId"}
