"""What a class does, as the requests that its players and the platform's grader send (pure).

Everything is drawn from a seed: the same seed, size and time give the same requests. Each learner
has one track of deliveries that are sent one after the other, so that which of two events with one
id comes first is known; tracks run beside each other.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from homeroom.demo.course import Lesson, Outline

SPAN = timedelta(weeks=6)
LATER_CHAPTER = "added-later"
"""A chapter that players report before the catalogue knows it."""
MAX_BATCH = 20

Sender = Literal["player", "grader"]
Ending = Literal["finishes", "drops", "never begins"]
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request: whose, when, and what is in it."""

    user_id: str
    sender: Sender
    """A player with the learner's own token, or the platform's grader with a service key."""
    at: float
    """When it is sent: 0 is the start of the play and 1 its end."""
    events: tuple[Event, ...]
    cut: bool = False
    """The connection drops after it was sent and before it is answered; it is then sent again."""


@dataclass(slots=True)
class Learner:
    """One learner of the class: the courses with how each ends, and the track."""

    user_id: str
    courses: dict[str, Ending]
    track: list[Delivery] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """A class and all that it sends."""

    learners: tuple[Learner, ...]
    late_course: str
    """The course that gets ``LATER_CHAPTER`` once everything was sent."""

    @property
    def deliveries(self) -> int:
        """Count the requests, without the cut ones' second sending."""
        return sum(len(learner.track) for learner in self.learners)

    @property
    def events(self) -> int:
        """Count the events sent, repeats included."""
        return sum(len(each.events) for learner in self.learners for each in learner.track)


@dataclass(frozen=True, slots=True)
class _Moment:
    """An event before it is packed."""

    at: datetime
    sender: Sender
    event: Event


def make(courses: Sequence[Outline], *, learners: int, seed: int, now: datetime) -> Plan:
    """Return what ``learners`` do in the six weeks that end at ``now``.

    The longest course is the one that most take; about two thirds of the attempts finish. Raises
    ValueError without courses or learners.
    """
    if not courses or learners < 1:
        raise ValueError("a class needs a course and a learner")
    by_length = sorted(courses, key=lambda course: -len(course.lessons))
    late = by_length[0]
    return Plan(
        tuple(
            _learner(random.Random(f"{seed}.{index}"), index, by_length, late, now)
            for index in range(learners)
        ),
        late.id,
    )


def _learner(
    dice: random.Random, index: int, courses: Sequence[Outline], late: Outline, now: datetime
) -> Learner:
    user_id = f"learner-{index + 1:03d}"
    # Shares of the class are dealt in turn rather than drawn: a small class has some of each too.
    turn = index % 20
    taken = courses[:1] if turn < 11 else courses[1:2] if turn < 16 else courses
    endings: dict[str, Ending] = {}
    moments: list[_Moment] = []
    for place, course in enumerate(taken or courses[:1]):
        ending: Ending = "finishes"
        if (index * 7 + place * 3) % 20 == 4:
            ending = "never begins"
        elif (index * 7 + place * 3) % 20 < 6:
            ending = "drops"
        endings[course.id] = ending
        moments += _Journey(dice, user_id, course, now).play(ending)
        if ending == "drops" and course is late and turn % 2:
            moments += _later_chapter(dice, user_id, course, moments[-1].at)
    moments.sort(key=lambda moment: moment.at)
    learner = Learner(user_id, endings)
    if moments:
        learner.track = _disturb(dice, _pack(dice, user_id, moments, now), user_id)
    return learner


class _Journey:
    """One learner's way through one course."""

    def __init__(self, dice: random.Random, user_id: str, course: Outline, now: datetime) -> None:
        self.dice, self.user_id, self.course, self.now = dice, user_id, course, now
        self.epoch_times = dice.random() < 0.3
        self.moments: list[_Moment] = []
        share = min(1.0, max(0.1, len(course.lessons) / 20))
        length = (SPAN - timedelta(hours=8)) * share * dice.uniform(0.7, 1)
        slack = SPAN - timedelta(hours=6) - length
        self.began = now - SPAN + slack * dice.random()
        self.length = length

    def play(self, ending: Ending) -> list[_Moment]:
        """Return everything the learner does, in the order in which it happens."""
        dice, lessons = self.dice, list(self.course.lessons)
        if ending == "never begins":
            return []
        unfinished = ending == "drops"
        if unfinished:
            lessons = lessons[: dice.randint(1, len(lessons) // 2)]
        else:
            lessons = [each for each in lessons if each.required or dice.random() < 0.5]
        for index, lesson in enumerate(lessons):
            at = self.began + self.length * ((index + 0.4 * dice.random()) / len(lessons))
            self._lesson(lesson, at, stops=unfinished and index == len(lessons) - 1)
        return self.moments

    def _lesson(self, lesson: Lesson, at: datetime, *, stops: bool) -> None:
        dice = self.dice
        quarters = sorted(dice.sample(range(4, 396), dice.randint(1, 4)))
        for step in quarters:
            at = self._progress(at, lesson, step / 4)
            if dice.random() < 0.15:
                at = self._heartbeat(at, lesson.id if dice.random() < 0.7 else None)
        if stops:
            return
        if lesson.needs_completion:
            at = self._complete(at, lesson)
        if lesson.threshold is not None:
            self._quiz(at, lesson, lesson.threshold)

    def _progress(self, at: datetime, lesson: Lesson, percent: float) -> datetime:
        spent = self.dice.randint(20, 900)
        at += timedelta(seconds=spent)
        self._add(at, "player", "chapter_progress", lesson.id, timeSpent=spent, progress=percent)
        return at

    def _complete(self, at: datetime, lesson: Lesson) -> datetime:
        spent = self.dice.randint(5, 300)
        at += timedelta(seconds=spent)
        if self.dice.random() < 0.5:
            self._add(at, "player", "chapter_complete", lesson.id, timeSpent=spent, firm=True)
        else:
            self._add(
                at, "player", "chapter_progress", lesson.id, timeSpent=spent, progress=100,
                firm=True,
            )  # fmt: skip
        return at

    def _heartbeat(self, at: datetime, chapter_id: str | None) -> datetime:
        spent = self.dice.randint(1, 60)
        at += timedelta(seconds=spent)
        self._add(at, "player", "heartbeat", chapter_id, timeSpent=spent)
        return at

    def _quiz(self, at: datetime, lesson: Lesson, threshold: int) -> None:
        """Fail some attempts, then pass; one learner in thirty tries to report its own score."""
        dice, most = self.dice, 20
        needed = -(-threshold * most // 10_000)
        if dice.random() < 0.03:
            at += timedelta(seconds=90)
            self._attempt(at, "player", lesson, "forged", most, most)
        fails = dice.choices((0, 1, 2), (70, 22, 8))[0]
        for number in range(fails + 1):
            at += timedelta(minutes=dice.randint(4, 25))
            # The first fail of a learner in ten is a zero: a score, and not the absence of one.
            low = 0 if number == 0 and dice.random() < 0.1 else dice.randint(0, needed - 1)
            points = dice.randint(needed, most) if number == fails else low
            self._attempt(at, "grader", lesson, str(number + 1), points, most)

    def _attempt(
        self, at: datetime, sender: Sender, lesson: Lesson, name: str, points: int, most: int
    ) -> None:
        self._add(
            at,
            sender,
            "quiz_attempt",
            lesson.id,
            timeSpent=self.dice.randint(30, 240),
            quiz={"attemptId": f"{lesson.id}.{name}", "score": points, "maxScore": most},
            firm=True,
        )

    def _add(
        self,
        at: datetime,
        sender: Sender,
        kind: str,
        chapter_id: str | None,
        *,
        firm: bool = False,
        **more: Any,
    ) -> None:
        """Add an event; one that is ``firm`` decides something, so its clock is right."""
        dice = self.dice
        shown = at
        if not firm and dice.random() < 0.02:
            # Devices whose clock was never set, or runs away, or is a few hours off.
            shown = dice.choice(
                (datetime(1970, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC),
                 at - timedelta(hours=3), self.now + timedelta(hours=dice.randint(1, 9)))
            )  # fmt: skip
        event: dict[str, Any] = {
            "id": event_id(dice, at),
            "userId": self.user_id,
            "courseId": self.course.id,
            "eventType": kind,
            "timestamp": _stamp(shown, epoch=self.epoch_times and sender == "player"),
            **more,
        }
        if chapter_id is not None:
            event["chapterId"] = chapter_id
        if dice.random() < 0.1:
            event["metadata"] = {"player": "web", "rate": dice.choice((1, 1.25, 1.5, 2))}
        self.moments.append(_Moment(at, sender, event))


def _later_chapter(
    dice: random.Random, user_id: str, course: Outline, at: datetime
) -> list[_Moment]:
    moments = []
    for percent in (30, 60):
        at += timedelta(minutes=5)
        event = {
            "id": event_id(dice, at),
            "userId": user_id,
            "courseId": course.id,
            "chapterId": LATER_CHAPTER,
            "eventType": "chapter_progress",
            "progress": percent,
            "timeSpent": dice.randint(60, 300),
            "timestamp": _stamp(at, epoch=False),
        }
        moments.append(_Moment(at, "player", event))
    return moments


def event_id(dice: random.Random, at: datetime) -> str:
    """Return a UUIDv7 of a time, its random bits drawn from the seed."""
    ms = int(at.timestamp() * 1_000)
    high, low = dice.getrandbits(12), dice.getrandbits(62) | 1 << 63
    text = f"{ms:012x}7{high:03x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _stamp(at: datetime, *, epoch: bool) -> str | int:
    """Return a time as players write it, to the millisecond: RFC 3339 or epoch milliseconds."""
    whole = at.replace(microsecond=at.microsecond // 1_000 * 1_000)
    if epoch:
        return round(whole.timestamp() * 1_000)
    return whole.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _pack(
    dice: random.Random, user_id: str, moments: Sequence[_Moment], now: datetime
) -> list[Delivery]:
    """Flush a player's events in batches of 1 to 20, and each quiz attempt by itself."""
    sent: list[Delivery] = []
    waiting: list[Event] = []
    room, began = dice.randint(1, MAX_BATCH), now - SPAN

    def when(moment: _Moment) -> float:
        at = (moment.at - began) / SPAN
        if dice.random() < 0.04:  # the device was without a network for some days
            at += dice.uniform(0.02, 0.1)
        return min(1.0, max(0.0, at))

    for moment in moments:
        if moment.sender == "grader":
            sent.append(Delivery(user_id, "grader", when(moment), (moment.event,)))
            continue
        waiting.append(moment.event)
        if len(waiting) == room:
            sent.append(Delivery(user_id, "player", when(moment), tuple(waiting)))
            waiting, room = [], dice.randint(1, MAX_BATCH)
    if waiting:
        sent.append(Delivery(user_id, "player", when(moments[-1]), tuple(waiting)))
    # Players that catch up send in any order: an event may come days after a later one.
    return sorted(sent, key=lambda delivery: delivery.at)


def _disturb(dice: random.Random, track: Sequence[Delivery], user_id: str) -> list[Delivery]:
    """Do to a track what networks and faulty players do: repeats, cuts, conflicts, bad events."""
    sent: list[Delivery] = []
    said: dict[Sender, list[Event]] = {"player": [], "grader": []}
    for delivery in track:
        events, before = list(delivery.events), said[delivery.sender]
        if before and dice.random() < 0.08:
            events.insert(dice.randint(0, len(events)), dice.choice(before))
        if dice.random() < 0.03:
            events.append(dice.choice(delivery.events))
        if before and dice.random() < 0.015:
            known = dice.choice(before)
            if known.get("chapterId") != LATER_CHAPTER:  # two held events conflict later, or never
                events.append({**known, "timeSpent": known["timeSpent"] + 1})
        if delivery.sender == "player" and dice.random() < 0.02:
            events.append(_invalid(dice, delivery.events[0], user_id))
        whole = replace(delivery, events=tuple(events), cut=dice.random() < 0.03)
        sent.append(whole)
        before += delivery.events
        if dice.random() < 0.05:
            sent.append(replace(whole, cut=False))
    return sent


def _invalid(dice: random.Random, like: Event, user_id: str) -> Event:
    """Return an event that will never be taken."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    faulty: dict[str, Any] = {**like, "id": event_id(dice, at), "chapterId": "any"}
    match dice.randrange(4):
        case 0:
            return faulty | {"eventType": "chapter_progress", "progress": 250}
        case 1:
            return faulty | {"timeSpent": -5}
        case 2:
            return faulty | {"userId": f"not-{user_id}"}
        case _:
            return {key: value for key, value in faulty.items() if key != "userId"}
