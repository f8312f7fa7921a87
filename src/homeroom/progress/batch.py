"""One ingest commit: the events of many requests, from the ledger to completions.

``IngestBatch.run`` gives the order of the steps, which matters. All of them are one transaction, so
that the ledger, chapters, courses, completions and their jobs are stored together or not at all
(rules B2 and B10).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from msgspec.structs import replace

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import AttemptKey, Course, Enrolment, LearnerCourse
from homeroom.completion.api import Completions
from homeroom.db.bulk import bulk_tx
from homeroom.db.tx import Tx
from homeroom.progress import ingest_store, quarantine, store
from homeroom.progress.attempt import CourseAttempt
from homeroom.progress.event import (
    ACCEPTED,
    CONFLICT,
    DUPLICATE,
    NOT_ENROLLED,
    QUARANTINE_FULL,
    UNKNOWN_CHAPTER,
    UNKNOWN_COURSE,
    UNTRUSTED,
    EventFlag,
    EventResult,
    EventStatus,
    EventType,
    ProgressEvent,
    event_identity,
)
from homeroom.progress.ledger import ends_before, open_attempts, rebuild_attempts, renew_attempt
from homeroom.progress.new_completion import ChangedAttempt, record_new_completions
from homeroom.progress.replay import attempt_at
from homeroom.progress.rollup import CourseState, QuizAttempt, initial_state, state_in_version

_UNTRUSTED_SCORE = int(EventFlag.UNTRUSTED_SCORE)
_RESET, _RENEWED = EventType.PROGRESS_RESET, EventType.ATTEMPT_RENEWED
_QUARANTINED_STATUSES = frozenset({EventStatus.QUARANTINED, EventStatus.CONFLICT})


class IngestBatch:
    """The events of one commit, and all that is read and changed for them."""

    def __init__(self, tx: Tx, events: Sequence[ProgressEvent], completions: Completions) -> None:
        """Use an open transaction and the events in the order of arrival."""
        self.tx, self.events, self.completions = tx, events, completions
        self.results: list[EventResult] = [ACCEPTED] * len(events)
        self.completion_count = 0
        """Number of completions that this commit recorded."""
        self._repeats: list[tuple[int, int]] = []
        """Index of each event whose id came before in the batch, and the index of the first."""
        self._stored: dict[str, ProgressEvent] = {}
        """The events of the ledger whose ids the batch repeats."""
        self._current: dict[str, Course] = {}
        self._archived: frozenset[str] = frozenset()
        self._versions: dict[tuple[str, int], Course] = {}
        self._known_chapters: dict[str, frozenset[str]] = {}
        self._enrolments: dict[LearnerCourse, list[Enrolment]] = {}
        self._states: dict[AttemptKey, CourseState] = {}
        self._other_activity: dict[LearnerCourse, list[int]] = {}
        """Times of each learner's last activity in other courses."""
        self._attempts: dict[AttemptKey, CourseAttempt] = {}
        self._rows: list[tuple[object, ...]] = []
        """The ledger rows of this commit."""
        self._quizzes: list[tuple[AttemptKey, QuizAttempt]] = []
        """The quiz attempts of this commit that count."""
        self._last_seqs: dict[LearnerCourse, int] = {}
        """``seq`` of the latest ledger row of each learner's course."""
        self._attempt_openings: dict[LearnerCourse, ProgressEvent | None] = {}
        """Courses of learners with resets or renewals; the event if it is one renewal alone."""

    async def run(self) -> list[EventResult]:
        """Store the events with all that follows, and return a result for each."""
        first_index, by_pair = self._group_events()
        learners = {user_id for user_id, _ in by_pair}
        learners.update([self.events[index].user_id for index, _ in self._repeats])
        await catalogue.lock_learners(self.tx, learners)
        known, seqs = await self._read(first_index, sorted(by_pair))
        await self._resolve_known(known, first_index, by_pair)
        for pair, indices in by_pair.items():
            await self._assign_events(pair, indices, seqs)
        attempts = [self._attempts[key] for key in sorted(self._attempts)]
        attempts = [each for each in attempts if each.last_seq or each.changes]
        await self._save_enrolments(attempts)
        counted = [each for each in attempts if each.learner_course not in self._attempt_openings]
        changed = await self._apply_changes(counted)
        bulk_tx(self.tx).reads_done()  # new attempts and completions apart, which are rare
        await self._write(changed)
        for pair in sorted(self._attempt_openings):
            changed += await self._open_new_attempts(pair)
        latest = [each for each in changed if not self._has_carry_over_attempt(each.enrolment)]
        self.completion_count = await record_new_completions(self.tx, latest, self.completions)
        for index, first in self._repeats:
            self._resolve_repeat(index, first)
        await self._quarantine_events()
        for pair in self._last_seqs:
            self.tx.notify("progress", "/".join(pair))
        return self.results

    def _group_events(self) -> tuple[dict[str, int], dict[LearnerCourse, list[int]]]:
        """Return the first index of each id, and those indices by learner and course."""
        first_index: dict[str, int] = {}
        by_pair: dict[LearnerCourse, list[int]] = {}
        for index, event in enumerate(self.events):
            first = first_index.setdefault(event.id, index)
            if first != index:
                self._repeats.append((index, first))
                continue
            pair = event.user_id, event.course_id
            group = by_pair.get(pair)
            if group is None:
                by_pair[pair] = [index]
            else:
                group.append(index)
        return first_index, by_pair

    async def _read(
        self, ids: Collection[str], pairs: Sequence[LearnerCourse]
    ) -> tuple[set[str], Iterator[int]]:
        """Read the courses, enrolments and course states that the events need.

        Return the ids that the ledger has, and a ``seq`` for each of the others.
        """
        (
            (known, seqs),
            current,
            self._enrolments,
            (self._states, self._other_activity),
        ) = await bulk_tx(self.tx).fetch_many(
            ingest_store.known_ids_read(self.tx, ids),
            catalogue.current_versions_read({course_id for _, course_id in pairs}),
            catalogue.enrolments_read(pairs),
            ingest_store.course_states_read(pairs),
        )
        self._current = await catalogue.load_courses(self.tx, current)
        self._archived = catalogue.archived_courses(current)
        self._versions = {(id, course.version): course for id, course in self._current.items()}
        needed = {
            (enrolment.course_id, enrolment.version)
            for enrolments in self._enrolments.values()
            for enrolment in enrolments
        }
        missing = needed - self._versions.keys()
        if missing:
            self._versions |= await catalogue.courses_at(self.tx, missing)
        return known, iter(seqs)

    async def _resolve_known(
        self,
        known: set[str],
        first_index: dict[str, int],
        by_pair: dict[LearnerCourse, list[int]],
    ) -> None:
        """Set the results of events whose ids the ledger has, and drop them (B1)."""
        if not known:
            return
        for row in await store.events_by_id(self.tx, known):
            stored = row.event()
            self._stored[stored.id] = stored
            index = first_index[stored.id]
            event = self.events[index]
            is_same = event_identity(event) == event_identity(stored)
            self.results[index] = DUPLICATE if is_same else CONFLICT
            by_pair[event.user_id, event.course_id].remove(index)

    def _resolve_repeat(self, index: int, first: int) -> None:
        """Set the result of a repeat within the batch, given that of the first.

        It is compared with what the ledger has: the first may itself differ from that.
        """
        event = self.events[index]
        stored = self._stored.get(event.id)
        if event_identity(event) != event_identity(stored or self.events[first]):
            self.results[index] = CONFLICT
        elif stored is not None or self.results[first].status is EventStatus.ACCEPTED:
            self.results[index] = DUPLICATE
        else:
            self.results[index] = self.results[first]

    async def _chapters_of_all_versions(self, course_id: str) -> frozenset[str]:
        known = self._known_chapters.get(course_id)
        if known is None:
            known = await catalogue.known_chapters(self.tx, course_id)
            self._known_chapters[course_id] = known
        return known

    async def _assign_events(
        self, pair: LearnerCourse, indices: Sequence[int], seqs: Iterator[int]
    ) -> None:
        """Assign a learner's events to attempts and the ledger; reject those without one."""
        course = self._current.get(pair[1])
        enrolments = self._enrolments.get(pair)
        if course is None or (enrolments is None and not self._enrols(course)):
            for index in indices:
                self.results[index] = UNKNOWN_COURSE if course is None else NOT_ENROLLED
            return
        if enrolments is None:
            enrolments = [Enrolment(*pair, 1, course.version, "registered", self.tx.now, 0)]
            self._enrolments[pair] = enrolments
            self._attempt(enrolments[0]).is_new = True
        elif enrolments[-1].version != course.version:
            self._pin_newest_version(enrolments, course)
        only = self._attempt(enrolments[0]) if len(enrolments) == 1 else None
        current, other_activity = course.chapters, self._other_activity.get(pair, ())
        seq: int | None = None
        previous = self._last_seq(enrolments)
        ended_at = enrolments[-1].ended_at
        for index in indices:
            event = self.events[index]
            if ended_at is not None and event.at >= ended_at:
                self.results[index] = NOT_ENROLLED
                continue
            chapter_id = event.chapter_id
            if (
                chapter_id is not None
                and chapter_id not in current
                and chapter_id not in await self._chapters_of_all_versions(course.id)
            ):
                self.results[index] = UNKNOWN_CHAPTER
                continue
            attempt = only or self._attempt(attempt_at(enrolments, event.at))
            recorded_course = attempt.course
            if event.type is _RESET or event.type is _RENEWED:
                is_alone = event.type is _RENEWED and len(indices) == 1
                self._attempt_openings[pair] = event if is_alone else None
            elif event.quiz is not None:
                self._flag_untrusted_score(index, event, course)
                if chapter_id not in recorded_course.chapters:
                    recorded_course = course  # only newer versions have its pass threshold
            if event.time_spent:
                event.flags |= attempt.suspicious_time(event, other_activity)
            seq = next(seqs)
            attempt.add_event(event, seq, recorded_course)
            self._rows.append(
                ingest_store.event_row(
                    seq, previous, event, recorded_course.version, attempt.enrolment.attempt
                )
            )
            previous = seq
        if seq is not None:
            self._last_seqs[pair] = seq
        if only is None:
            self._carry_over(enrolments)

    def _enrols(self, course: Course) -> bool:
        """Return whether a learner's first event enrols them."""
        return course.auto_enrol and course.id not in self._archived

    def _carry_over(self, enrolments: Sequence[Enrolment]) -> None:
        """Add late events of attempts to those that carried over from them (B12)."""
        for before, after in pairwise(enrolments):
            attempt = self._attempts.get((before.user_id, before.course_id, before.attempt))
            if after.carried_over and attempt is not None and attempt.changes:
                attempt.carry_over_to(self._attempt(after))

    def _last_seq(self, enrolments: Sequence[Enrolment]) -> int | None:
        """Return the ``seq`` of the latest stored row of a learner's course, or None."""
        last = 0
        for each in enrolments:
            state = self._states.get((each.user_id, each.course_id, each.attempt))
            if state is not None and state.last_seq > last:
                last = state.last_seq
        return last or None

    def _attempt(self, enrolment: Enrolment) -> CourseAttempt:
        """Return this commit's changes to an attempt; the first call creates them."""
        key = (enrolment.user_id, enrolment.course_id, enrolment.attempt)
        attempt = self._attempts.get(key)
        if attempt is None:
            course = self._versions[enrolment.course_id, enrolment.version]
            state = self._states.get(key)
            last_at = 0 if state is None else state.last_at
            attempt = self._attempts[key] = CourseAttempt(enrolment, course, state, last_at)
        return attempt

    def _pin_newest_version(self, enrolments: list[Enrolment], course: Course) -> None:
        """Move an open attempt to the newest version, if the policy allows it (B11)."""
        last = enrolments[-1]
        if last.completed_at is None and course.learner_policy != "never":
            enrolments[-1] = replace(last, version=course.version)
            self._attempt(enrolments[-1]).moved = True

    def _flag_untrusted_score(self, index: int, event: ProgressEvent, course: Course) -> None:
        """Flag a score of a learner's token, which does not count (decision 0002)."""
        if course.trust_client:
            event.trusted = True
        if not event.trusted:
            event.flags |= _UNTRUSTED_SCORE
            self.results[index] = UNTRUSTED

    async def _save_enrolments(self, attempts: Sequence[CourseAttempt]) -> None:
        """Insert and update the enrolments of attempts with recorded events."""
        new, changed = [], []
        for attempt in attempts:
            enrolment = attempt.enrolment
            if enrolment.status == "registered":
                attempt.enrolment = replace(enrolment, status="in_progress")
                enrolments = self._enrolments[attempt.learner_course]
                enrolments[enrolments.index(enrolment)] = attempt.enrolment
            if attempt.is_new:
                new.append(attempt.enrolment)
            elif attempt.enrolment is not enrolment or attempt.moved:
                changed.append(attempt.enrolment)
        if new:
            await catalogue.add_enrolments(self.tx, new)
        if changed:
            await catalogue.update_enrolments(self.tx, changed)

    async def _apply_changes(self, attempts: Sequence[CourseAttempt]) -> list[ChangedAttempt]:
        """Add the changes of attempts to their states."""
        changed = []
        for attempt in attempts:
            state = _current_state(attempt)
            each = ChangedAttempt(attempt.enrolment, attempt.course, state, attempt.last_event_at)
            for chapter_id in attempt.apply_to_state(state):
                await self._audit_earlier_completion(attempt.key, chapter_id)
            if attempt.quizzes:
                key = attempt.key
                self._quizzes += [(key, quiz) for quiz in attempt.latest_quizzes()]
            changed.append(each)
        return changed

    async def _write(self, changed: Sequence[ChangedAttempt]) -> None:
        """Write the quiz attempts, the course states and the ledger rows."""
        await ingest_store.save_quiz_attempts(self.tx, self._quizzes)
        await ingest_store.save_course_states(self.tx, [(each.key, each.state) for each in changed])
        await ingest_store.insert_events(self.tx, self._rows)

    async def _audit_earlier_completion(self, key: AttemptKey, chapter_id: str) -> None:
        """Add an audit line for a late event that proves an earlier completion (rule B9).

        The completion and its date stay as they are, and no job runs again.
        """
        completion = await self.completions.find(self.tx, *key)
        if completion is not None:
            line = f"A late event shows that chapter {chapter_id} was done earlier than recorded."
            await self.completions.add_note(self.tx, completion.id, line)

    async def _open_new_attempts(self, pair: LearnerCourse) -> list[ChangedAttempt]:
        """Open new attempts, and rebuild the learner's course from the ledger (rule B14).

        Return the attempts that may be complete now.
        """
        course, last_seq = self._current[pair[1]], self._last_seqs[pair]
        enrolments, renewal = self._enrolments[pair], self._attempt_openings[pair]
        if renewal is not None:
            last = enrolments[-1]
            state = self._states.get((*pair, last.attempt))
            if state is not None and ends_before(renewal.at, last, state):
                await renew_attempt(self.tx, last, course, state, renewal.at, last_seq)
                return []
        enrolments = await open_attempts(self.tx, enrolments, course, last_seq)
        self._enrolments[pair] = enrolments
        return await rebuild_attempts(self.tx, enrolments, last_seq)

    def _has_carry_over_attempt(self, enrolment: Enrolment) -> bool:
        """Return whether a later attempt carried over, and completes instead of this."""
        enrolments = self._enrolments[enrolment.user_id, enrolment.course_id]
        number = enrolment.attempt
        return number < len(enrolments) and enrolments[number].carried_over

    async def _quarantine_events(self) -> None:
        """Quarantine events of unknown courses or chapters, and conflicting ones."""
        if self.results.count(ACCEPTED) == len(self.results):
            return
        indices = [
            index
            for index, result in enumerate(self.results)
            if result is not ACCEPTED and result.status in _QUARANTINED_STATUSES
        ]
        if not indices:
            return
        capacity = await quarantine.remaining_capacity(
            self.tx, {self.events[index].user_id for index in indices}
        )
        quarantined = []
        for index in indices:
            event, result = self.events[index], self.results[index]
            capacity[event.user_id] -= 1
            if capacity[event.user_id] >= 0:
                quarantined.append((event, result.code or ""))
            elif result.status is EventStatus.QUARANTINED:
                self.results[index] = QUARANTINE_FULL
        await quarantine.quarantine_events(self.tx, quarantined)


def _current_state(attempt: CourseAttempt) -> CourseState:
    """Return the stored state, created or recomputed for the attempt's version."""
    state, course = attempt.state, attempt.course
    if state is None:
        return initial_state(course)
    return state if state.version == course.version else state_in_version(course, state)
