"""Queries of progress: courses, learners, history, previews of new versions.

No function writes. Percentages are basis points, rounded down; None if no chapter is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from msgspec.structs import replace

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import (
    AllItems,
    AttemptKey,
    Chapter,
    Course,
    Enrolment,
    EnrolmentStatus,
    VersionChangePreview,
)
from homeroom.completion.api import Completions
from homeroom.db.personal_data import PeopleIds
from homeroom.db.tx import Tx
from homeroom.errors import NotFound, Unavailable
from homeroom.progress import ingest_store, store
from homeroom.progress.event import ATTEMPT_OPENING_TYPES, FULL, ProgressEvent
from homeroom.progress.new_completion import (
    ChangedAttempt,
    find_new_completion,
    find_unmet_criteria,
    may_be_complete,
)
from homeroom.progress.replay import (
    AttemptProjection,
    apply_event,
    attempt_at,
    effective_projection,
    initial_projections,
)
from homeroom.progress.rollup import (
    ChapterState,
    CourseState,
    QuizAttempt,
    attempts_by_chapter,
    initial_state,
    is_satisfied,
    percent,
    quiz_score,
    share,
    state_in_version,
)

LEDGER_PAGE = 1_000
_MAX_ATTEMPT = 2**31
PREVIEW_PAGE = 200
"""Learners of a page: the event loop serves other requests between two pages."""
PREVIEW_MAX_SECONDS = 4.0
"""Below the 5 seconds that a read transaction may last."""


@dataclass(frozen=True, slots=True)
class QuizProgress:
    """A chapter's quiz; its score, in units of 1e-4, follows the course's policy."""

    score: int | None
    attempts: int
    passed: bool


@dataclass(frozen=True, slots=True)
class ChapterProgress:
    """A chapter of the learner's version; a satisfied one has 10,000 basis points."""

    chapter_id: str
    title: str
    is_required: bool
    """The course's percentage and ``all_items`` count it."""
    progress: int
    completed: bool
    time_spent: int
    last_at: int | None
    quiz: QuizProgress | None


@dataclass(frozen=True, slots=True)
class CourseProgress:
    """A learner's latest attempt at a course."""

    user_id: str
    course_id: str
    title: str
    version: int
    attempt: int
    status: EnrolmentStatus | None
    """None before the first event, which enrols."""
    progress: int | None
    completed_chapters: int
    total_chapters: int
    completed_required: int
    required_chapters: int
    time_spent: int
    last_at: int | None
    completed_at: int | None
    newer_version: bool


@dataclass(frozen=True, slots=True)
class LearnerProgress:
    """A learner's course with its chapters, and what is missing for its completion."""

    course: CourseProgress
    chapters: list[ChapterProgress]
    unmet: list[catalogue.UnmetCriterion]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An event of the ledger, and the percentages after it."""

    seq: int
    event: ProgressEvent
    version: int
    attempt: int
    chapter_progress: int | None
    course_progress: int | None


async def current_course(tx: Tx, course_id: str) -> Course:
    """Return a course in its current version; raise ``NotFound``."""
    course = (await catalogue.current_courses(tx, [course_id])).get(course_id)
    if course is None:
        raise NotFound(f"There is no course {course_id!r}.")
    return course


async def learner_progress(
    tx: Tx, user_id: str, course_id: str, completions: Completions
) -> LearnerProgress:
    """Return a learner's course, its chapters, and why it is not complete.

    Raises ``NotFound`` for an unknown course, and for a learner who is not enrolled in a course
    that does not enrol by itself.
    """
    current = await current_course(tx, course_id)
    pair = user_id, course_id
    enrolments = (await catalogue.enrolments(tx, [pair])).get(pair)
    if not enrolments:
        if not current.auto_enrol:
            raise NotFound(f"This learner is not enrolled in the course {course_id!r}.")
        enrolments = [Enrolment(*pair, 1, current.version, "registered", 0, 0)]
        unmet = await find_unmet_criteria(
            tx, ChangedAttempt(enrolments[0], current, initial_state(current), 0), [], completions
        )
        return LearnerProgress(
            _course_progress_of(current, current, None, initial_state(current), user_id, 1),
            [_chapter_progress_of(current, each, None, []) for each in current.chapters.values()],
            unmet,
        )
    last = enrolments[-1]
    course = await catalogue.course_at(tx, course_id, last.version)
    key = (user_id, course_id, last.attempt)
    stored = (await ingest_store.attempt_states(tx, [key])).get(key)
    if stored is None:
        state = initial_state(course)
    elif stored.version != course.version:  # enrolled again by hand, in a newer version
        state = state_in_version(course, stored)
    else:
        state = stored
    attempts = await store.quiz_attempts_of(tx, key)
    quizzes = attempts_by_chapter(attempts)
    changed = ChangedAttempt(last, course, state, state.last_at)
    return LearnerProgress(
        _course_progress_of(current, course, last, state, user_id, last.attempt),
        [
            _chapter_progress_of(
                course, each, state.chapters.get(each.id), quizzes.get(each.id, [])
            )
            for each in course.chapters.values()
        ],
        await find_unmet_criteria(tx, changed, attempts, completions),
    )


async def courses_of_learner(
    tx: Tx, user_id: str, after: str | None, count: int
) -> list[CourseProgress]:
    """Return up to ``count`` courses of a learner, each in the latest attempt."""
    latest = {each.course_id: each for each in await catalogue.enrolments_of(tx, user_id)}
    page = [latest[id] for id in sorted(latest) if after is None or id > after][:count]
    return await progress_of(tx, page)


async def progress_of(tx: Tx, page: Sequence[Enrolment]) -> list[CourseProgress]:
    """Return the progress of some attempts, in their order."""
    current = await catalogue.current_courses(tx, {each.course_id for each in page})
    versions = await catalogue.courses_at(tx, {(each.course_id, each.version) for each in page})
    states = await ingest_store.attempt_totals(tx, [_attempt_key(each) for each in page])
    found = []
    for each in page:
        course = versions[each.course_id, each.version]
        state = states.get(_attempt_key(each)) or initial_state(course)
        found.append(
            _course_progress_of(current[course.id], course, each, state, each.user_id, each.attempt)
        )
    return found


def _course_progress_of(
    current: Course,
    course: Course,
    enrolment: Enrolment | None,
    state: CourseState,
    user_id: str,
    attempt: int,
) -> CourseProgress:
    return CourseProgress(
        user_id=user_id,
        course_id=course.id,
        title=course.title,
        version=course.version,
        attempt=attempt,
        status=None if enrolment is None else enrolment.status,
        progress=percent(course, state),
        completed_chapters=state.satisfied,
        total_chapters=len(course.chapters),
        completed_required=state.required_satisfied,
        required_chapters=len(course.required),
        time_spent=state.time_spent,
        last_at=state.last_at or None,
        completed_at=None if enrolment is None else enrolment.completed_at,
        newer_version=current.version > course.version,
    )


def _chapter_progress_of(
    course: Course, chapter: Chapter, state: ChapterState | None, attempts: Sequence[QuizAttempt]
) -> ChapterProgress:
    state = state or ChapterState()
    satisfied = is_satisfied(chapter, state)
    quiz = None
    if chapter.pass_threshold is not None or attempts:
        score = quiz_score(attempts, course.quiz_policy)
        quiz = QuizProgress(score, len(attempts), state.passed)
    return ChapterProgress(
        chapter_id=chapter.id,
        title=chapter.title,
        is_required=chapter.measured,
        progress=FULL if satisfied else state.progress,
        completed=satisfied,
        time_spent=state.time_spent,
        last_at=state.last_at or None,
        quiz=quiz,
    )


async def latest_enrolments(
    tx: Tx, course_id: str, after: str | None, count: int, learners: PeopleIds | None = None
) -> list[Enrolment]:
    """Return up to ``count`` learners' latest attempts, by user id after ``after``."""
    latest: dict[str, Enrolment] = {}
    key = None if after is None else (after, _MAX_ATTEMPT)
    while len(latest) <= count:  # the next page may have a further attempt of the last learner
        rows = await catalogue.enrolments_in(tx, course_id, key, count + 1, learners)
        latest |= {each.user_id: each for each in rows}
        if len(rows) <= count:
            break
        key = (rows[-1].user_id, rows[-1].attempt)
    return list(latest.values())[:count]


async def course_learners(
    tx: Tx, course_id: str, after: str | None, count: int, learners: PeopleIds | None = None
) -> list[CourseProgress]:
    """Return up to ``count`` learners of a course by user id; raise ``NotFound``."""
    await current_course(tx, course_id)
    return await progress_of(tx, await latest_enrolments(tx, course_id, after, count, learners))


async def event_history(
    tx: Tx, user_id: str, course_id: str, after: int, count: int
) -> list[HistoryEntry]:
    """Return up to ``count`` events after a ledger ``seq``, in recorded order.

    Each has the percentages after it. Earlier events are replayed, but not rolled up. Compacted
    events have no entry; the percentages start with their snapshot.
    """
    await current_course(tx, course_id)
    pair = (user_id, course_id)
    enrolments = (await catalogue.enrolments(tx, [pair])).get(pair)
    if not enrolments:
        return []
    projections = initial_projections(enrolments, await store.snapshots_of(tx, pair))
    entries: list[HistoryEntry] = []
    seqs = await store.ledger_seqs(tx, await store.find_last_seq(tx, pair))
    for start in range(0, len(seqs), LEDGER_PAGE):
        rows = await store.ledger_rows(tx, seqs[start : start + LEDGER_PAGE])
        courses = await catalogue.courses_at(tx, {(course_id, row.course_version) for row in rows})
        for row in rows:
            event = row.event()
            course = courses[course_id, row.course_version]
            attempt = attempt_at(enrolments, event.at).attempt
            if event.type not in ATTEMPT_OPENING_TYPES:
                apply_event(projections[attempt], event, course)
            if row.seq > after:
                projection = effective_projection(projections, enrolments, attempt)
                entries.append(_history_entry(row.seq, event, course, attempt, projection))
                if len(entries) == count:
                    return entries
    return entries


def _history_entry(
    seq: int, event: ProgressEvent, course: Course, attempt: int, projection: AttemptProjection
) -> HistoryEntry:
    state = projection.chapters.get(event.chapter_id or "")
    chapter = course.chapters.get(event.chapter_id or "")
    chapter_progress = None if state is None else state.progress
    if state is not None and chapter is not None and share(chapter, state).satisfied:
        chapter_progress = FULL
    course_progress = percent(course, projection.course_state(course))
    return HistoryEntry(seq, event, course.version, attempt, chapter_progress, course_progress)


async def attempts_in_version(
    tx: Tx, enrolments: Sequence[Enrolment], course: Course
) -> list[ChangedAttempt]:
    """Return the attempts as they are in a version of their course.

    The enrolments name that version already. An attempt without a stored state has no events.
    """
    keys = [_attempt_key(each) for each in enrolments]
    states = await ingest_store.attempt_states(tx, keys)
    attempts = []
    for enrolment, key in zip(enrolments, keys, strict=True):
        stored = states.get(key)
        state = initial_state(course)
        if stored is not None:
            state = state_in_version(course, stored)
        attempts.append(ChangedAttempt(enrolment, course, state, state.last_at))
    return attempts


async def attempts_to_renew(
    tx: Tx, learners: Sequence[Enrolment], course: Course, completions: Completions
) -> list[ChangedAttempt]:
    """Return completed attempts that lack what a new version requires.

    For the policy ``require_new``: each gets a new attempt that carries over. Attempts that fulfil
    the new version are left out, and so are expired completions: a reset renews those.
    """
    if isinstance(course.criteria, AllItems) and not course.required:
        return []  # this version can never be completed
    behind = [
        each for each in learners if each.status == "completed" and each.version < course.version
    ]
    versions = await catalogue.courses_at(tx, {(course.id, each.version) for each in behind})
    valid = []
    for each in behind:
        ends_at = versions[course.id, each.version].valid_until(each.completed_at or 0)
        if ends_at is None or ends_at > tx.now:  # the job that expires them runs once an hour
            valid.append(replace(each, version=course.version, completed_at=None))
    incomplete = []
    for attempt in await attempts_in_version(tx, valid, course):
        if not may_be_complete(attempt) or not await find_new_completion(tx, attempt, completions):
            incomplete.append(attempt)
    return incomplete


async def preview_version_change(
    tx: Tx, course: Course, completions: Completions
) -> VersionChangePreview:
    """Count the learners whom publishing ``course`` would affect.

    It is not published yet. ``newly_complete`` fulfil the new version already, and complete at
    once or at their next visit. The percentage of ``dropping`` falls when they move. ``moved`` move
    at once. ``renewed`` have completed an older version and get another attempt (``require_new``).
    All others who have completed the course are ``unaffected``.

    Raises ``Unavailable`` if counting takes more than four seconds.
    """
    started = perf_counter()
    newly_complete = dropping = unaffected = moved = renewed = 0
    after: str | None = None
    while True:
        page = await latest_enrolments(tx, course.id, after, PREVIEW_PAGE)
        may_move = course.learner_policy != "never"
        movers = [each for each in page if each.completed_at is None and may_move]
        unaffected += len(page) - len(movers)
        moved += len(movers) if course.moves_learners_now else 0
        if course.learner_policy == "require_new":
            count = len(await attempts_to_renew(tx, page, course, completions))
            renewed, unaffected = renewed + count, unaffected - count
        for completes, drops in await _compare_versions(tx, movers, course, completions):
            newly_complete += completes
            dropping += drops and not completes
            unaffected += not completes and not drops
        if len(page) < PREVIEW_PAGE:
            return VersionChangePreview(newly_complete, dropping, unaffected, moved, renewed)
        if perf_counter() - started > PREVIEW_MAX_SECONDS:
            raise Unavailable(
                "The course has too many learners for a dry run: counting them takes more than"
                f" {PREVIEW_MAX_SECONDS:.0f} seconds."
            )
        after = page[-1].user_id


async def _compare_versions(
    tx: Tx, movers: Sequence[Enrolment], course: Course, completions: Completions
) -> list[tuple[bool, bool]]:
    """Return for each learner whether the new version completes, and drops, them."""
    old_courses = await catalogue.courses_at(
        tx, {(each.course_id, each.version) for each in movers}
    )
    old_states = await ingest_store.attempt_totals(tx, [_attempt_key(each) for each in movers])
    moved = [replace(each, version=course.version) for each in movers]
    compared = []
    for before, attempt in zip(movers, await attempts_in_version(tx, moved, course), strict=True):
        old_course = old_courses[before.course_id, before.version]
        old_percent = percent(old_course, old_states.get(attempt.key) or initial_state(old_course))
        new_percent = percent(course, attempt.state)
        completes = (
            may_be_complete(attempt)
            and await find_new_completion(tx, attempt, completions) is not None
        )
        compared.append((completes, (new_percent or 0) < (old_percent or 0)))
    return compared


def _attempt_key(enrolment: Enrolment) -> AttemptKey:
    return enrolment.user_id, enrolment.course_id, enrolment.attempt
