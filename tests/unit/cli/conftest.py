"""The commands in this process, on a database file of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.support.database import database_at, url_of
from typer.testing import CliRunner

from homeroom.cli import app
from homeroom.db.tx import Tx
from homeroom.errors import HomeroomError
from homeroom.jobs.api import JobArgs, add


@dataclass(frozen=True)
class Ended:
    """How a command ended; ``code`` is what ``homeroom.cli.main`` would end the process with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Terminal:
    place: Path | str
    """The file or the URL of the database."""

    @property
    def file(self) -> Path:
        assert isinstance(self.place, Path)
        return self.place

    def __call__(self, *words: str, answer: str | None = None) -> Ended:
        result = CliRunner().invoke(app, list(words), input=answer)
        code, err = result.exit_code, result.stderr
        if isinstance(result.exception, HomeroomError):
            code = result.exception.exit_code
            err += f"{result.exception.message}\n{result.exception.hint or ''}"
        elif result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(code, result.stdout, err)

    def ok(self, *words: str, answer: str | None = None) -> Ended:
        ended = self(*words, answer=answer)
        assert ended.code == 0, ended
        return ended

    def write(self, work: Callable[[Tx], Awaitable[Any]]) -> Any:
        """Do something in one transaction, as another process would."""

        async def run() -> Any:
            db = database_at(self.place)
            await db.open()
            try:
                async with db.write() as tx:
                    return await work(tx)
            finally:
                await db.close()

        return asyncio.run(run())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        async def work(tx: Tx) -> list[tuple[Any, ...]]:
            return await tx.fetch(sql)

        found: list[tuple[Any, ...]] = self.write(work)
        return found


@pytest.fixture
def terminal(database: Path | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return the commands, on a database of each kind in turn."""
    return _terminal(database, tmp_path, monkeypatch)


@pytest.fixture
def terminal_on_file(
    database_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Terminal:
    """Return the commands on a SQLite file."""
    return _terminal(database_file, tmp_path, monkeypatch)


def _terminal(place: Path | str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("HOMEROOM_DATABASE_URL", url_of(place))
    monkeypatch.setenv("HOMEROOM_DATA_DIR", str(folder))
    return Terminal(place)


class Sweep(JobArgs, frozen=True, kw_only=True):
    kind: ClassVar[str] = "chores.sweep"
    queue: ClassVar[str] = "chores"
    room: str = "hall"
    door_token: str = "swordfish"
    email: str = "ada@school.example"


class Dust(JobArgs, frozen=True, kw_only=True):
    kind: ClassVar[str] = "attic.dust"
    queue: ClassVar[str] = "attic"


@dataclass(frozen=True)
class Rows:
    """Puts job rows into the states that a worker would have left them in."""

    terminal: Terminal

    def waiting(self, *ids: str, args: JobArgs | None = None) -> None:
        async def work(tx: Tx) -> None:
            for job_id in ids:
                await add(tx, args or Sweep(), id=job_id)

        self.terminal.write(work)

    def ended(
        self, *ids: str, state: str = "failed", days_ago: int = 0, args: JobArgs | None = None
    ) -> None:
        self.waiting(*ids, args=args)

        async def work(tx: Tx) -> None:
            at = tx.now - days_ago * 86_400_000_000
            for job_id in ids:
                await tx.execute(
                    "UPDATE job SET state = ?, finished_at = ?, attempts = 4, last_error = ?"
                    " WHERE id = ?",
                    (state, at, "the broom broke, tell bo@school.example", job_id),
                )
                await tx.execute(
                    "INSERT INTO job_attempt VALUES (?, 4, ?, ?, 'fail', ?, ?, 'w1')",
                    (job_id, at, at + 1_500_000, "broom", "Traceback:\n  password=swordfish"),
                )

        self.terminal.write(work)

    def states(self) -> dict[str, str]:
        return dict(
            self.terminal.rows("SELECT id, state FROM job WHERE pruned_at IS NULL ORDER BY seq")
        )


@pytest.fixture
def rows(terminal: Terminal) -> Rows:
    return Rows(terminal)


@pytest.fixture
def attic() -> JobArgs:
    """Return the arguments of a job of another queue."""
    return Dust()
