"""Opening, rebuilding and compacting attempts by the ledger, and its integrity."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from msgspec.structs import replace

from homeroom.backup.integrity import IntegrityCheck, IntegrityRules, IntegrityTotal
from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course, Enrolment, LearnerCourse
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Unavailable
from homeroom.instant import DAY, to_microseconds
from homeroom.jobs import api as jobs
from homeroom.progress import ingest_store, store
from homeroom.progress.event import ATTEMPT_OPENING_TYPES, EventType
from homeroom.progress.new_completion import ChangedAttempt
from homeroom.progress.replay import AttemptProjection, compact_rows, replay
from homeroom.progress.rollup import (
    CourseState,
    carried_over_state,
    initial_state,
    state_in_version,
)

COMPACTION_SCAN_PAGE = 2_000
"""Ledger rows that are scanned together."""
COURSES_PER_COMPACTION_COMMIT = 20
"""Bounds the time for which ingest waits for the one writer of a SQLite file."""
COURSES_PER_COMPACTION_RUN = 20_000
"""Some minutes of work; the next run continues."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CompactionResult:
    """Counts of a compaction."""

    courses: int = 0
    """Learners' courses with compacted events."""
    events: int = 0
    """Compacted events."""
    left: int = 0
    """Learners' courses that were left as they are, because compaction would change them."""

    def __add__(self, other: CompactionResult) -> CompactionResult:
        """Return the sum of both."""
        return CompactionResult(
            self.courses + other.courses, self.events + other.events, self.left + other.left
        )


class _CompactionMismatch(Exception):
    """The compacted ledger of a course would give another state than the stored one."""


async def open_attempts(
    tx: Tx, enrolments: Sequence[Enrolment], course: Course, last_seq: int
) -> list[Enrolment]:
    """Open the attempts that are missing; return all, each with its opening time.

    Resets and renewals may arrive in any order: attempt n + 1 opens at the n-th of them by time, so
    that every order of arrival gives the same attempts. The ledger holds them already; ``last_seq``
    is the learner's latest row in it.
    """
    first = enrolments[0]
    events = [row.event() for row in await store.ledger_of(tx, last_seq)]
    openings = sorted(
        (event.at, event.id, event.type is EventType.ATTEMPT_RENEWED)
        for event in events
        if event.type in ATTEMPT_OPENING_TYPES
    )
    newest = enrolments[-1].attempt
    new = [
        Enrolment(
            first.user_id,
            first.course_id,
            newest + more,
            course.version,
            "registered",
            tx.now,
            0,
            ended_at=enrolments[-1].ended_at,
        )
        for more in range(1, len(openings) + 2 - len(enrolments))
    ]
    await catalogue.add_enrolments(tx, new)
    opened = [
        replace(enrolment, opened_at=at, carried_over=carried_over)
        for enrolment, (at, _, carried_over) in zip((*enrolments[1:], *new), openings, strict=True)
    ]
    await catalogue.update_enrolments(tx, opened)
    return [first, *opened]


def latest_known_time(enrolment: Enrolment, state: CourseState) -> int:
    """Return the latest time in an attempt's stored state; only waivers may be later."""
    waived = [each.waived_at for each in state.chapters.values() if each.waived_at is not None]
    return max(enrolment.opened_at, state.last_at, *waived)


def ends_before(at: int, enrolment: Enrolment, state: CourseState) -> bool:
    """Return whether the state proves that an attempt's events are before an instant.

    It has only the earliest waiver of a chapter, so with a waiver only the ledger is exact.
    """
    has_waiver = any(each.waived_at is not None for each in state.chapters.values())
    return not has_waiver and at > max(enrolment.opened_at, state.last_at)


async def renew_attempt(
    tx: Tx, last: Enrolment, course: Course, old: CourseState, at: int, last_seq: int
) -> None:
    """Open an attempt that carries over, without reading the ledger.

    Requires ``ends_before(at, last, old)``; ``last_seq`` is the ledger row of the renewal. Equal to
    ``open_attempts`` and ``rebuild_attempts``, which read the learner's whole ledger: an edit may
    renew thousands of attempts at once.
    """
    status: catalogue.EnrolmentStatus = "in_progress" if old.chapters else "registered"
    number = last.attempt + 1
    opened = Enrolment(
        last.user_id,
        last.course_id,
        number,
        course.version,
        status,
        tx.now,
        at,
        carried_over=True,
        ended_at=last.ended_at,
    )
    await catalogue.add_enrolments(tx, [opened])
    state = carried_over_state(course, old)
    state.last_seq = last_seq
    await ingest_store.save_course_states(tx, [((last.user_id, last.course_id, number), state)])
    await store.copy_quiz_attempts(tx, (last.user_id, last.course_id, last.attempt))


async def project_attempts(
    tx: Tx, enrolments: Sequence[Enrolment], last_seq: int
) -> tuple[dict[int, AttemptProjection], dict[int, Course]]:
    """Return the state of each attempt from the ledger, and the course by version."""
    rows = await store.ledger_of(tx, last_seq)
    user_id, course_id = enrolments[0].user_id, enrolments[0].course_id
    versions = {row.course_version for row in rows} | {each.version for each in enrolments}
    courses = await _courses_by_version(tx, course_id, versions)
    snapshots = await store.snapshots_of(tx, (user_id, course_id))
    return replay(rows, enrolments, courses.__getitem__, snapshots), courses


async def rebuild_attempts(
    tx: Tx, enrolments: Sequence[Enrolment], last_seq: int
) -> list[ChangedAttempt]:
    """Replace a learner's rolled-up rows by those of the ledger.

    Return the attempts that may be complete. An attempt that carried over is none of them before
    its first event: opening it completes as little as an edit does.
    """
    projections, courses = await project_attempts(tx, enrolments, last_seq)
    pair = enrolments[0].user_id, enrolments[0].course_id
    await store.delete_rollups(tx, pair)
    rebuilt, changed = [], []
    for enrolment in enrolments:
        projection = projections[enrolment.attempt]
        course = courses[enrolment.version]
        state = projection.course_state(course)
        key = (*pair, enrolment.attempt)
        quizzes = [(key, quiz) for quiz in projection.quizzes.values()]
        await ingest_store.save_quiz_attempts(tx, quizzes)
        await ingest_store.save_course_states(tx, [(key, state)])
        if (projection.events or projection.chapters) and enrolment.status == "registered":
            enrolment = replace(enrolment, status="in_progress")
            changed.append(enrolment)
        if projection.events or not enrolment.carried_over:
            rebuilt.append(ChangedAttempt(enrolment, course, state, state.last_at))
    await catalogue.update_enrolments(tx, changed)
    return rebuilt


def compaction_cutoff(now: int, retention: timedelta) -> int:
    """Return the instant before which events are compacted: a midnight UTC.

    So a learner's ledger is read once a day at most, and not for the few events of each run.
    """
    return (now - to_microseconds(retention)) // DAY * DAY


async def compact_events(
    db: Database,
    received_before: int,
    report_progress: Callable[[CompactionResult], Awaitable[None]],
) -> CompactionResult:
    """Compact events that were received before an instant, oldest first.

    Ends with the scan page on which ``COURSES_PER_COMPACTION_RUN`` is reached, or on which no event
    is old enough. Calls ``report_progress`` after every page with the counts so far.
    """
    after, total = 0, CompactionResult()
    seen: set[LearnerCourse] = set()
    while total.courses < COURSES_PER_COMPACTION_RUN:
        async with db.read() as tx:
            rows = await store.scan_ledger(tx, after, COMPACTION_SCAN_PAGE)
        old = [row for row in rows if row.received_at < received_before]
        pairs = sorted(
            {(row.user_id, row.course_id) for row in old if row.type not in ATTEMPT_OPENING_TYPES}
            - seen
        )
        seen.update(pairs)
        total_before_page = total
        for start in range(0, len(pairs), COURSES_PER_COMPACTION_COMMIT):
            chunk = pairs[start : start + COURSES_PER_COMPACTION_COMMIT]
            total += await _compact_courses(db, chunk, received_before)
        if not old or len(rows) < COMPACTION_SCAN_PAGE:
            break
        after = rows[-1].seq
        if total != total_before_page:
            await report_progress(total)
    return total


async def _compact_courses(
    db: Database, pairs: Sequence[LearnerCourse], received_before: int
) -> CompactionResult:
    """Compact learners' courses in one commit; after a failure, each in its own."""

    async def compact(tx: Tx) -> CompactionResult:
        await catalogue.lock_learners(tx, {user_id for user_id, _ in pairs})
        total = CompactionResult()
        for pair in pairs:
            total += await _compact_course(tx, pair, received_before)
        return total

    try:
        return await db.transact(compact)
    except Unavailable:
        raise
    except Exception as error:  # one unreadable row must not block the other courses
        if len(pairs) == 1:
            [(user_id, course_id)] = pairs
            # Not the error's text: it may quote the event.
            reason = "differs" if isinstance(error, _CompactionMismatch) else type(error).__name__
            async with db.write() as tx:
                user_hash = await jobs.hash_person(tx, user_id)
            log.warning(
                "events_not_compacted", user_id_hash=user_hash, course_id=course_id, reason=reason
            )
            return CompactionResult(left=1)
    total = CompactionResult()
    for pair in pairs:
        total += await _compact_courses(db, [pair], received_before)
    return total


async def _compact_course(tx: Tx, pair: LearnerCourse, received_before: int) -> CompactionResult:
    """Compact the old events of a learner's course.

    Raises ``_CompactionMismatch`` if that would change its state.
    """
    rows = await store.ledger_of(tx, await store.find_last_seq(tx, pair))
    old = [
        row
        for row in rows
        if row.received_at < received_before and row.type not in ATTEMPT_OPENING_TYPES
    ]
    if not old:  # another worker has compacted them
        return CompactionResult()
    enrolments = (await catalogue.enrolments(tx, [pair])).get(pair)
    if enrolments is None:
        raise _CompactionMismatch
    courses = await _courses_by_version(tx, pair[1], {row.course_version for row in old})
    known = await store.snapshots_of(tx, pair)
    snapshots = compact_rows(old, enrolments, courses.__getitem__, known)
    await store.save_snapshots(tx, pair, snapshots)
    chain = [row.seq for row in rows]
    remaining = await store.delete_ledger_rows(tx, chain, {row.seq for row in old})
    projections, courses = await project_attempts(tx, enrolments, max(remaining, default=0))
    if not await _matches_saved_state(tx, pair, enrolments, projections, courses):
        raise _CompactionMismatch
    await store.set_last_seqs(
        tx, [((*pair, attempt), projection.last_seq) for attempt, projection in projections.items()]
    )
    return CompactionResult(courses=1, events=len(old))


async def _matches_saved_state(
    tx: Tx,
    pair: LearnerCourse,
    enrolments: Sequence[Enrolment],
    projections: Mapping[int, AttemptProjection],
    courses: Mapping[int, Course],
) -> bool:
    """Return whether projections equal the stored state, ``last_seq`` apart."""
    states, _ = await ingest_store.course_states(tx, [pair])
    for enrolment in enrolments:
        key, course = (*pair, enrolment.attempt), courses[enrolment.version]
        projection = projections[enrolment.attempt]
        state = states.get(key) or initial_state(course)
        if state.version != course.version:  # enrolled again by hand, and without an event since
            state = state_in_version(course, state)
        if replace(state, last_seq=0) != replace(projection.course_state(course), last_seq=0):
            return False
        if set(projection.quizzes.values()) != set(await store.quiz_attempts_of(tx, key)):
            return False
    return True


async def _courses_by_version(tx: Tx, course_id: str, versions: set[int]) -> dict[int, Course]:
    course_by_key = await catalogue.courses_at(tx, {(course_id, version) for version in versions})
    return {version: course for (_, version), course in course_by_key.items()}


_TIME_TOTALS = (
    "SELECT user_id, course_id, CAST(sum(recorded) AS BIGINT) AS ledger,"
    " CAST(sum(counted) AS BIGINT) AS course FROM ("
    "SELECT user_id, course_id, time_spent AS recorded, 0 AS counted FROM progress_event"
    " WHERE type NOT IN ('progress_reset', 'attempt_renewed') UNION ALL"
    " SELECT user_id, course_id, time_spent, 0 FROM progress_fold UNION ALL"
    " SELECT user_id, course_id, 0, time_spent FROM course_progress) AS both_of"
    " GROUP BY user_id, course_id"
)
_CHAIN_ENDS = (
    "SELECT user_id, course_id, max(seq) AS ledger, max(last) AS course FROM ("
    "SELECT user_id, course_id, seq, 0 AS last FROM progress_event UNION ALL"
    " SELECT user_id, course_id, 0, last_seq FROM course_progress) AS both_of"
    " GROUP BY user_id, course_id"
)

INTEGRITY_RULES = IntegrityRules(
    totals=(
        IntegrityTotal(
            "ledger seconds",
            "SELECT CAST(coalesce(sum(time_spent), 0) AS BIGINT) FROM (SELECT time_spent"
            " FROM progress_event UNION ALL SELECT time_spent FROM progress_fold) AS both_of",
        ),
        IntegrityTotal(
            "course seconds",
            "SELECT CAST(coalesce(sum(time_spent), 0) AS BIGINT) FROM course_progress",
        ),
    ),
    checks=(
        IntegrityCheck(
            "time spent",
            "Learner {} in course {}: the ledger has {} s and the course has {} s.",
            f"SELECT user_id, course_id, ledger, course FROM ({_TIME_TOTALS}) AS times"
            " WHERE ledger <> course",
        ),
        IntegrityCheck(
            "chain",
            "Ledger row {} names row {} as the previous one, but the previous one is {}.",
            "SELECT seq, coalesce(CAST(previous AS TEXT), 'none'),"
            " coalesce(CAST(before AS TEXT), 'none') FROM"
            " (SELECT seq, previous, lag(seq) OVER (PARTITION BY user_id, course_id ORDER BY seq)"
            " AS before FROM progress_event) AS linked"
            " WHERE coalesce(previous, 0) <> coalesce(before, 0)",
        ),
        IntegrityCheck(
            "end of the chain",
            "Learner {} in course {}: the ledger ends with row {}, the course with row {}.",
            f"SELECT user_id, course_id, ledger, course FROM ({_CHAIN_ENDS}) AS ends"
            " WHERE ledger <> course",
        ),
    ),
)
"""Checks of the ledger against the rolled-up rows, for ``homeroom check`` and restored backups.

They add the time of all attempts of a learner: events move between attempts as these open.
Snapshots count as part of the ledger. A row 0 means that there is none.
"""
