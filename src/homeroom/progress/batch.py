"""What one ingest commit does: the events of many requests, from the ledger to finished courses.

The order matters and is told by ``Batch.run``. All of it happens in one transaction, so that the
ledger, the chapters, the course, the completion and its jobs are stored together or not at all
(rules B2 and B10).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec.structs import replace

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course, Enrolment
from homeroom.completion.api import Completions
from homeroom.db.tx import Tx
from homeroom.progress import quarantine, store
from homeroom.progress.crossing import Touched, complete
from homeroom.progress.event import Event, EventType, Flag
from homeroom.progress.merge import ChapterState, merge, scaled_score
from homeroom.progress.rebuild import open_attempts, rebuild
from homeroom.progress.replay import attempt_at
from homeroom.progress.rollup import CourseState, add_merged, fresh, recompute

SECOND = 1_000_000
_UNTRUSTED = int(Flag.UNTRUSTED_SCORE)
_IMPLAUSIBLE = int(Flag.IMPLAUSIBLE_TIME)
_TWO_COURSES = int(Flag.TWO_COURSES)
TIME_TOLERANCE = 5 * SECOND
"""How much longer than the wall clock a reported time may be before it is flagged."""


class Status(StrEnum):
    """What becomes of one event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one event; ``code`` and ``message`` say why it was not plainly accepted."""

    status: Status
    code: str | None = None
    message: str | None = None


ACCEPTED = Verdict(Status.ACCEPTED)
UNTRUSTED = Verdict(
    Status.ACCEPTED,
    "untrusted_score",
    "The attempt is kept, but its score does not count: it did not come from the platform.",
)
DUPLICATE = Verdict(Status.DUPLICATE)
CONFLICT = Verdict(
    Status.CONFLICT, "conflict", "Another event with this id and another body was stored before."
)
NOT_ENROLLED = Verdict(
    Status.REJECTED, "not_enrolled", "The course does not enrol by itself; enrol the learner first."
)
UNKNOWN_COURSE = Verdict(
    Status.QUARANTINED, "unknown_course", "Kept until the catalogue knows this course."
)
UNKNOWN_CHAPTER = Verdict(
    Status.QUARANTINED, "unknown_chapter", "Kept until the catalogue knows this chapter."
)


@dataclass(slots=True)
class Attempt:
    """One learner's attempt at a course, as far as this commit reads and changes it."""

    key: store.CourseKey
    enrolment: Enrolment
    course: Course
    """In the version of the attempt."""
    state: CourseState | None
    """The course row; None where the learner has none yet."""
    last_at: int
    """The latest event known, for judging reported times."""
    is_new: bool = False
    moved: bool = False
    last_event_at: int = 0
    by_chapter: dict[str | None, list[Event]] = field(default_factory=dict)
    """This commit's events that count."""


Placed = tuple[int, Event, Attempt]
"""The index of an event in the batch, the event, and the attempt that it belongs to."""


class Batch:
    """One commit's events and what is read and changed for them."""

    def __init__(self, tx: Tx, events: Sequence[Event], completions: Completions) -> None:
        """Take the open transaction and the events in the order in which they arrived."""
        self.tx, self.events, self.completions = tx, events, completions
        self.verdicts: list[Verdict] = [ACCEPTED] * len(events)
        self.finished = 0
        """How many courses this commit finished."""
        self._repeats: list[tuple[int, int]] = []
        self._current: dict[str, Course] = {}
        self._versions: dict[tuple[str, int], Course] = {}
        self._known_chapters: dict[str, frozenset[str]] = {}
        self._windows: dict[store.Pair, list[Enrolment]] = {}
        self._states: dict[store.CourseKey, CourseState] = {}
        self._attempts: dict[store.CourseKey, Attempt] = {}

    async def run(self) -> list[Verdict]:
        """Store what is to be stored and return a verdict an event."""
        by_pair = self._by_learner()
        await catalogue.lock_learners(self.tx, {pair[0] for pair in by_pair})
        await self._load(by_pair)
        placed: list[Placed] = []
        for pair, indices in by_pair.items():
            self._place(pair, indices, placed)
        recorded = await self._record(placed)
        resets = [event for _, event, _ in recorded if event.type is EventType.PROGRESS_RESET]
        reset_pairs = {(event.user_id, event.course_id) for event in resets}
        attempts = self._gather(recorded)
        await self._enrol(attempts)
        touched = await self._count([each for each in attempts if each.key[:2] not in reset_pairs])
        for pair in sorted(reset_pairs):
            touched += await self._reset(pair, resets)
        self.finished = await complete(self.tx, touched, self.completions)
        for index, first in self._repeats:
            self._settle_repeat(index, first)
        await self._keep_aside()
        for pair in {each.key[:2] for each in attempts}:
            self.tx.notify("progress", "/".join(pair))
        return self.verdicts

    def _by_learner(self) -> dict[store.Pair, list[int]]:
        """Group the events by learner and course, without repeats within this batch (rule B1)."""
        seen: dict[str, int] = {}
        by_pair: defaultdict[store.Pair, list[int]] = defaultdict(list)
        for index, event in enumerate(self.events):
            first = seen.setdefault(event.id, index)
            if first == index:
                by_pair[event.user_id, event.course_id].append(index)
            else:
                self._repeats.append((index, first))
        return by_pair

    def _settle_repeat(self, index: int, first: int) -> None:
        """Give a repeat within the batch its verdict, which depends on what the first one got."""
        if self.events[index].body_hash != self.events[first].body_hash:
            self.verdicts[index] = CONFLICT
        elif self.verdicts[first].status is Status.ACCEPTED:
            self.verdicts[index] = DUPLICATE
        else:
            self.verdicts[index] = self.verdicts[first]

    async def _load(self, by_pair: dict[store.Pair, list[int]]) -> None:
        """Read the courses, the enrolments and the course rows that these events need."""
        self._current = await catalogue.current_courses(self.tx, {pair[1] for pair in by_pair})
        self._windows = await catalogue.enrolments(self.tx, by_pair.keys())
        self._states = await store.courses(self.tx, {pair[0] for pair in by_pair})
        self._versions = {(id, course.version): course for id, course in self._current.items()}
        wanted = {
            (enrolment.course_id, enrolment.version)
            for windows in self._windows.values()
            for enrolment in windows
        }
        missing = wanted - self._versions.keys()
        if missing:
            self._versions |= await catalogue.courses_at(self.tx, missing)
        for (_, course_id), indices in by_pair.items():
            course = self._current.get(course_id)
            if course is None or course_id in self._known_chapters:
                continue
            chapters = {self.events[index].chapter_id for index in indices} - {None}
            if not chapters <= course.chapters.keys():
                known = await catalogue.known_chapters(self.tx, course_id)
                self._known_chapters[course_id] = known

    def _place(self, pair: store.Pair, indices: Sequence[int], placed: list[Placed]) -> None:
        """Find the attempt of each of a learner's events; what has none gets its verdict."""
        course = self._current.get(pair[1])
        windows = self._windows.get(pair)
        if course is None or (windows is None and not course.auto_enrol):
            for index in indices:
                self.verdicts[index] = UNKNOWN_COURSE if course is None else NOT_ENROLLED
            return
        if windows is None:
            windows = [Enrolment(*pair, 1, course.version, "registered", self.tx.now, 0)]
            self._windows[pair] = windows
            self._attempt(windows[0]).is_new = True
        elif windows[-1].version != course.version:
            self._move(windows, course)
        only = self._attempt(windows[0]) if len(windows) == 1 else None
        known = self._known_chapters.get(course.id, course.chapters)
        others = self._other_courses(pair)
        for index in indices:
            event = self.events[index]
            if event.chapter_id is not None and event.chapter_id not in known:
                self.verdicts[index] = UNKNOWN_CHAPTER
                continue
            attempt = only or self._attempt(attempt_at(windows, event.at))
            if course.trust_client:
                event.trusted = True
            self._flag(index, event, attempt, others)
            placed.append((index, event, attempt))

    def _attempt(self, enrolment: Enrolment) -> Attempt:
        """Return what this commit keeps of an attempt, made at its first use."""
        key = (enrolment.user_id, enrolment.course_id, enrolment.attempt)
        attempt = self._attempts.get(key)
        if attempt is None:
            course = self._versions[enrolment.course_id, enrolment.version]
            state = self._states.get(key)
            last_at = 0 if state is None else state.last_at
            attempt = self._attempts[key] = Attempt(key, enrolment, course, state, last_at)
        return attempt

    def _move(self, windows: list[Enrolment], course: Course) -> None:
        """Move an open learner to the newest version at this visit, if the policy says so (B11)."""
        last = windows[-1]
        if last.completed_at is None and course.learner_policy != "never":
            windows[-1] = replace(last, version=course.version)
            self._attempt(windows[-1]).moved = True

    def _other_courses(self, pair: store.Pair) -> list[int]:
        """Return when the learner was last active in each of its other courses."""
        if len(self._states) == len(self._windows):
            return []  # nobody here has a second course: the usual case, told without a search
        return [
            state.last_at
            for key, state in self._states.items()
            if key[0] == pair[0] and key[1] != pair[1]
        ]

    def _flag(self, index: int, event: Event, attempt: Attempt, others: Sequence[int]) -> None:
        """Mark what is implausible; nothing is trimmed (rule B4)."""
        if event.quiz is not None and not event.trusted:
            event.flags |= _UNTRUSTED
            self.verdicts[index] = UNTRUSTED
        at = event.at
        if event.time_spent:
            began = at - event.time_spent * SECOND + TIME_TOLERANCE
            if began < attempt.last_at <= at:
                event.flags |= _IMPLAUSIBLE
            for other_at in others:
                if began < other_at <= at:
                    event.flags |= _TWO_COURSES
        if at > attempt.last_at:
            attempt.last_at = at

    async def _record(self, placed: Sequence[Placed]) -> Sequence[Placed]:
        """Insert the ledger rows and return the events that were not there before."""
        if not placed:
            return placed
        rows = [
            store.event_row(event, attempt.course.version, attempt.key[2])
            for _, event, attempt in placed
        ]
        known = await store.insert_events(self.tx, rows)
        if not known:
            return placed
        hashes = await store.stored_hashes(self.tx, known)
        recorded = []
        for each in placed:
            index, event, _ = each
            if event.id not in known:
                recorded.append(each)
            elif hashes[event.id] == event.body_hash:
                self.verdicts[index] = DUPLICATE
            else:
                self.verdicts[index] = CONFLICT
        return recorded

    def _gather(self, recorded: Sequence[Placed]) -> list[Attempt]:
        """Hand each attempt its new events; return the attempts that have any, in key order."""
        for _, event, attempt in recorded:
            events = attempt.by_chapter.get(event.chapter_id)
            if events is None:
                attempt.by_chapter[event.chapter_id] = [event]
            else:
                events.append(event)
            if event.at > attempt.last_event_at:
                attempt.last_event_at = event.at
        return [
            self._attempts[key] for key in sorted(self._attempts) if self._attempts[key].by_chapter
        ]

    async def _enrol(self, attempts: Sequence[Attempt]) -> None:
        """Insert and update the enrolments of those whose events were recorded."""
        new, changed = [], []
        for attempt in attempts:
            enrolment = attempt.enrolment
            if enrolment.status == "registered":
                attempt.enrolment = replace(enrolment, status="in_progress")
                windows = self._windows[attempt.key[:2]]
                windows[windows.index(enrolment)] = attempt.enrolment
            if attempt.is_new:
                new.append(attempt.enrolment)
            elif attempt.enrolment is not enrolment or attempt.moved:
                changed.append(attempt.enrolment)
        if new:
            await catalogue.add_enrolments(self.tx, new)
        if changed:
            await catalogue.update_enrolments(self.tx, changed)

    async def _count(self, attempts: Sequence[Attempt]) -> list[Touched]:
        """Merge the events into chapters and courses, and write what changed."""
        keys = [
            (*attempt.key, chapter_id)
            for attempt in attempts
            for chapter_id in attempt.by_chapter
            if chapter_id is not None
        ]
        states = await store.chapters(self.tx, keys)
        course_states: dict[store.CourseKey, CourseState] = {}
        quizzes: list[tuple[object, ...]] = []
        for attempt in attempts:
            state = course_states[attempt.key] = await self._course_state(attempt)
            for chapter_id, events in attempt.by_chapter.items():
                for event in events:
                    state.time_spent += event.time_spent
                if chapter_id is None:
                    state.unattributed += sum([event.time_spent for event in events])
                    continue
                key = (*attempt.key, chapter_id)
                chapter_state = states.get(key)
                if chapter_state is None:
                    chapter_state = states[key] = ChapterState()
                if _merge(attempt, state, chapter_id, chapter_state):
                    await self._note_earlier(attempt, chapter_id)
                for event in events:
                    if event.quiz is not None:
                        quizzes += _quiz_rows(key, attempt.course, events)
                        break
            if attempt.last_event_at > state.last_at:
                state.last_at = attempt.last_event_at
        await store.save_chapters(self.tx, states)
        if quizzes:
            await store.save_quizzes(self.tx, quizzes)
        await store.save_courses(self.tx, course_states)
        return [
            Touched(each.enrolment, each.course, course_states[each.key], each.last_event_at)
            for each in attempts
        ]

    async def _course_state(self, attempt: Attempt) -> CourseState:
        """Return the course row, made new or recomputed for a new version if need be."""
        state, course = attempt.state, attempt.course
        if state is None:
            return fresh(course)
        if state.version != course.version:
            chapters = await store.chapters_of(self.tx, attempt.key)
            return recompute(course, chapters, state.unattributed, state.last_at)
        return state

    async def _note_earlier(self, attempt: Attempt, chapter_id: str) -> None:
        """Add an audit line for a late event that proves an earlier completion (rule B9).

        The completion and its date stay as they are, and no job runs again.
        """
        completion = await self.completions.find(self.tx, *attempt.key)
        if completion is not None:
            line = f"A late event shows the chapter {chapter_id} done earlier than was known."
            await self.completions.note(self.tx, completion.id, line)

    async def _reset(self, pair: store.Pair, resets: Sequence[Event]) -> list[Touched]:
        """Open new attempts and build the learner's course again from the ledger (rule B14)."""
        course = self._current[pair[1]]
        count = sum((event.user_id, event.course_id) == pair for event in resets)
        windows = await open_attempts(self.tx, self._windows[pair], course, count)
        return await rebuild(self.tx, pair, windows)

    async def _keep_aside(self) -> None:
        """Keep quarantined events for replay and conflicting ones for inspection."""
        aside = [
            (event, verdict.code or "")
            for event, verdict in zip(self.events, self.verdicts, strict=True)
            if verdict.status is Status.QUARANTINED or verdict.status is Status.CONFLICT
        ]
        if aside:
            await quarantine.keep(self.tx, aside)


def _merge(
    attempt: Attempt, course_state: CourseState, chapter_id: str, state: ChapterState
) -> bool:
    """Merge a chapter's events, and add to the course what the chapter gained.

    Return whether that moved the time at which a chapter of a completed course was done. A chapter
    that the course no longer has is kept, and adds nothing (rule B11).
    """
    chapter = attempt.course.chapters.get(chapter_id)
    before = copy(state)
    for event in attempt.by_chapter[chapter_id]:
        merge(state, event, chapter)
    if chapter is None:
        return False
    was_satisfied = add_merged(course_state, chapter, before, state)
    return (
        was_satisfied
        and attempt.enrolment.completed_at is not None
        and (before.completed_at, before.passed_at) != (state.completed_at, state.passed_at)
    )


def _quiz_rows(
    key: store.ChapterKey, course: Course, events: Sequence[Event]
) -> list[tuple[object, ...]]:
    """Return the rows of quiz attempts that count, the latest report of each attempt only."""
    chapter = course.chapters.get(key[3])
    threshold = None if chapter is None else chapter.pass_threshold
    latest: dict[str, Event] = {}
    for event in events:
        if event.quiz is None or not event.trusted:
            continue
        known = latest.get(event.quiz.attempt_id)
        if known is None or (event.at, event.id) > (known.at, known.id):
            latest[event.quiz.attempt_id] = event
    return [
        (*key, attempt_id, scaled_score(event), threshold, event.at, event.id)
        for attempt_id, event in latest.items()
    ]
