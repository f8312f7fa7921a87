"""Old events go from the ledger where a retention is set, and nothing of progress changes by it."""

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
from tests.servers.database import url_of
from tests.service.moved_school import change
from tests.service.progress_school import (
    SERVICE,
    School,
    attempt_at_quiz,
    chapter,
    event,
    quiz,
    school,
)
from tests.service.test_cli_processes import Shell, until
from tests.service.test_release_side_by_side import finish_a_course, serving

from homeroom import wiring
from homeroom.clock import DAY, to_rfc3339
from homeroom.db.database import Database
from homeroom.jobs.api import enqueue
from homeroom.progress import retention, store
from homeroom.progress.jobs import FoldEvents
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
async def house(db: Database) -> AsyncIterator[School]:
    async with school(db, event_retention=RETENTION) as opened:
        await opened.publish("fire", chapter("a"), quiz("q"), chapter("c", required=False))
        yield opened


async def fold(house: School) -> dict[str, int]:
    outcome = await house.jobs.fold(None, FoldEvents())  # type: ignore[arg-type]
    found: dict[str, int] = outcome.result  # type: ignore[union-attr]
    return found


async def history(house: School) -> list[dict[str, Any]]:
    answer = await house.http.get(
        "/api/v1/courses/fire/progress/history", params={"userId": "ada"}, headers=SERVICE
    )
    assert answer.status_code == 200, answer.text
    lines: list[dict[str, Any]] = answer.json()["items"]
    return lines


async def faults(database: Path | str) -> list[str]:
    settings = load(database_url=url_of(database))
    return list((await asyncio.to_thread(wiring.verify, settings, None)).faults)


async def ledger(house: School) -> list[str]:
    return [id for (id,) in await house.rows("SELECT id FROM progress_event ORDER BY seq")]


async def learn(house: School) -> None:
    """Let Ada work in every way, and Bob a little."""
    await house.send(
        event("1", progress=40, timeSpent=60),
        event("2", "heartbeat", chapterId=None, timeSpent=7),
        attempt_at_quiz("3", 5, chapterId="q", timeSpent=20),
    )
    await house.send(
        attempt_at_quiz("4", 9, chapterId="q", timestamp="2026-11-20T09:20:00Z"),
        event("5", progress=10, chapterId="c", timestamp="2026-11-20T09:30:00Z"),
        event("b1", progress=33, timeSpent=5, userId="bob"),
    )


def soon(house: School) -> str:
    return to_rfc3339(house.db.clock.now())


async def test_what_is_folded_leaves_progress_and_scores_as_they_are(
    house: School, database: Path | str
) -> None:
    await learn(house)
    house.db.clock.advance(LATER)
    await house.send(event("6", progress=60, timeSpent=3, timestamp=soon(house)))
    kept = [await house.rows(STATE), await house.rows(QUIZZES)]
    seen = [await house.progress(), await house.progress("bob")]
    assert await fold(house) == {"courses": 2, "events": 6, "left": 0}
    assert await ledger(house) == ["6"]
    assert [await house.rows(STATE), await house.rows(QUIZZES)] == kept
    assert [await house.progress(), await house.progress("bob")] == seen
    assert await faults(database) == []
    folds = await house.rows(
        "SELECT user_id, opened_at, events, time_spent, unattributed FROM progress_fold ORDER BY 1"
    )
    assert folds == [("ada", 0, 5, 87, 7), ("bob", 0, 1, 5, 0)]


async def test_the_history_begins_with_what_is_kept_and_its_percentages_with_what_went(
    house: School,
) -> None:
    await learn(house)
    house.db.clock.advance(LATER)
    await house.send(event("6", progress=30, timestamp=soon(house)))
    await house.send(event("7", "chapter_complete", timestamp=soon(house)))
    before = await history(house)
    await fold(house)
    after = await history(house)
    assert after == before[5:]
    assert [each["eventId"] for each in after] == ["6", "7"]
    assert [each["chapterProgress"] for each in after] == [40, 100]
    assert [each["courseProgress"] for each in after] == [70, 100]


async def test_a_second_fold_finds_nothing_and_a_later_one_adds_to_the_first(
    house: School, database: Path | str
) -> None:
    await learn(house)
    house.db.clock.advance(LATER)
    await house.send(
        event("6", progress=60, timeSpent=3, timestamp=soon(house)),
        attempt_at_quiz("7", 10, chapterId="q", timestamp=soon(house)),
    )
    await fold(house)
    tables = await house.tables()
    assert await fold(house) == {"courses": 0, "events": 0, "left": 0}
    assert await house.tables() == tables
    house.db.clock.advance(LATER)
    kept = [await house.rows(STATE), await house.rows(QUIZZES)]
    assert await fold(house) == {"courses": 1, "events": 2, "left": 0}
    assert [await house.rows(STATE), await house.rows(QUIZZES)] == kept
    sums = "SELECT events, time_spent FROM progress_fold WHERE user_id = 'ada'"
    assert await house.rows(sums) == [(7, 90)]
    assert await faults(database) == []


async def test_where_every_row_is_gone_the_next_event_begins_a_chain(
    house: School, database: Path | str
) -> None:
    await learn(house)
    house.db.clock.advance(LATER)
    await fold(house)
    assert await ledger(house) == []
    assert await house.rows("SELECT DISTINCT last_seq FROM course_progress") == [(0,)]
    assert await history(house) == []
    await house.send(event("6", progress=60, timeSpent=3, timestamp=soon(house)))
    await house.send(event("7", progress=70, timeSpent=3, timestamp=soon(house)))
    [(first, none), (second, previous)] = await house.rows(
        "SELECT seq, previous FROM progress_event ORDER BY seq"
    )
    assert (none, previous) == (None, first)
    last = "SELECT last_seq FROM course_progress WHERE user_id = 'ada'"
    assert await house.rows(last) == [(second,)]
    found = await house.progress()
    assert (found["timeSpent"], found["chapters"][0]["progress"]) == (93, 70)
    assert await faults(database) == []


async def test_a_repeat_of_what_is_kept_counts_once_and_of_what_went_again(
    house: School, database: Path | str
) -> None:
    await learn(house)
    house.db.clock.advance(LATER)
    young = event("6", progress=60, timeSpent=3, timestamp=soon(house))
    await house.send(young)
    await fold(house)
    answer = await house.send(young, event("1", progress=40, timeSpent=60))
    assert (answer["duplicate"], answer["accepted"]) == (1, 1)
    assert (await house.progress())["timeSpent"] == 90 + 60
    assert await faults(database) == []


async def test_resets_stay_and_a_reset_after_a_fold_opens_an_attempt_as_ever(
    house: School, database: Path | str
) -> None:
    await learn(house)
    reset = event("r1", "progress_reset", chapterId=None, timestamp="2026-11-20T09:25:00Z")
    await house.send(reset)
    house.db.clock.advance(LATER)
    await house.send(event("6", progress=60, timeSpent=3, timestamp=soon(house)))
    kept = [await house.rows(STATE), await house.rows(QUIZZES)]
    assert await fold(house) == {"courses": 2, "events": 6, "left": 0}
    assert await ledger(house) == ["r1", "6"]
    assert [await house.rows(STATE), await house.rows(QUIZZES)] == kept
    assert await fold(house) == {"courses": 0, "events": 0, "left": 0}
    assert (await house.send(reset))["duplicate"] == 1
    await house.send(event("r2", "progress_reset", chapterId=None, timestamp=soon(house)))
    times = "SELECT attempt, time_spent FROM course_progress WHERE user_id = 'ada' ORDER BY 1"
    assert await house.rows(times) == [(1, 87), (2, 3), (3, 0)]
    assert (await house.rows(STATE))[:2] == kept[0][:2]
    assert await house.rows(QUIZZES) == kept[1]
    assert await faults(database) == []
    await house.send(event("7", progress=20, timestamp=soon(house)))
    found = await house.progress()
    assert (found["attempt"], found["chapters"][0]["progress"]) == (3, 20)


async def test_an_earlier_reset_that_comes_after_the_fold_splits_no_folded_part(
    house: School, database: Path | str
) -> None:
    """Events from before and after the reset stay in the attempt in which they were folded."""
    await learn(house)
    between = event("r", "progress_reset", chapterId=None, timestamp="2026-11-20T09:10:00Z")
    house.db.clock.advance(LATER)
    await house.send(event("6", progress=60, timeSpent=3, timestamp=soon(house)))
    await fold(house)
    await house.send(between)
    times = "SELECT attempt, time_spent FROM course_progress WHERE user_id = 'ada' ORDER BY 1"
    assert await house.rows(times) == [(1, 87), (2, 3)]
    assert await house.rows("SELECT attempt, attempt_id FROM quiz_attempt ORDER BY 2") == [
        (1, "try-3"),
        (1, "try-4"),
    ]
    # A part moves with the opening of its attempt: what was folded in the second is in the third.
    house.db.clock.advance(LATER)
    assert (await fold(house))["left"] == 0
    earlier = event("r0", "progress_reset", chapterId=None, timestamp="2026-11-20T08:00:00Z")
    await house.send(earlier)
    assert await house.rows(times) == [(1, 87), (2, 0), (3, 3)]
    assert await faults(database) == []


async def test_an_attempt_that_carried_over_has_what_was_folded_before_it(
    house: School, database: Path | str
) -> None:
    await house.publish("water", chapter("a"), learnerPolicy="require_new")
    await house.send(event("w1", "chapter_complete", courseId="water", timeSpent=9))
    house.db.clock.advance(LATER)
    assert await fold(house) == {"courses": 1, "events": 1, "left": 0}
    await house.publish("water", chapter("a"), chapter("z"), learnerPolicy="require_new")
    await house.work()
    found = await house.progress(course="water")
    assert (found["attempt"], found["progress"], found["timeSpent"]) == (2, 50, 0)
    late = event("w2", courseId="water", timeSpent=4, timestamp="2026-11-20T10:00:00Z")
    await house.send(late)  # for the attempt before
    more = {"courseId": "water", "chapterId": "z", "timestamp": soon(house)}
    await house.send(event("w3", progress=60, timeSpent=5, **more))
    house.db.clock.advance(LATER)
    kept = await house.rows(STATE)
    assert await fold(house) == {"courses": 1, "events": 2, "left": 0}
    assert await house.rows(STATE) == kept
    assert await house.rows("SELECT type FROM progress_event") == [("attempt_renewed",)]
    assert await faults(database) == []
    reset = event("w4", "progress_reset", chapterId=None, courseId="water", timestamp=soon(house))
    await house.send(reset)
    assert (await house.rows(STATE))[:2] == kept
    assert await faults(database) == []


async def test_events_that_are_younger_than_the_retention_stay(house: School) -> None:
    await learn(house)
    rows = await ledger(house)
    house.db.clock.advance(RETENTION - timedelta(seconds=5))
    assert await fold(house) == {"courses": 0, "events": 0, "left": 0}
    assert await ledger(house) == rows


async def test_without_a_retention_nothing_is_folded(db: Database) -> None:
    async with school(db) as house:
        await house.publish("fire", chapter("a"), quiz("q"), chapter("c", required=False))
        await learn(house)
        house.db.clock.advance(timedelta(days=4_000))
        tables = await house.tables()
        assert await fold(house) == {"courses": 0, "events": 0, "left": 0}
        assert await house.tables() == tables


async def test_events_that_open_no_attempt_ask_for_no_folds(
    house: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(store, "folds_of", refuse)
    await learn(house)
    assert (await house.progress())["timeSpent"] == 87


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE course_progress SET time_spent = time_spent + 1 WHERE user_id = 'bob'",
        "UPDATE progress_event SET type = 'unheard_of' WHERE user_id = 'bob'",
    ],
)
async def test_a_course_that_would_read_differently_is_left_as_it_is_and_named(
    house: School, database: Path | str, wrong: str
) -> None:
    await learn(house)
    await change(database, wrong)
    house.db.clock.advance(LATER)
    state = await house.rows("SELECT * FROM course_progress WHERE user_id = 'bob'")
    with capture_logs() as lines:
        assert await fold(house) == {"courses": 1, "events": 5, "left": 1}
    assert await ledger(house) == ["b1"]
    assert await house.rows("SELECT * FROM course_progress WHERE user_id = 'bob'") == state
    assert await house.rows("SELECT user_id FROM progress_fold") == [("ada",)]
    assert [
        (each["event"], each["log_level"], each["user_id"], each["course_id"]) for each in lines
    ] == [("events_not_folded", "warning", "bob", "fire")]


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
async def test_any_difference_leaves_a_course_as_it_is(
    house: School, database: Path | str, wrong: str
) -> None:
    await learn(house)
    await change(database, wrong)
    house.db.clock.advance(LATER)
    tables = await house.tables()
    assert await fold(house) == {"courses": 1, "events": 1, "left": 1}
    left = await house.rows("SELECT * FROM progress_event ORDER BY 1, 2")
    assert left == [row for row in tables["progress_event"] if row[2] == "ada"]


async def test_a_long_ledger_is_folded_page_by_page_and_a_run_has_an_end(
    house: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "SCAN_PAGE", 3)
    monkeypatch.setattr(retention, "PAIRS_A_COMMIT", 2)
    monkeypatch.setattr(retention, "PAIRS_A_RUN", 5)
    learners = [f"learner-{number}" for number in range(7)]
    for turn in range(2):
        for each in learners:
            await house.send(event(f"{each}-{turn}", userId=each, progress=10, timeSpent=1))
    house.db.clock.advance(LATER)
    await house.send(event("young", timestamp=soon(house)))
    heard = []

    async def told(so_far: retention.Folded) -> None:
        heard.append(so_far.courses)

    before = retention.bound(house.db.clock.now(), RETENTION)
    first = await retention.fold_events(house.db, before, told)
    assert (first.courses, first.events) == (6, 12)  # the page that it was at is finished
    assert heard == [3, 6]
    assert (await retention.fold_events(house.db, before, told)).courses == 1
    assert await ledger(house) == ["young"]


async def test_learners_go_on_while_their_events_are_folded(
    house: School, database: Path | str
) -> None:
    learners = [f"learner-{number}" for number in range(10)]
    for each in learners:
        await house.send(
            *(event(f"{each}-{n}", userId=each, progress=n, timeSpent=1) for n in range(20))
        )
    house.db.clock.advance(LATER)

    async def go_on(each: str) -> None:
        for number in range(10):
            young = event(f"{each}-young-{number}", userId=each, timeSpent=1, timestamp=soon(house))
            await house.send(young)

    folded, *_ = await asyncio.gather(fold(house), *(go_on(each) for each in learners))
    assert folded == {"courses": 10, "events": 200, "left": 0}
    for each in learners:
        assert (await house.progress(each))["timeSpent"] == 30
    assert await faults(database) == []


async def test_a_backup_has_the_folds_and_their_seconds(
    house: School, database: Path | str, tmp_path: Path
) -> None:
    await learn(house)
    house.db.clock.advance(LATER)
    await house.send(event("6", progress=60, timeSpent=3, timestamp=soon(house)))
    await fold(house)
    settings, file = load(database_url=url_of(database), data_dir=tmp_path), tmp_path / "a.zip"
    made = await asyncio.to_thread(wiring.back_up, settings, file)
    assert made.totals == {"ledger seconds": 95, "course seconds": 95}
    assert made.tables["progress_fold"] == 2
    assert (await asyncio.to_thread(wiring.verify, settings, file)).faults == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("UPDATE progress_fold SET time_spent = 1 WHERE user_id = 'ada'", "ada"),
        ("DELETE FROM progress_fold WHERE user_id = 'bob'", "bob"),
        ("UPDATE course_progress SET last_seq = 6 WHERE user_id = 'bob'", "bob"),
    ],
)
async def test_verify_holds_the_folds_against_the_courses(
    house: School, database: Path | str, wrong: str, told: str
) -> None:
    await learn(house)
    house.db.clock.advance(LATER)
    await fold(house)
    assert await faults(database) == []
    await change(database, wrong)
    found = await faults(database)
    assert any(told in each for each in found), found


async def test_the_job_says_what_it_folded(house: School) -> None:
    await learn(house)
    house.db.clock.advance(LATER)
    async with house.db.write() as tx:
        await enqueue(tx, FoldEvents())
    await house.work()
    [(state, result)] = await house.rows(
        "SELECT state, result FROM job WHERE kind = 'progress.fold_events'"
    )
    assert (state, json.loads(result)) == ("completed", {"courses": 2, "events": 6, "left": 0})


def test_a_server_folds_by_schedule_where_a_retention_is_set(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "var")
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
            "HOMEROOM_LOG_LEVEL": "error",  # many slots were missed, and nobody reads of them
        }
        with serving(shell) as api:
            assert "progress.fold_events" in schedules(api)
            answer = api.post("/api/v1/schedules/progress.fold_events/run")
            assert answer.status_code == 200, answer.text
            assert until(lambda: history_of_ada(api) == [])
            assert api.get(asked).json() == before
        assert "is sound" in shell.ok("db", "verify")
    finally:
        shell.close()


def schedules(api: httpx.Client) -> set[str]:
    return {each["name"] for each in api.get("/api/v1/schedules").json()}


def history_of_ada(api: httpx.Client) -> Any:
    asked = {"userId": "ada"}
    return api.get("/api/v1/courses/fire/progress/history", params=asked).json()["items"]


def test_events_go_at_midnight_and_never_early() -> None:
    noon = 20_000 * DAY + DAY // 2
    assert retention.bound(noon, RETENTION) == 19_910 * DAY
    assert retention.bound(20_000 * DAY - 1, RETENTION) == 19_909 * DAY
    assert retention.bound(20_000 * DAY, RETENTION) == 19_910 * DAY
