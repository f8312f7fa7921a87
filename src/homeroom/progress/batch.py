"""What one ingest commit does: the events of many requests, from the ledger to finished courses.

The order matters and is told by ``Batch.run``. All of it happens in one transaction, so that the
ledger, the chapters, the course, the completion and its jobs are stored together or not at all
(rules B2 and B10).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from msgspec.structs import replace

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course, Enrolment
from homeroom.completion.api import Completions
from homeroom.db.tx import Tx
from homeroom.progress import quarantine, store
from homeroom.progress.attempt import Attempt
from homeroom.progress.crossing import Touched, complete
from homeroom.progress.event import Event, EventType, Flag, identity_of
from homeroom.progress.rebuild import is_all_before, open_attempts, rebuild, renew
from homeroom.progress.replay import attempt_at, event_of
from homeroom.progress.rollup import CourseState, fresh, moved_to
from homeroom.progress.verdict import (
    ACCEPTED,
    CONFLICT,
    DUPLICATE,
    NOT_ENROLLED,
    QUARANTINE_FULL,
    UNKNOWN_CHAPTER,
    UNKNOWN_COURSE,
    UNTRUSTED,
    Status,
    Verdict,
)

_UNTRUSTED = int(Flag.UNTRUSTED_SCORE)
_RESET, _RENEWED = EventType.PROGRESS_RESET, EventType.ATTEMPT_RENEWED
_ASIDE = frozenset({Status.QUARANTINED, Status.CONFLICT})


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
        self._elsewhere: dict[store.Pair, list[int]] = {}
        """When each learner was last active in other courses."""
        self._attempts: dict[store.CourseKey, Attempt] = {}
        self._rows: list[tuple[object, ...]] = []
        """The ledger rows of this commit."""
        self._quizzes: list[tuple[object, ...]] = []
        """The rows of its quiz attempts that count."""
        self._last_seqs: dict[store.Pair, int] = {}
        """The latest ledger row of each learner's course."""
        self._openings: dict[store.Pair, Event | None] = {}
        """Where attempts are to be opened: the renewal where that is all there is, else None."""

    async def run(self) -> list[Verdict]:
        """Store what is to be stored and return a verdict an event."""
        firsts, by_pair = self._sort()
        learners = {user_id for user_id, _ in by_pair}
        learners.update([self.events[index].user_id for index, _ in self._repeats])
        await catalogue.lock_learners(self.tx, learners)
        known, seqs = await self._read(firsts, sorted(by_pair))
        await self._settle_known(known, firsts, by_pair)
        for pair, indices in by_pair.items():
            await self._place(pair, indices, seqs)
        attempts = [self._attempts[key] for key in sorted(self._attempts)]
        attempts = [each for each in attempts if each.last_seq or each.changes]
        await self._enrol(attempts)
        counted = [each for each in attempts if _pair(each) not in self._openings]
        touched = await self._count(counted)
        self.tx.only_writes_follow()  # but for openings, and what follows from a finished course
        await self._write(touched)
        for pair in sorted(self._openings):
            touched += await self._reopen(pair)
        open_ones = [each for each in touched if not self._is_carried_on(each.enrolment)]
        self.finished = await complete(self.tx, open_ones, self.completions)
        for index, first in self._repeats:
            self._settle_repeat(index, first)
        await self._keep_aside()
        for pair in self._last_seqs:
            self.tx.notify("progress", "/".join(pair))
        return self.verdicts

    def _sort(self) -> tuple[dict[str, int], dict[store.Pair, list[int]]]:
        """Return the index at which each id comes first, and those by learner and course."""
        firsts: dict[str, int] = {}
        by_pair: dict[store.Pair, list[int]] = {}
        for index, event in enumerate(self.events):
            before = firsts.setdefault(event.id, index)
            if before != index:
                self._repeats.append((index, before))
                continue
            pair = event.user_id, event.course_id
            group = by_pair.get(pair)
            if group is None:
                by_pair[pair] = [index]
            else:
                group.append(index)
        return firsts, by_pair

    async def _read(
        self, ids: Collection[str], pairs: Sequence[store.Pair]
    ) -> tuple[set[str], Iterator[int]]:
        """Read the courses, the enrolments and the course rows that these events need.

        Return the ids that the ledger has, and places in it for the others.
        """
        (
            (known, seqs),
            current,
            self._windows,
            (self._states, self._elsewhere),
        ) = await self.tx.ask_all(
            store.look_up(self.tx, ids),
            catalogue.ask_current({course_id for _, course_id in pairs}),
            catalogue.ask_enrolments(pairs),
            store.ask_courses(pairs),
        )
        self._current = await catalogue.parsed(self.tx, current)
        self._versions = {(id, course.version): course for id, course in self._current.items()}
        wanted = {
            (enrolment.course_id, enrolment.version)
            for windows in self._windows.values()
            for enrolment in windows
        }
        missing = wanted - self._versions.keys()
        if missing:
            self._versions |= await catalogue.courses_at(self.tx, missing)
        return known, iter(seqs)

    async def _settle_known(
        self, known: set[str], firsts: dict[str, int], by_pair: dict[store.Pair, list[int]]
    ) -> None:
        """Give their verdicts to events that the ledger has, and leave the others (B1)."""
        if not known:
            return
        for row in await store.events_by_id(self.tx, known):
            stored, _ = event_of(row)
            index = firsts[stored.id]
            event = self.events[index]
            same = identity_of(event) == identity_of(stored)
            self.verdicts[index] = DUPLICATE if same else CONFLICT
            by_pair[event.user_id, event.course_id].remove(index)

    def _settle_repeat(self, index: int, first: int) -> None:
        """Give a repeat within the batch its verdict, which depends on what the first one got."""
        if identity_of(self.events[index]) != identity_of(self.events[first]):
            self.verdicts[index] = CONFLICT
        elif self.verdicts[first].status is Status.ACCEPTED:
            self.verdicts[index] = DUPLICATE
        else:
            self.verdicts[index] = self.verdicts[first]

    async def _ever_had(self, course_id: str) -> frozenset[str]:
        """Return the chapters of all versions of a course."""
        known = self._known_chapters.get(course_id)
        if known is None:
            known = await catalogue.known_chapters(self.tx, course_id)
            self._known_chapters[course_id] = known
        return known

    async def _place(self, pair: store.Pair, indices: Sequence[int], seqs: Iterator[int]) -> None:
        """Give a learner's events to their attempts and the ledger; what has none, its verdict."""
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
        current, others = course.chapters, self._elsewhere.get(pair, ())
        seq: int | None = None
        previous = self._last_seq(windows)
        for index in indices:
            event = self.events[index]
            chapter_id = event.chapter_id
            if (
                chapter_id is not None
                and chapter_id not in current
                and chapter_id not in await self._ever_had(course.id)
            ):
                self.verdicts[index] = UNKNOWN_CHAPTER
                continue
            attempt = only or self._attempt(attempt_at(windows, event.at))
            under = attempt.course
            if event.type is _RESET or event.type is _RENEWED:
                is_all = event.type is _RENEWED and len(indices) == 1
                self._openings[pair] = event if is_all else None
            elif event.quiz is not None:
                self._trust(index, event, course)
                if chapter_id not in under.chapters:
                    under = course  # what it takes to pass is known to newer versions only
            if event.time_spent:
                event.flags |= attempt.odd_time(event, others)
            seq = next(seqs)
            attempt.take(event, seq, under)
            number = attempt.enrolment.attempt
            self._rows.append(store.event_row(seq, previous, event, under.version, number))
            previous = seq
        if seq is not None:
            self._last_seqs[pair] = seq
        if only is None:
            self._pass_on(windows)

    def _pass_on(self, windows: Sequence[Enrolment]) -> None:
        """Let attempts that carried over have what came for those before them (B12)."""
        for before, after in pairwise(windows):
            attempt = self._attempts.get((before.user_id, before.course_id, before.attempt))
            if after.carried_over and attempt is not None and attempt.changes:
                attempt.pass_on(self._attempt(after))

    def _last_seq(self, windows: Sequence[Enrolment]) -> int | None:
        """Return the latest row that the ledger has of a learner's course, None if it has none."""
        last = 0
        for each in windows:
            state = self._states.get((each.user_id, each.course_id, each.attempt))
            if state is not None and state.last_seq > last:
                last = state.last_seq
        return last or None

    def _attempt(self, enrolment: Enrolment) -> Attempt:
        """Return what this commit keeps of an attempt, made at its first use."""
        key = (enrolment.user_id, enrolment.course_id, enrolment.attempt)
        attempt = self._attempts.get(key)
        if attempt is None:
            course = self._versions[enrolment.course_id, enrolment.version]
            state = self._states.get(key)
            last_at = 0 if state is None else state.last_at
            attempt = self._attempts[key] = Attempt(enrolment, course, state, last_at)
        return attempt

    def _move(self, windows: list[Enrolment], course: Course) -> None:
        """Move an open learner to the newest version at this visit, if the policy says so (B11)."""
        last = windows[-1]
        if last.completed_at is None and course.learner_policy != "never":
            windows[-1] = replace(last, version=course.version)
            self._attempt(windows[-1]).moved = True

    def _trust(self, index: int, event: Event, course: Course) -> None:
        """Mark a score that does not count: it came from the learner's own token (0002)."""
        if course.trust_client:
            event.trusted = True
        if not event.trusted:
            event.flags |= _UNTRUSTED
            self.verdicts[index] = UNTRUSTED

    async def _enrol(self, attempts: Sequence[Attempt]) -> None:
        """Insert and update the enrolments of those whose events were recorded."""
        new, changed = [], []
        for attempt in attempts:
            enrolment = attempt.enrolment
            if enrolment.status == "registered":
                attempt.enrolment = replace(enrolment, status="in_progress")
                windows = self._windows[_pair(attempt)]
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
        """Add the events to their courses."""
        touched = []
        for attempt in attempts:
            state = _state(attempt)
            each = Touched(attempt.enrolment, attempt.course, state, attempt.last_event_at)
            for chapter_id in attempt.add_to(state):
                await self._note_earlier(each.key, chapter_id)
            if attempt.quizzes or attempt.inherited:
                self._quizzes += attempt.quiz_rows()
            touched.append(each)
        return touched

    async def _write(self, touched: Sequence[Touched]) -> None:
        """Write the ledger and what was counted."""
        await store.save_quizzes(self.tx, self._quizzes)
        await store.save_courses(self.tx, [(each.key, each.state) for each in touched])
        await store.insert_events(self.tx, self._rows)

    async def _note_earlier(self, key: store.CourseKey, chapter_id: str) -> None:
        """Add an audit line for a late event that proves an earlier completion (rule B9).

        The completion and its date stay as they are, and no job runs again.
        """
        completion = await self.completions.find(self.tx, *key)
        if completion is not None:
            line = f"A late event shows the chapter {chapter_id} done earlier than was known."
            await self.completions.note(self.tx, completion.id, line)

    async def _reopen(self, pair: store.Pair) -> list[Touched]:
        """Open new attempts and build the learner's course again from the ledger (rule B14).

        Return what may be finished now.
        """
        course, last_seq = self._current[pair[1]], self._last_seqs[pair]
        windows, renewal = self._windows[pair], self._openings[pair]
        if renewal is not None:
            state = self._states.get((*pair, windows[-1].attempt))
            if state is not None and is_all_before(renewal.at, windows[-1], state):
                await renew(self.tx, windows[-1], course, state, renewal.at, last_seq)
                return []
        windows = self._windows[pair] = await open_attempts(self.tx, windows, course, last_seq)
        return await rebuild(self.tx, windows, last_seq)

    def _is_carried_on(self, enrolment: Enrolment) -> bool:
        """Say whether another attempt began with this one: then it is the other one's to finish."""
        windows = self._windows[enrolment.user_id, enrolment.course_id]
        return enrolment.attempt < len(windows) and windows[enrolment.attempt].carried_over

    async def _keep_aside(self) -> None:
        """Keep quarantined events for replay and conflicting ones for inspection."""
        if self.verdicts.count(ACCEPTED) == len(self.verdicts):
            return
        aside = [
            index
            for index, verdict in enumerate(self.verdicts)
            if verdict is not ACCEPTED and verdict.status in _ASIDE
        ]
        if not aside:
            return
        room = await quarantine.room(self.tx, {self.events[index].user_id for index in aside})
        held = []
        for index in aside:
            event, verdict = self.events[index], self.verdicts[index]
            room[event.user_id] -= 1
            if room[event.user_id] >= 0:
                held.append((event, verdict.code or ""))
            elif verdict.status is Status.QUARANTINED:
                self.verdicts[index] = QUARANTINE_FULL
        await quarantine.keep(self.tx, held)


def _state(attempt: Attempt) -> CourseState:
    """Return the course row, made new or recomputed for a new version if need be."""
    state, course = attempt.state, attempt.course
    if state is None:
        return fresh(course)
    return state if state.version == course.version else moved_to(course, state)


def _pair(attempt: Attempt) -> store.Pair:
    return attempt.enrolment.user_id, attempt.enrolment.course_id
