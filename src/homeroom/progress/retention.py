"""Fold what is old in the ledger into what replay starts from, and take its rows away.

Nothing of a learner's progress may change by it: what the ledger and the folds say afterwards is
held against what is kept, before the commit, and a course of which they differ stays as it was
(decision 0008).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from msgspec.structs import replace

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course, Enrolment
from homeroom.clock import DAY, microseconds
from homeroom.db.database import Database
from homeroom.db.tx import Row, Tx
from homeroom.errors import Unavailable
from homeroom.progress import store
from homeroom.progress.event import OPENS_ATTEMPT
from homeroom.progress.rebuild import project
from homeroom.progress.replay import Projection, event_of, folded
from homeroom.progress.rollup import fresh, moved_to

SCAN_PAGE = 2_000
"""Ledger rows that are looked at together."""
PAIRS_A_COMMIT = 20
"""So few that ingest does not wait long for the one writer of a SQLite file."""
PAIRS_A_RUN = 20_000
"""Some minutes' work; the next run goes on."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Folded:
    """What became of some learners' courses."""

    courses: int = 0
    """Of how many learners' courses something was folded."""
    events: int = 0
    """How many events were folded."""
    left: int = 0
    """Courses that would have read differently, and so are as they were."""

    def __add__(self, other: Folded) -> Folded:
        """Return both together."""
        return Folded(
            self.courses + other.courses, self.events + other.events, self.left + other.left
        )


class _Differs(Exception):
    """What is left of a learner's course would not say what is kept of it."""


def bound(now: int, retention: timedelta) -> int:
    """Return the instant before which events go: a midnight UTC, so that a course is read daily.

    Were it the very instant, a learner's whole ledger would be read for the few events of each run.
    """
    return (now - microseconds(retention)) // DAY * DAY


async def fold_events(
    db: Database, before: int, told: Callable[[Folded], Awaitable[None]]
) -> Folded:
    """Fold events that were received before an instant (microseconds UTC), oldest first.

    It ends with the page of the ledger on which ``PAIRS_A_RUN`` courses of learners are reached, or
    on which everything is younger. ``told`` hears after every page how far it is.
    """
    after, total = 0, Folded()
    seen: set[store.Pair] = set()
    while total.courses < PAIRS_A_RUN:
        async with db.read() as tx:
            rows = await store.oldest_rows(tx, after, SCAN_PAGE)
        old = [row for row in rows if row[4] < before]
        pairs = sorted({(row[1], row[2]) for row in old if row[3] not in OPENS_ATTEMPT} - seen)
        seen.update(pairs)
        before_page = total
        for start in range(0, len(pairs), PAIRS_A_COMMIT):
            total += await _fold(db, pairs[start : start + PAIRS_A_COMMIT], before)
        if not old or len(rows) < SCAN_PAGE:
            break
        after = rows[-1][0]
        if total != before_page:
            await told(total)
    return total


async def _fold(db: Database, pairs: Sequence[store.Pair], before: int) -> Folded:
    """Fold some learners' courses in one commit; where one would differ, each in its own."""

    async def work(tx: Tx) -> Folded:
        await catalogue.lock_learners(tx, {user_id for user_id, _ in pairs})
        total = Folded()
        for pair in pairs:
            total += await _fold_course(tx, pair, before)
        return total

    try:
        return await db.transact(work)
    except Unavailable:
        raise
    except Exception as error:  # one row that cannot be read must not keep all others
        if len(pairs) == 1:
            [(user_id, course_id)] = pairs
            # Not what the error says: that may be out of the event.
            why = "differs" if isinstance(error, _Differs) else type(error).__name__
            log.warning("events_not_folded", user_id=user_id, course_id=course_id, why=why)
            return Folded(left=1)
    total = Folded()
    for pair in pairs:
        total += await _fold(db, [pair], before)
    return total


async def _fold_course(tx: Tx, pair: store.Pair, before: int) -> Folded:
    """Fold what is old of one learner's course; raise ``_Differs`` if that would change it."""
    rows = await store.ledger_of(tx, await store.last_seq(tx, pair))
    old = [row for row in rows if _may_go(row, before)]
    if not old:  # another worker was here
        return Folded()
    windows = (await catalogue.enrolments(tx, [pair])).get(pair)
    if windows is None:
        raise _Differs
    versions = await catalogue.courses_at(tx, {(pair[1], event_of(row)[1]) for row in old})
    courses = {version: course for (_, version), course in versions.items()}
    folds = folded(old, windows, courses.__getitem__, await store.folds_of(tx, pair))
    await store.save_folds(tx, pair, folds)
    chain = [row[0] for row in rows]
    kept = await store.remove_rows(tx, chain, {row[0] for row in old})
    projections, courses = await project(tx, windows, max(kept, default=0))
    if not await _is_same(tx, pair, windows, projections, courses):
        raise _Differs
    ends = [(projections[each.attempt].last_seq, *pair, each.attempt) for each in windows]
    await store.move_ends(tx, ends)
    return Folded(courses=1, events=len(old))


def _may_go(row: Row, before: int) -> bool:
    event, _ = event_of(row)
    return event.received_at < before and event.type not in OPENS_ATTEMPT


async def _is_same(
    tx: Tx,
    pair: store.Pair,
    windows: Sequence[Enrolment],
    projections: Mapping[int, Projection],
    courses: Mapping[int, Course],
) -> bool:
    """Say whether projections are what is kept of a learner's course, but for the last rows."""
    states, _ = await store.courses(tx, [pair])
    for enrolment in windows:
        key, course = (*pair, enrolment.attempt), courses[enrolment.version]
        projection = projections[enrolment.attempt]
        state = states.get(key) or fresh(course)
        if state.version != course.version:  # enrolled anew by hand, and not seen since
            state = moved_to(course, state)
        if replace(state, last_seq=0) != replace(projection.course_state(course), last_seq=0):
            return False
        reports = {
            (quiz.chapter_id, quiz.attempt_id, quiz.scaled, quiz.threshold, quiz.at, event_id)
            for quiz, event_id in projection.quizzes.values()
        }
        if reports != set(await store.quiz_reports(tx, key)):
            return False
    return True
