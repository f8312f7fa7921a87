"""Concurrent ingest by several servers loses nothing and doubles nothing.

Each server has connections and a writer of its own, as a process has.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.database import database_at
from tests.support.progress_school import School, chapter, event, open_school

from homeroom.catalogue import api as catalogue
from homeroom.db.database import Database
from homeroom.progress import ingest_store, store
from homeroom.progress.ledger import project_attempts

pytestmark = [pytest.mark.anyio, pytest.mark.service]
LEARNERS = [f"u{number}" for number in range(6)]
CHAPTERS = ["a", "b", "c"]
SERVERS = 4


@pytest.fixture
async def servers(database: Path | str) -> AsyncIterator[list[School]]:
    """Open the same database in several servers."""
    opened: list[Database] = []
    schools = []
    stops = []
    for _ in range(SERVERS):
        db = database_at(database)
        await db.open()
        opened.append(db)
        context = open_school(db)
        schools.append(await context.__aenter__())
        stops.append(context)
    await schools[0].publish("fire", *map(chapter, CHAPTERS))
    yield schools
    for context in stops:
        await context.__aexit__(None, None, None)
    for db in opened:
        await db.close()


def heartbeat(id: str, user: str, seconds: int, **more: Any) -> dict[str, Any]:
    return event(id, "heartbeat", userId=user, timeSpent=seconds, **more)


async def check_replay(school: School, user: str, course: str = "fire") -> None:
    """Compare the rolled-up rows and the order of the ledger with its replay."""
    pair = (user, course)
    async with school.db.read() as tx:
        enrolments = (await catalogue.enrolments(tx, [pair]))[pair]
        last_seq = await store.find_last_seq(tx, pair)
        projections, courses = await project_attempts(tx, enrolments, last_seq)
        kept, _ = await ingest_store.course_states(tx, [pair])
        for enrolment in enrolments:
            key = (*pair, enrolment.attempt)
            projection = projections[enrolment.attempt]
            if key in kept:
                assert kept[key] == projection.course_state(courses[enrolment.version])
        rows = await store.ledger_of(tx, last_seq)
        [[stored]] = await tx.fetch(
            "SELECT count(*) FROM progress_event WHERE user_id = ? AND course_id = ?", pair
        )
    assert len(rows) == stored, "the chain of the ledger has every event"
    assert len({row.id for row in rows}) == stored
    assert [row.seq for row in rows] == sorted(row.seq for row in rows)


async def test_commits_of_thousands_have_distinct_seqs(servers: list[School]) -> None:
    """Commits may need more than the 1,000 ``seq`` of one sequence number."""
    many = 1_000

    async def flood(school: School, server: int) -> None:
        bodies = [
            [heartbeat(f"{server}-{body}-{n}", LEARNERS[n % 6], 1) for n in range(many)]
            for body in range(3)
        ]
        for counts in await asyncio.gather(*(school.send(*body) for body in bodies)):
            assert counts["accepted"] == many

    await asyncio.gather(*(flood(school, n) for n, school in enumerate(servers[:2])))
    for user in LEARNERS:
        await check_replay(servers[0], user)
    async with servers[0].db.read() as tx:
        [[rows, places]] = await tx.fetch(
            "SELECT count(*), count(DISTINCT seq) FROM progress_event"
        )
    assert rows == places == 6 * many


async def test_sums_are_exact_at_any_distribution_over_servers(servers: list[School]) -> None:
    dice = random.Random(7)
    sent: Counter[str] = Counter()

    async def post(school: School, batch: list[dict[str, Any]]) -> None:
        assert (await school.send(*batch))["accepted"] == len(batch)

    async with asyncio.TaskGroup() as group:
        for number in range(120):
            batch = []
            for place in range(5):
                user, seconds = dice.choice(LEARNERS), dice.randrange(1, 50)
                sent[user] += seconds
                id = f"{number}.{place}"
                batch.append(heartbeat(id, user, seconds, chapterId=dice.choice(CHAPTERS)))
            group.create_task(post(servers[number % SERVERS], batch))
    for user in LEARNERS:
        assert (await servers[0].progress(user))["timeSpent"] == sent[user]
        await check_replay(servers[0], user)


async def test_an_event_sent_to_every_server_counts_once(servers: list[School]) -> None:
    events = [heartbeat(f"e{number}", LEARNERS[number % 6], 10) for number in range(60)]
    dice = random.Random(11)

    async def post(school: School) -> dict[str, Any]:
        return await school.send(*dice.sample(events, len(events)))

    answers = await asyncio.gather(*(post(school) for school in servers for _ in range(2)))
    assert sum(answer["accepted"] for answer in answers) == len(events)
    assert all(answer["accepted"] + answer["duplicate"] == len(events) for answer in answers), (
        answers
    )
    for user in LEARNERS:
        assert (await servers[0].progress(user))["timeSpent"] == 100
        await check_replay(servers[0], user)


async def test_two_events_with_one_id_are_one_event_and_one_conflict(
    servers: list[School],
) -> None:
    answers = await asyncio.gather(
        *(
            school.send(heartbeat("same", LEARNERS[number], number + 1))
            for number, school in enumerate(servers)
        )
    )
    assert sum(answer["accepted"] for answer in answers) == 1
    assert sum(answer["conflict"] for answer in answers) == SERVERS - 1
    assert await servers[0].rows("SELECT count(*) FROM progress_event") == [(1,)]


async def test_a_course_finished_over_different_servers_is_completed_once(
    servers: list[School],
) -> None:
    async with asyncio.TaskGroup() as group:
        for user in LEARNERS:
            for number, id in enumerate(CHAPTERS):
                done = event(f"{user}.{id}", "chapter_complete", userId=user, chapterId=id)
                group.create_task(servers[number].send(done))
    rows = await servers[0].rows("SELECT user_id, attempt FROM completion ORDER BY user_id")
    assert rows == [(user, 1) for user in LEARNERS]
    assert await servers[0].rows("SELECT count(*) FROM job WHERE queue = 'celebrations'") == [(6,)]
    for user in LEARNERS:
        await check_replay(servers[0], user)


async def test_a_prerequisite_completed_concurrently_is_seen(
    servers: list[School],
) -> None:
    needs = {"all": [{"type": "all_items"}, {"type": "prerequisite", "courseId": "fire"}]}
    await servers[0].publish("next", chapter("z"), criteria=needs)
    async with asyncio.TaskGroup() as group:
        for user in LEARNERS:
            first = [
                event(f"{user}.{id}", "chapter_complete", userId=user, chapterId=id)
                for id in CHAPTERS
            ]
            then = event(
                f"{user}.z", "chapter_complete", userId=user, courseId="next", chapterId="z"
            )
            group.create_task(servers[1].send(*first))
            group.create_task(servers[2].send(then))
    rows = await servers[0].rows("SELECT course_id, count(*) FROM completion GROUP BY course_id")
    assert dict(rows) == {"fire": 6, "next": 6}


async def test_concurrent_resets_and_events_match_the_ledger(servers: list[School]) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(40):
            school, user = servers[number % SERVERS], LEARNERS[number % 2]
            at = f"2026-11-20T09:00:{number:02}Z"
            kind = "progress_reset" if number % 10 == 9 else "chapter_progress"
            more = {"progress": number} if kind == "chapter_progress" else {"chapterId": None}
            group.create_task(
                school.send(event(f"r{number}", kind, userId=user, timestamp=at, **more))
            )
    for user in LEARNERS[:2]:
        await check_replay(servers[0], user)


async def test_events_concurrent_with_the_publishing_of_their_course_are_not_lost(
    servers: list[School],
) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(40):
            sent = event(f"q{number}", "heartbeat", courseId="new", timeSpent=1)
            group.create_task(servers[number % 3].send(sent))
            if number == 20:
                group.create_task(servers[3].publish("new", chapter("a")))
    await servers[3].work()
    assert await servers[0].rows("SELECT count(*) FROM progress_quarantine") == [(0,)]
    assert (await servers[0].progress("ada", "new"))["timeSpent"] == 40


async def test_an_edit_concurrent_with_events_moves_no_learner_backwards(
    servers: list[School],
) -> None:
    await servers[0].send(*(heartbeat(f"first.{user}", user, 1) for user in LEARNERS))
    async with asyncio.TaskGroup() as group:
        for number in range(48):
            user = LEARNERS[number % 6]
            group.create_task(servers[number % SERVERS].send(heartbeat(f"m{number}", user, 10)))
            if number in {12, 24, 36}:
                more = [chapter(id) for id in [*CHAPTERS, f"extra{number}"]]
                group.create_task(servers[1].publish("fire", *more, learnerPolicy="now"))
    await servers[0].work()
    rows = await servers[0].rows("SELECT DISTINCT version FROM enrolment")
    assert rows == [(4,)]
    for user in LEARNERS:
        assert (await servers[0].progress(user))["timeSpent"] == 81
