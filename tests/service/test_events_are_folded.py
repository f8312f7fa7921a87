"""Compaction deletes old events after their retention and changes no progress."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs
from tests.service.test_release_side_by_side import finish_a_course, serving
from tests.support.condition import until
from tests.support.database import url_of
from tests.support.homeroom_process import CommandLine
from tests.support.populated_school import change
from tests.support.progress_school import (
    SERVICE,
    School,
    attempt_at_quiz,
    chapter,
    event,
    open_school,
    quiz,
)

from homeroom.bootstrap import database_commands
from homeroom.db.database import Database
from homeroom.instant import DAY, to_rfc3339
from homeroom.jobs.api import enqueue
from homeroom.jobs.job_log import hash_person
from homeroom.progress import ledger as ledger_module
from homeroom.progress import store
from homeroom.progress.jobs import CompactEvents
from homeroom.settings import load

pytestmark = [pytest.mark.anyio, pytest.mark.service]
RETENTION = timedelta(days=90)
LATER = timedelta(days=92)
"""Long enough for all that was received before to go: the bound is a midnight."""
COURSE = "SELECT user_id, course_id, attempt, version, weighted_sum, required_satisfied, satisfied,"
STATE = (
    f"{COURSE} time_spent, unattributed, last_at, chapters FROM course_progress ORDER BY 1, 2, 3"
)
QUIZZES = "SELECT * FROM quiz_attempt ORDER BY 1, 2, 3, 4, 5"


@pytest.fixture
async def school(db: Database) -> AsyncIterator[School]:
    async with open_school(db, event_retention=RETENTION) as opened:
        await opened.publish("fire", chapter("a"), quiz("q"), chapter("c", required=False))
        yield opened


async def fold(school: School) -> dict[str, int]:
    outcome = await school.jobs.compact_events(None, CompactEvents())  # type: ignore[arg-type]
    found: dict[str, int] = outcome.result  # type: ignore[union-attr]
    return found


async def history(school: School) -> list[dict[str, Any]]:
    answer = await school.http.get(
        "/api/v1/courses/fire/progress/history", params={"userId": "ada"}, headers=SERVICE
    )
    assert answer.status_code == 200, answer.text
    lines: list[dict[str, Any]] = answer.json()["items"]
    return lines


async def faults(database: Path | str) -> list[str]:
    settings = load(database_url=url_of(database))
    return list((await asyncio.to_thread(database_commands.verify_database, settings, None)).faults)


async def ledger(school: School) -> list[str]:
    return [id for (id,) in await school.rows("SELECT id FROM progress_event ORDER BY seq")]


async def learn(school: School) -> None:
    """Send events of every type for Ada, and some for Bob."""
    await school.send(
        event("1", progress=40, timeSpent=60),
        event("2", "heartbeat", chapterId=None, timeSpent=7),
        attempt_at_quiz("3", 5, chapterId="q", timeSpent=20),
    )
    await school.send(
        attempt_at_quiz("4", 9, chapterId="q", timestamp="2026-11-20T09:20:00Z"),
        event("5", progress=10, chapterId="c", timestamp="2026-11-20T09:30:00Z"),
        event("b1", progress=33, timeSpent=5, userId="bob"),
    )


def soon(school: School) -> str:
    return to_rfc3339(school.db.clock.now())


async def test_compaction_changes_no_progress_and_no_scores(
    school: School, database: Path | str
) -> None:
    await learn(school)
    school.db.clock.advance(LATER)
    await school.send(event("6", progress=60, timeSpent=3, timestamp=soon(school)))
    kept = [await school.rows(STATE), await school.rows(QUIZZES)]
    seen = [await school.progress(), await school.progress("bob")]
    assert await fold(school) == {"courses": 2, "events": 6, "left": 0}
    assert await ledger(school) == ["6"]
    assert [await school.rows(STATE), await school.rows(QUIZZES)] == kept
    assert [await school.progress(), await school.progress("bob")] == seen
    assert await faults(database) == []
    folds = await school.rows(
        "SELECT user_id, opened_at, events, time_spent, unattributed FROM progress_fold ORDER BY 1"
    )
    assert folds == [("ada", 0, 5, 87, 7), ("bob", 0, 1, 5, 0)]


async def test_the_history_starts_with_the_rows_left_at_the_percentages_of_the_snapshot(
    school: School,
) -> None:
    await learn(school)
    school.db.clock.advance(LATER)
    await school.send(event("6", progress=30, timestamp=soon(school)))
    await school.send(event("7", "chapter_complete", timestamp=soon(school)))
    before = await history(school)
    await fold(school)
    after = await history(school)
    assert after == before[5:]
    assert [each["eventId"] for each in after] == ["6", "7"]
    assert [each["chapterProgress"] for each in after] == [40, 100]
    assert [each["courseProgress"] for each in after] == [70, 100]


async def test_a_second_compaction_finds_nothing_and_a_later_one_adds_to_the_first(
    school: School, database: Path | str
) -> None:
    await learn(school)
    school.db.clock.advance(LATER)
    await school.send(
        event("6", progress=60, timeSpent=3, timestamp=soon(school)),
        attempt_at_quiz("7", 10, chapterId="q", timestamp=soon(school)),
    )
    await fold(school)
    tables = await school.tables()
    assert await fold(school) == {"courses": 0, "events": 0, "left": 0}
    assert await school.tables() == tables
    school.db.clock.advance(LATER)
    kept = [await school.rows(STATE), await school.rows(QUIZZES)]
    assert await fold(school) == {"courses": 1, "events": 2, "left": 0}
    assert [await school.rows(STATE), await school.rows(QUIZZES)] == kept
    sums = "SELECT events, time_spent FROM progress_fold WHERE user_id = 'ada'"
    assert await school.rows(sums) == [(7, 90)]
    assert await faults(database) == []


async def test_after_all_rows_are_compacted_the_next_event_starts_a_chain(
    school: School, database: Path | str
) -> None:
    await learn(school)
    school.db.clock.advance(LATER)
    await fold(school)
    assert await ledger(school) == []
    assert await school.rows("SELECT DISTINCT last_seq FROM course_progress") == [(0,)]
    assert await history(school) == []
    await school.send(event("6", progress=60, timeSpent=3, timestamp=soon(school)))
    await school.send(event("7", progress=70, timeSpent=3, timestamp=soon(school)))
    [(first, none), (second, previous)] = await school.rows(
        "SELECT seq, previous FROM progress_event ORDER BY seq"
    )
    assert (none, previous) == (None, first)
    last = "SELECT last_seq FROM course_progress WHERE user_id = 'ada'"
    assert await school.rows(last) == [(second,)]
    found = await school.progress()
    assert (found["timeSpent"], found["chapters"][0]["progress"]) == (93, 70)
    assert await faults(database) == []


async def test_a_repeat_of_a_stored_event_counts_once_and_of_a_compacted_one_again(
    school: School, database: Path | str
) -> None:
    await learn(school)
    school.db.clock.advance(LATER)
    young = event("6", progress=60, timeSpent=3, timestamp=soon(school))
    await school.send(young)
    await fold(school)
    answer = await school.send(young, event("1", progress=40, timeSpent=60))
    assert (answer["duplicate"], answer["accepted"]) == (1, 1)
    assert (await school.progress())["timeSpent"] == 90 + 60
    assert await faults(database) == []


async def test_resets_stay_and_a_reset_after_compaction_opens_an_attempt(
    school: School, database: Path | str
) -> None:
    await learn(school)
    reset = event("r1", "progress_reset", chapterId=None, timestamp="2026-11-20T09:25:00Z")
    await school.send(reset)
    school.db.clock.advance(LATER)
    await school.send(event("6", progress=60, timeSpent=3, timestamp=soon(school)))
    kept = [await school.rows(STATE), await school.rows(QUIZZES)]
    assert await fold(school) == {"courses": 2, "events": 6, "left": 0}
    assert await ledger(school) == ["r1", "6"]
    assert [await school.rows(STATE), await school.rows(QUIZZES)] == kept
    assert await fold(school) == {"courses": 0, "events": 0, "left": 0}
    assert (await school.send(reset))["duplicate"] == 1
    await school.send(event("r2", "progress_reset", chapterId=None, timestamp=soon(school)))
    times = "SELECT attempt, time_spent FROM course_progress WHERE user_id = 'ada' ORDER BY 1"
    assert await school.rows(times) == [(1, 87), (2, 3), (3, 0)]
    assert (await school.rows(STATE))[:2] == kept[0][:2]
    assert await school.rows(QUIZZES) == kept[1]
    assert await faults(database) == []
    await school.send(event("7", progress=20, timestamp=soon(school)))
    found = await school.progress()
    assert (found["attempt"], found["chapters"][0]["progress"]) == (3, 20)


async def test_a_late_reset_after_compaction_splits_no_snapshot(
    school: School, database: Path | str
) -> None:
    """Compacted events stay together, whether they are before or after the reset."""
    await learn(school)
    between = event("r", "progress_reset", chapterId=None, timestamp="2026-11-20T09:10:00Z")
    school.db.clock.advance(LATER)
    await school.send(event("6", progress=60, timeSpent=3, timestamp=soon(school)))
    await fold(school)
    await school.send(between)
    times = "SELECT attempt, time_spent FROM course_progress WHERE user_id = 'ada' ORDER BY 1"
    assert await school.rows(times) == [(1, 87), (2, 3)]
    assert await school.rows("SELECT attempt, attempt_id FROM quiz_attempt ORDER BY 2") == [
        (1, "try-3"),
        (1, "try-4"),
    ]
    # A snapshot moves with the opening of its attempt: that of the second is in the third.
    school.db.clock.advance(LATER)
    assert (await fold(school))["left"] == 0
    earlier = event("r0", "progress_reset", chapterId=None, timestamp="2026-11-20T08:00:00Z")
    await school.send(earlier)
    assert await school.rows(times) == [(1, 87), (2, 0), (3, 3)]
    assert await faults(database) == []


async def test_an_attempt_that_carried_over_has_the_earlier_snapshot(
    school: School, database: Path | str
) -> None:
    await school.publish("water", chapter("a"), learnerPolicy="require_new")
    await school.send(event("w1", "chapter_complete", courseId="water", timeSpent=9))
    school.db.clock.advance(LATER)
    assert await fold(school) == {"courses": 1, "events": 1, "left": 0}
    await school.publish("water", chapter("a"), chapter("z"), learnerPolicy="require_new")
    await school.work()
    found = await school.progress(course="water")
    assert (found["attempt"], found["progress"], found["timeSpent"]) == (2, 50, 0)
    late = event("w2", courseId="water", timeSpent=4, timestamp="2026-11-20T10:00:00Z")
    await school.send(late)  # for the attempt before
    more = {"courseId": "water", "chapterId": "z", "timestamp": soon(school)}
    await school.send(event("w3", progress=60, timeSpent=5, **more))
    school.db.clock.advance(LATER)
    kept = await school.rows(STATE)
    assert await fold(school) == {"courses": 1, "events": 2, "left": 0}
    assert await school.rows(STATE) == kept
    assert await school.rows("SELECT type FROM progress_event") == [("attempt_renewed",)]
    assert await faults(database) == []
    reset = event("w4", "progress_reset", chapterId=None, courseId="water", timestamp=soon(school))
    await school.send(reset)
    assert (await school.rows(STATE))[:2] == kept
    assert await faults(database) == []


async def test_events_younger_than_the_retention_stay(school: School) -> None:
    await learn(school)
    rows = await ledger(school)
    school.db.clock.advance(RETENTION - timedelta(seconds=5))
    assert await fold(school) == {"courses": 0, "events": 0, "left": 0}
    assert await ledger(school) == rows


async def test_without_a_retention_nothing_is_compacted(db: Database) -> None:
    async with open_school(db) as school:
        await school.publish("fire", chapter("a"), quiz("q"), chapter("c", required=False))
        await learn(school)
        school.db.clock.advance(timedelta(days=4_000))
        tables = await school.tables()
        assert await fold(school) == {"courses": 0, "events": 0, "left": 0}
        assert await school.tables() == tables


async def test_events_that_open_no_attempt_read_no_snapshots(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(store, "snapshots_of", refuse)
    await learn(school)
    assert (await school.progress())["timeSpent"] == 87


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE course_progress SET time_spent = time_spent + 1 WHERE user_id = 'bob'",
        "UPDATE progress_event SET type = 'unheard_of' WHERE user_id = 'bob'",
    ],
)
async def test_a_course_that_compaction_would_change_is_left_and_logged(
    school: School, database: Path | str, wrong: str
) -> None:
    await learn(school)
    await change(database, wrong)
    school.db.clock.advance(LATER)
    state = await school.rows("SELECT * FROM course_progress WHERE user_id = 'bob'")
    with capture_logs() as lines:
        assert await fold(school) == {"courses": 1, "events": 5, "left": 1}
    assert await ledger(school) == ["b1"]
    assert await school.rows("SELECT * FROM course_progress WHERE user_id = 'bob'") == state
    assert await school.rows("SELECT user_id FROM progress_fold") == [("ada",)]
    assert [(each["event"], each["log_level"], each["course_id"]) for each in lines] == [
        ("events_not_compacted", "warning", "fire")
    ]
    async with school.db.write() as tx:
        assert lines[0]["user_id_hash"] == await hash_person(tx, "bob")


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE quiz_attempt SET scaled = scaled + 1 WHERE attempt_id = 'try-3'",
        "UPDATE quiz_attempt SET event_id = 'another' WHERE attempt_id = 'try-3'",
        "DELETE FROM quiz_attempt WHERE attempt_id = 'try-3'",
        "UPDATE course_progress SET unattributed = 8 WHERE user_id = 'ada'",
        "UPDATE course_progress SET chapters = '{}' WHERE user_id = 'ada'",
        "DELETE FROM enrolment WHERE user_id = 'ada'",
    ],
)
async def test_any_difference_leaves_a_course_unchanged(
    school: School, database: Path | str, wrong: str
) -> None:
    await learn(school)
    await change(database, wrong)
    school.db.clock.advance(LATER)
    tables = await school.tables()
    assert await fold(school) == {"courses": 1, "events": 1, "left": 1}
    left = await school.rows("SELECT * FROM progress_event ORDER BY 1, 2")
    assert left == [row for row in tables["progress_event"] if row[2] == "ada"]


async def test_a_long_ledger_is_compacted_page_by_page_within_a_bounded_run(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "COMPACTION_SCAN_PAGE", 3)
    monkeypatch.setattr(ledger_module, "COURSES_PER_COMPACTION_COMMIT", 2)
    monkeypatch.setattr(ledger_module, "COURSES_PER_COMPACTION_RUN", 5)
    learners = [f"learner-{number}" for number in range(7)]
    for turn in range(2):
        for each in learners:
            await school.send(event(f"{each}-{turn}", userId=each, progress=10, timeSpent=1))
    school.db.clock.advance(LATER)
    await school.send(event("young", timestamp=soon(school)))
    heard = []

    async def told(so_far: ledger_module.CompactionResult) -> None:
        heard.append(so_far.courses)

    before = ledger_module.compaction_cutoff(school.db.clock.now(), RETENTION)
    first = await ledger_module.compact_events(school.db, before, told)
    assert (first.courses, first.events) == (6, 12)  # the page under way is finished
    assert heard == [3, 6]
    assert (await ledger_module.compact_events(school.db, before, told)).courses == 1
    assert await ledger(school) == ["young"]


async def test_learners_send_events_while_older_ones_are_compacted(
    school: School, database: Path | str
) -> None:
    learners = [f"learner-{number}" for number in range(10)]
    for each in learners:
        await school.send(
            *(event(f"{each}-{n}", userId=each, progress=n, timeSpent=1) for n in range(20))
        )
    school.db.clock.advance(LATER)

    async def go_on(each: str) -> None:
        for number in range(10):
            young = event(
                f"{each}-young-{number}", userId=each, timeSpent=1, timestamp=soon(school)
            )
            await school.send(young)

    folded, *_ = await asyncio.gather(fold(school), *(go_on(each) for each in learners))
    assert folded == {"courses": 10, "events": 200, "left": 0}
    for each in learners:
        assert (await school.progress(each))["timeSpent"] == 30
    assert await faults(database) == []


async def test_a_backup_has_the_snapshots_and_their_seconds(
    school: School, database: Path | str, tmp_path: Path
) -> None:
    await learn(school)
    school.db.clock.advance(LATER)
    await school.send(event("6", progress=60, timeSpent=3, timestamp=soon(school)))
    await fold(school)
    settings, file = load(database_url=url_of(database), data_dir=tmp_path), tmp_path / "a.zip"
    made = await asyncio.to_thread(database_commands.back_up_database, settings, file)
    assert made.totals == {"ledger seconds": 95, "course seconds": 95}
    assert made.tables["progress_fold"] == 2
    assert (await asyncio.to_thread(database_commands.verify_database, settings, file)).faults == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("UPDATE progress_fold SET time_spent = 1 WHERE user_id = 'ada'", "ada"),
        ("DELETE FROM progress_fold WHERE user_id = 'bob'", "bob"),
        ("UPDATE course_progress SET last_seq = 6 WHERE user_id = 'bob'", "bob"),
    ],
)
async def test_verify_compares_the_snapshots_with_the_courses(
    school: School, database: Path | str, wrong: str, told: str
) -> None:
    await learn(school)
    school.db.clock.advance(LATER)
    await fold(school)
    assert await faults(database) == []
    await change(database, wrong)
    found = await faults(database)
    assert any(told in each for each in found), found


async def test_the_result_of_the_job_counts_compacted_events(school: School) -> None:
    await learn(school)
    school.db.clock.advance(LATER)
    async with school.db.write() as tx:
        await enqueue(tx, CompactEvents())
    await school.work()
    [(state, result)] = await school.rows(
        "SELECT state, result FROM job WHERE kind = 'progress.fold_events'"
    )
    assert (state, json.loads(result)) == ("completed", {"courses": 2, "events": 6, "left": 0})


def test_a_server_with_a_retention_compacts_by_schedule(tmp_path: Path) -> None:
    shell = CommandLine(tmp_path / "var")
    try:
        with serving(shell) as api:
            finish_a_course(api, "ada")
            assert "progress.fold_events" not in schedules(api)
            asked = "/api/v1/courses/fire/progress?userId=ada"
            before = api.get(asked).json()
            assert before["status"] == "completed"
        shell.environment |= {
            "HOMEROOM_EVENT_RETENTION": "90d",
            "HOMEROOM_TEST_CLOCK": "92d",
            "HOMEROOM_LOG_LEVEL": "error",  # many missed slots are logged
        }
        with serving(shell) as api:
            assert "progress.fold_events" in schedules(api)
            answer = api.post("/api/v1/schedules/progress.fold_events/run")
            assert answer.status_code == 200, answer.text
            assert until(lambda: history_of_ada(api) == [])
            assert api.get(asked).json() == before
        assert "passed the verification" in shell.ok("db", "verify")
    finally:
        shell.close()


def schedules(api: httpx.Client) -> set[str]:
    return {each["name"] for each in api.get("/api/v1/schedules").json()}


def history_of_ada(api: httpx.Client) -> Any:
    asked = {"userId": "ada"}
    return api.get("/api/v1/courses/fire/progress/history", params=asked).json()["items"]


def test_the_cutoff_is_a_midnight_and_never_early() -> None:
    noon = 20_000 * DAY + DAY // 2
    assert ledger_module.compaction_cutoff(noon, RETENTION) == 19_910 * DAY
    assert ledger_module.compaction_cutoff(20_000 * DAY - 1, RETENTION) == 19_909 * DAY
    assert ledger_module.compaction_cutoff(20_000 * DAY, RETENTION) == 19_910 * DAY
