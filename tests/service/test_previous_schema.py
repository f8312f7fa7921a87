"""A database of an earlier release is backed up, upgraded, and read the same as before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.database import database_at, url_of
from tests.support.populated_school import answers, played_at, rows_of
from tests.support.progress_school import event, open_school
from tools.servers.postgres import Postgres

from homeroom.backup import backup_and_restore
from homeroom.bootstrap import application, database_commands
from homeroom.db import migrate
from homeroom.errors import ConfigurationError
from homeroom.settings import Settings, load

pytestmark = [pytest.mark.anyio, pytest.mark.service]

PREVIOUS = "0008_dispatch"
"""The revision before chapters became part of their course's row."""
ADDED_SINCE = {
    "carried_over",
    "skip_code",
    "reason_code",
    "reported_at",
    "alone_from",
    "outstanding",
    "held_by",
    "redis_concurrency",
    "redis_rate_max",
    "redis_rate_window",
    "group_ids",
    "trace_context",
    "ended_at",
    "archived_at",
    "suspended_at",
}
SAME = (
    "course, course_version, enrolment, completion, completion_step, person, queue,"
    " schedule, schedule_slot, quiz_attempt, progress_quarantine, job"
)
EVENT = (
    "seq, id, user_id, course_id, chapter_id, type, progress, time_spent, quiz, occurred_at,"
    " received_at, course_version, attempt, body_hash, metadata, flags"
)
COURSE = (
    "user_id, course_id, attempt, version, weighted_sum, required_satisfied, satisfied,"
    " time_spent, unattributed, last_at"
)


@pytest.fixture(params=["sqlite", "postgresql"])
async def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Path | str]:
    """Return a database of each kind at the previous revision, without rows."""
    place: Path | str = tmp_path / "earlier.db"
    server: Postgres | None = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        place = server.url(server.make_database())
    await asyncio.to_thread(migrate.upgrade, place, PREVIOUS)
    yield place
    if server is not None:
        server.drop_database(str(place).rpartition("/")[2])


async def write_as_before(source: Path | str, place: Path | str) -> None:
    """Write the rows of a database of this release in the schema of the earlier one."""
    db, old = database_at(source), database_at(place)
    await db.open()
    await old.open()
    try:
        async with db.read() as tx, old.write() as into:
            for table in SAME.split(", "):
                names, rows = await tx.fetch_named(f"SELECT * FROM {table}")
                old_names = [name for name in names if name not in ADDED_SINCE]
                if rows:
                    marks = ", ".join("?" * len(old_names))
                    kept = [
                        [value for name, value in zip(names, row, strict=True) if name in old_names]
                        for row in rows
                    ]
                    await into.executemany(
                        f"INSERT INTO {table} ({', '.join(old_names)}) VALUES ({marks})", kept
                    )
            await copy_ledger(tx, into)
            courses = await tx.fetch(f"SELECT {COURSE}, chapters FROM course_progress")
            for *course, chapters in courses:
                await into.execute(
                    f"INSERT INTO course_progress ({COURSE}) VALUES ({'?, ' * 9}?)", course
                )
                for chapter, state in json.loads(chapters).items():
                    await into.execute(
                        f"INSERT INTO chapter_progress VALUES ({'?, ' * 8}?)",
                        (*course[:3], chapter, *state[:5]),  # that release had no waivers
                    )
    finally:
        await db.close()
        await old.close()


async def copy_ledger(tx: Any, into: Any) -> None:
    """Write the ledger with the table of its parts instead of chains."""
    events = await tx.fetch(f"SELECT {EVENT} FROM progress_event ORDER BY seq")
    await into.executemany(
        f"INSERT INTO progress_event ({EVENT}) VALUES ({', '.join('?' * 16)})", events
    )
    if into.dialect == "postgresql":
        last_seq = max(seq for seq, *_ in events)
        await into.fetch("SELECT setval('progress_event_seq_seq', ?)", (last_seq,))
    parts = await tx.fetch(
        "SELECT user_id, course_id, min(seq), max(seq) FROM progress_event"
        " GROUP BY user_id, course_id"
    )
    await into.executemany("INSERT INTO ledger_part VALUES (?, ?, ?, ?)", parts)


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[None]:
    """Open a database as ``homeroom serve`` does."""
    async with application.open_application(settings, migrated=True):
        yield


async def test_the_api_answers_the_same_after_the_upgrade(
    database_file: Path, earlier: Path | str
) -> None:
    await played_at(database_file)
    await write_as_before(database_file, earlier)
    assert await rows_of(earlier, "SELECT count(*) FROM chapter_progress") == [(7,)]
    answers_before = await answers(database_file)
    settings = load(database_url=url_of(earlier))
    await asyncio.to_thread(database_commands.upgrade_database, settings)
    assert (await asyncio.to_thread(migrate.schema_state, earlier)).is_current
    assert await answers(earlier) == answers_before
    assert (await asyncio.to_thread(database_commands.verify_database, settings, None)).faults == []


async def test_learners_continue_after_the_upgrade(
    database_file: Path, earlier: Path | str
) -> None:
    await played_at(database_file)
    await write_as_before(database_file, earlier)
    await asyncio.to_thread(database_commands.upgrade_database, load(database_url=url_of(earlier)))
    for place in (database_file, earlier):
        db = database_at(place)
        await db.open()
        async with open_school(db) as opened:
            again = {**event("ada-1", progress=40, timeSpent=60), "userId": "ada"}
            more = event("new", progress=60, timeSpent=5, chapterId="b")
            reset = event("r", "progress_reset", chapterId=None, timestamp="2026-11-20T09:15:00Z")
            answer = await opened.send(again, more, reset)
            assert answer["results"][0]["status"] == "duplicate"
        await db.close()
    assert untimed(await answers(earlier)) == untimed(await answers(database_file))
    settings = load(database_url=url_of(earlier))
    assert (await asyncio.to_thread(database_commands.verify_database, settings, None)).faults == []


def untimed(answer: Any) -> Any:
    """Remove the times of receipt, which differ between two databases."""
    if isinstance(answer, list):
        return [untimed(each) for each in answer]
    if isinstance(answer, dict):
        return {name: untimed(each) for name, each in answer.items() if name != "receivedAt"}
    return answer


async def test_serve_backs_a_file_up_before_it_changes_it(
    database_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "old" / "homeroom.db"
    await asyncio.to_thread(migrate.upgrade, place, PREVIOUS)
    await played_at(database_file)
    await write_as_before(database_file, place)
    settings = load(database_url=url_of(place), data_dir=place.parent)
    async with served(settings):
        pass
    [made] = backups_of(place)
    assert str(made) in capsys.readouterr().out
    async with served(settings):
        pass
    assert backups_of(place) == [made]
    # after a restore the earlier release finds its database unchanged
    await asyncio.to_thread(database_commands.restore_database, settings, made, force=True)
    assert (await asyncio.to_thread(migrate.schema_state, place)).current == PREVIOUS
    assert await rows_of(place, "SELECT count(*) FROM chapter_progress") == [(7,)]


def backups_of(place: Path) -> list[Path]:
    return sorted(place.parent.glob("homeroom.db.before-upgrade-*.zip"))


async def test_the_last_three_upgrade_backups_are_retained(tmp_path: Path) -> None:
    place = tmp_path / "homeroom.db"
    await asyncio.to_thread(migrate.upgrade, place, PREVIOUS)
    settings = load(database_url=url_of(place), data_dir=tmp_path)
    made = []
    for _ in range(backup_and_restore.MAX_UPGRADE_BACKUPS + 2):
        kept = await asyncio.to_thread(
            backup_and_restore.back_up_before_upgrade,
            place,
            tmp_path / "keys",
            backup_and_restore.IntegrityRules(),
        )
        made.append(kept)
    assert backups_of(place) == made[-3:]
    await asyncio.to_thread(database_commands.upgrade_database, settings)
    assert backups_of(place)[:2] == made[-2:]
    assert await asyncio.to_thread(database_commands.upgrade_database, settings) is None


async def test_no_migration_starts_without_its_backup(tmp_path: Path) -> None:
    place = tmp_path / "homeroom.db"
    await asyncio.to_thread(migrate.upgrade, place, PREVIOUS)
    (tmp_path / "keys").mkdir()
    settings = load(database_url=url_of(place), data_dir=tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("homeroom.backup.archive.sync_to_disk", full)
        with pytest.raises(OSError, match="No space left"):
            await asyncio.to_thread(database_commands.upgrade_database, settings)
    assert (await asyncio.to_thread(migrate.schema_state, place)).current == PREVIOUS
    assert backups_of(place) == []


async def test_serve_does_not_upgrade_a_postgresql_database(postgres: Postgres) -> None:
    name = postgres.make_database()
    await asyncio.to_thread(migrate.upgrade, postgres.url(name), PREVIOUS)
    with pytest.raises(ConfigurationError) as refused:
        async with served(load(database_url=postgres.url(name))):
            pass
    assert "homeroom db upgrade" in str(refused.value.hint)
    assert (await asyncio.to_thread(migrate.schema_state, postgres.url(name))).current == PREVIOUS
    postgres.drop_database(name)
