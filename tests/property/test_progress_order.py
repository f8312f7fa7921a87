"""The same events give the same progress in any order, repetition and batch.

The tests use the real ingest on real databases; replaying the ledger gives the stored rows again.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.database import database_at
from tests.support.effort import EFFORT
from tools.servers.postgres import Postgres

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import AttemptKey, Catalogue
from homeroom.completion.api import Completions
from homeroom.db.database import Database
from homeroom.progress import ingest_store, store
from homeroom.progress.batch import IngestBatch
from homeroom.progress.event import (
    ATTEMPT_OPENING_TYPES,
    EventSender,
    EventStatus,
    EventType,
    ProgressEvent,
    SentEvent,
    SentQuiz,
)
from homeroom.progress.event_validation import validate_event
from homeroom.progress.ledger import project_attempts
from homeroom.progress.rollup import ChapterState, CourseState, percent

NOW = 1_795_000_000_000_000
SENDER = EventSender(person=None, trusted=True, may_manage=True)
MANAGED = ATTEMPT_OPENING_TYPES | {EventType.CHAPTER_WAIVED}
REASON = msgspec.Raw(b'{"reason": "Done at the last employer."}')
UNTRUSTED = EventSender(person=None, trusted=False, may_manage=False)
COURSES: dict[str, dict[str, Any]] = {
    "plain": {"quizPolicy": "average"},
    "timed": {"criteria": {"any": [{"type": "min_time", "seconds": 5_000}, {"type": "all_items"}]}},
}
CHAPTERS = [
    {"id": "a", "title": "A"},
    {"id": "b", "title": "B", "weight": 2.5, "moveOn": "Passed", "quiz": {"passThreshold": 0.7}},
    {
        "id": "c",
        "title": "C",
        "moveOn": "CompletedAndPassed",
        "quiz": {"passThreshold": 0.5},
    },
    {"id": "d", "title": "D", "required": False},
]
PAIRS = [(user, course) for user in ("ada", "bob") for course in COURSES]


def _event(
    number: int, person: str, course: str, kind: EventType, at: int, part: Any, trusted: bool
) -> ProgressEvent:
    chapter, progress, time_spent, (attempt, score) = part
    no_chapter = kind in ATTEMPT_OPENING_TYPES
    sent = SentEvent(
        id=f"event-{number}",
        user_id=person,
        course_id=course,
        event_type=kind,
        timestamp=(NOW + at * 1_000_000) / 1_000,
        chapter_id=None if no_chapter else chapter,
        progress=progress if kind is EventType.CHAPTER_PROGRESS else None,
        time_spent=None if no_chapter else time_spent,
        quiz=SentQuiz(attempt, score, 10) if kind is EventType.QUIZ_ATTEMPT else None,
        metadata=REASON if kind is EventType.CHAPTER_WAIVED else msgspec.UNSET,
    )
    event = validate_event(sent, SENDER if trusted else UNTRUSTED, NOW)
    assert isinstance(event, ProgressEvent)
    return event


def _lists(kinds: Sequence[EventType], most: int) -> st.SearchStrategy[list[ProgressEvent]]:
    part = st.tuples(
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from([0, 10, 33.33, 99.999, 100]),
        st.integers(0, 3_000),
        st.tuples(st.sampled_from(["t1", "t2", "t3"]), st.integers(0, 10)),
    )
    one = st.tuples(
        st.sampled_from([*PAIRS, PAIRS[0], PAIRS[0], PAIRS[0], PAIRS[0]]),
        st.sampled_from(list(kinds)),
        st.integers(-50, 0),
        part,
        st.integers(0, 4).map(bool),
    )
    # By default hypothesis draws short lists, whose events hardly ever concern one chapter.
    return st.lists(one, min_size=most // 2, max_size=most).map(
        lambda drawn: [
            _event(number, *pair, kind, at, part, trusted or kind in MANAGED)
            for number, (pair, kind, at, part, trusted) in enumerate(drawn)
        ]
    )


@dataclass
class Rows:
    """All that events decide; dates of completion (B9) and time flags apart."""

    courses: dict[AttemptKey, CourseState]
    """Without ``last_seq``, which depends on the order of arrival."""
    quizzes: list[tuple[Any, ...]]
    enrolments: list[tuple[Any, ...]]
    completions: list[tuple[Any, ...]]


async def _prepare(place: Path | str) -> None:
    db = database_at(place)
    await db.open()
    async with db.write() as tx:
        for id, more in COURSES.items():
            body = {"title": id, "units": [{"id": "u", "title": "U", "chapters": CHAPTERS}], **more}
            await Catalogue().publish(tx, id, body)
    await db.close()


Copies = Callable[[], AbstractContextManager[Path | str]]
"""Opens a database of its own in which the courses are published."""


@pytest.fixture(scope="module", params=["migrated_file", "postgres"])
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Copies]:
    source: Path | Postgres = request.getfixturevalue(request.param)
    if isinstance(source, Path):
        yield _copies_of_file(source, tmp_path_factory.mktemp("order") / "homeroom.db")
        return
    name = source.make_database(request.getfixturevalue("migrated_database"))
    asyncio.run(_prepare(source.url(name)))
    yield partial(_database_copy, source, name)
    source.drop_database(name)


def _copies_of_file(migrated: Path, path: Path) -> Copies:
    shutil.copy(migrated, path)
    asyncio.run(_prepare(path))
    return partial(_file_copy, path)


@contextmanager
def _file_copy(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copy(path, Path(folder) / "homeroom.db"))


@contextmanager
def _database_copy(server: Postgres, template: str) -> Iterator[str]:
    name = server.make_database(template)
    yield server.url(name)
    server.drop_database(name)


async def _ingest(
    place: Path | str, batches: Sequence[Sequence[ProgressEvent]]
) -> tuple[Rows, int]:
    """Ingest batches into a database; return the rows and the accepted events."""
    db = database_at(place)
    await db.open()
    completions, accepted = Completions([]), 0
    try:
        for batch in batches:
            async with db.write() as tx:
                results = await IngestBatch(tx, list(batch), completions).run()
            found = [result.status for result in results]
            assert set(found) <= {EventStatus.ACCEPTED, EventStatus.DUPLICATE}
            accepted += found.count(EventStatus.ACCEPTED)
        await _check_replay(db)
        async with db.read() as tx:
            states, _ = await ingest_store.course_states(tx, PAIRS)
            rows = Rows(
                {key: replace(state, last_seq=0) for key, state in states.items()},
                await tx.fetch("SELECT * FROM quiz_attempt ORDER BY 1, 2, 3, 4, 5"),
                await tx.fetch(
                    "SELECT user_id, course_id, attempt, version, status, opened_at FROM enrolment"
                    " ORDER BY 1, 2, 3"
                ),
                await tx.fetch("SELECT user_id, course_id, attempt FROM completion ORDER BY 1, 2"),
            )
    finally:
        await db.close()
    return rows, accepted


async def _check_replay(db: Database) -> None:
    """Compare every stored row with the replayed ledger (rule B14)."""
    async with db.read() as tx:
        for pair in PAIRS:
            enrolments = (await catalogue.enrolments(tx, [pair])).get(pair)
            if enrolments is None:
                continue
            projections, courses = await project_attempts(
                tx, enrolments, await store.find_last_seq(tx, pair)
            )
            states, _ = await ingest_store.course_states(tx, [pair])
            for enrolment in enrolments:
                key = (*pair, enrolment.attempt)
                projection = projections[enrolment.attempt]
                course = courses[enrolment.version]
                state = projection.course_state(course)
                assert states.get(key, state) == state
                assert key in states or not projection.events
                quizzes = {quiz.key: quiz for quiz in await store.quiz_attempts_of(tx, key)}
                assert quizzes == projection.quizzes
                points = percent(course, state)
                assert points is not None
                assert 0 <= points <= 10_000
                satisfied = state.required_satisfied == len(course.required)
                assert (points == 10_000) == satisfied


def _in_copy(published: Copies, batches: Sequence[Sequence[ProgressEvent]]) -> tuple[Rows, int]:
    with published() as place:
        return asyncio.run(_ingest(place, batches))


def _chapters(rows: Rows) -> dict[AttemptKey, dict[str, ChapterState]]:
    return {key: state.chapters for key, state in rows.courses.items()}


def _split(events: Sequence[ProgressEvent], cuts: Sequence[int]) -> list[Sequence[ProgressEvent]]:
    places = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    return [events[start:end] for start, end in pairwise(places)]


KINDS = [
    EventType.CHAPTER_PROGRESS,
    EventType.CHAPTER_COMPLETE,
    EventType.QUIZ_ATTEMPT,
    EventType.HEARTBEAT,
    EventType.CHAPTER_WAIVED,
]
FEW = settings(
    max_examples=40 * EFFORT,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FEW
@given(events=_lists(KINDS, 30), data=st.data())
def test_any_order_repetition_and_splitting_gives_the_same_progress(
    published: Copies, events: list[ProgressEvent], data: st.DataObject
) -> None:
    repeated = data.draw(st.lists(st.sampled_from(events), max_size=8))
    shuffled = data.draw(st.permutations([*events, *repeated]))
    cuts = data.draw(st.lists(st.integers(0, 40), max_size=6))
    plain, counted = _in_copy(published, [events])
    mixed, counted_too = _in_copy(published, _split(shuffled, cuts))
    assert mixed == plain
    assert counted == counted_too == len(events)


@FEW
@given(events=_lists([*KINDS, *sorted(ATTEMPT_OPENING_TYPES)], 16), data=st.data())
def test_resets_and_renewals_in_any_order_give_the_attempts_of_the_ledger(
    published: Copies, events: list[ProgressEvent], data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, 40), max_size=4))
    shuffled = data.draw(st.permutations(events))
    plain, _ = _in_copy(published, [[event] for event in events])
    mixed, _ = _in_copy(published, _split(shuffled, cuts))
    assert _chapters(mixed) == _chapters(plain)
    assert mixed.quizzes == plain.quizzes
    openings = sum(event.type in ATTEMPT_OPENING_TYPES for event in events)
    learners = {(event.user_id, event.course_id) for event in events}
    assert len(plain.enrolments) == len(mixed.enrolments) == len(learners) + openings
    total = sum(event.time_spent for event in events)
    for rows in (plain, mixed):  # time is not carried over: a second counts once
        assert sum(state.time_spent for state in rows.courses.values()) == total


@FEW
@given(
    times=st.lists(st.integers(-50, 0), min_size=3, max_size=3),
    noise=st.lists(st.tuples(st.integers(-50, 0), st.sampled_from("abcd")), max_size=5),
    data=st.data(),
)
def test_the_date_of_completion_is_the_same_in_any_order(
    published: Copies, times: list[int], noise: list[tuple[int, str]], data: st.DataObject
) -> None:
    """Check rule B9 for items that have one deciding event each."""
    kinds = [
        ("a", EventType.CHAPTER_COMPLETE, 0),
        ("b", EventType.QUIZ_ATTEMPT, 9),
        ("c", EventType.QUIZ_ATTEMPT, 5),
    ]
    deciding = [
        _event(number, "ada", "plain", kind, at, (id, 0, 0, ("t", score)), True)
        for number, (at, (id, kind, score)) in enumerate(zip(times, kinds, strict=True))
    ]
    finished = _event(
        3, "ada", "plain", EventType.CHAPTER_COMPLETE, -25, ("c", 0, 0, ("t", 0)), True
    )
    others = [
        _event(
            10 + n, "ada", "plain", EventType.CHAPTER_PROGRESS, at, (id, 33.33, 1, ("t", 0)), True
        )
        for n, (at, id) in enumerate(noise)
    ]
    events = [*deciding, finished, *others]
    shuffled = data.draw(st.permutations(events))
    latest = max(event.at for event in [*deciding, finished])
    cuts = data.draw(st.lists(st.integers(0, 40), max_size=4))
    assert _completed_at(published, _split(events, [])) == [(latest,)]
    assert _completed_at(published, _split(shuffled, cuts)) == [(latest,)]


def _completed_at(
    published: Copies, batches: Sequence[Sequence[ProgressEvent]]
) -> list[tuple[Any, ...]]:
    async def run(place: Path | str) -> list[tuple[Any, ...]]:
        await _ingest(place, batches)
        db = database_at(place)
        await db.open()
        try:
            async with db.read() as tx:
                return await tx.fetch("SELECT completed_at FROM completion")
        finally:
            await db.close()

    with published() as place:
        return asyncio.run(run(place))
