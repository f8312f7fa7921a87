"""A copy that is killed between any two statements leaves one installation that may run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.support.condition import until_async
from tests.support.database import url_of
from tests.support.effort import EFFORT
from tests.support.populated_school import change, played_at, rows_of

from homeroom.backup.table_counts import COUNT_OTHER_CONNECTIONS
from homeroom.bootstrap.database import open_database
from homeroom.db.seal import InstallationSealed
from homeroom.settings import load

pytestmark = [pytest.mark.anyio, pytest.mark.fault]

Copy = Callable[[int], dict[str, Any]]
OBSERVED = -1
"""Instead of a statement to kill at: look before each one at what a kill would leave."""


@contextmanager
def copier(source: Path | str, target: Path | str, empty_file: Path) -> Iterator[Copy]:
    """Start the process that copies and is killed."""
    words = [sys.executable, "-m", "tests.support.killed_copy", str(empty_file)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        asked, answers = child.stdin, child.stdout

        def copy(kill_at: int) -> dict[str, Any]:
            asked.write(json.dumps([url_of(source), url_of(target), kill_at]) + "\n")
            asked.flush()
            answer: dict[str, Any] = json.loads(answers.readline())
            return answer

        yield copy
        asked.close()


async def may_run(place: Path | str) -> bool:
    """Return whether a server or worker starts on a database; a missing file is none."""
    if is_missing(place):
        return False
    sealed: InstallationSealed | None = None
    try:
        async with open_database(load(database_url=url_of(place))):
            pass
    except InstallationSealed as error:
        sealed = error
    if sealed is None:
        return True
    assert sealed.exit_code == 78
    assert "homeroom db unseal" in (sealed.hint or "")
    return False


async def holds_rows(place: Path | str) -> bool:
    if is_missing(place):
        return False
    [(rows,)] = await rows_of(place, "SELECT count(*) FROM progress_event")
    return bool(rows)


def is_missing(place: Path | str) -> bool:
    return isinstance(place, Path) and not place.exists()


async def wait_until_unused(place: Path | str) -> None:
    """Wait until the server has ended the sessions of the processes before."""
    if isinstance(place, Path):
        return
    connection = await asyncpg.connect(place)
    try:
        await until_async(lambda: connection.fetchval(f"SELECT ({COUNT_OTHER_CONNECTIONS}) = 0"))
    finally:
        await connection.close()


async def check_every_kill(
    source: Path | str, target: Path | str, copy: Copy, reset: Callable[[], Any]
) -> None:
    server = target if isinstance(source, Path) else source
    await reset()
    await wait_until_unused(server)
    whole = copy(OBSERVED)
    assert whole["exit"] == 0
    assert whole["error"] is None
    total = whole["statements"]
    # A kill leaves what is durable, and that changes before these statements alone.
    points = sorted({*whole["changes"], total})
    if EFFORT > 1:
        points = list(range(1, total + 1))
    unfinished = 0
    for point in points:
        await reset()
        await wait_until_unused(server)
        killed = copy(point)
        assert killed["exit"] == -signal.SIGKILL, point
        source_runs, target_runs = await may_run(source), await may_run(target)
        target_is_filled = await holds_rows(target)
        assert not (source_runs and target_runs and target_is_filled), point
        if not source_runs:
            assert target_is_filled, point  # the data of the one that is sealed is in the other
            unfinished += not target_runs
        await wait_until_unused(server)
        again = copy(0)
        assert again["exit"] == 0
        # Finished before: the source says where its data is.
        assert again["error"] in (None, "installation_sealed"), (point, again)
        assert not await may_run(source), point
        assert await may_run(target), point
    assert unfinished > 0  # the points between the two seals were hit


async def test_from_a_file_to_a_server(
    database_file: Path, postgres_url: str, migrated_file: Path, tmp_path: Path
) -> None:
    await played_at(database_file)
    original = tmp_path / "original.db"
    shutil.copyfile(database_file, original)

    tables = await rows_of(
        postgres_url,
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        " AND tablename <> 'alembic_version'",
    )
    names = [name for (name,) in tables]

    async def reset() -> None:
        for suffix in ("-wal", "-shm"):
            database_file.with_name(database_file.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(original, database_file)
        await change(postgres_url, f"TRUNCATE {', '.join(names)}")

    with copier(database_file, postgres_url, migrated_file) as copy:
        await check_every_kill(database_file, postgres_url, copy, reset)


async def test_from_a_server_to_a_file(
    postgres_url: str, migrated_file: Path, tmp_path: Path
) -> None:
    await played_at(postgres_url)
    target = tmp_path / "new" / "homeroom.db"

    async def reset() -> None:
        shutil.rmtree(target.parent, ignore_errors=True)
        os.mkdir(target.parent)
        await change(postgres_url, "DELETE FROM installation_seal")

    with copier(postgres_url, target, migrated_file) as copy:
        await check_every_kill(postgres_url, target, copy, reset)
        assert [path.name for path in target.parent.iterdir()] == ["homeroom.db"]
