"""Copy an installation in a process that is killed before its n-th statement.

Run as ``python -m tests.support.killed_copy EMPTY_FILE``. Each line on standard input is a JSON
list ``[source URL, target URL, n]``; ``n`` 0 kills nothing. Each line of the answer is a JSON
object: ``exit`` (negative for a signal), ``statements`` sent, and ``error``, the code of a
``HomeroomError``. Every copy runs in a fork, so that modules are imported once.

With ``n`` -1 the copy stops before each statement until this process has looked at what a kill
would leave: the bytes of the files, and the snapshot of the server, which changes with every
commit. ``changes`` of the answer are the statements before which that was another than before the
one before. A kill between two of them leaves what a kill at the earlier one leaves.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg

from homeroom.backup import copy
from homeroom.bootstrap import database_commands
from homeroom.db import migrate
from homeroom.errors import HomeroomError
from homeroom.settings import load

ASYNCPG_METHODS = ("execute", "fetch", "fetchval", "fetchrow", "copy_records_to_table")


class StatementCounter:
    """Counts statements of both databases, and kills the process before one of them."""

    def __init__(self) -> None:
        self.sent = 0
        self.kill_at = 0
        self.observe: Callable[[], None] | None = None
        """Called before each statement of a copy that is observed."""

    def count(self) -> None:
        """Count a statement that is about to be sent."""
        self.sent += 1
        if self.observe is not None:
            self.observe()
        if self.sent == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that counts each of its calls."""

        def count_and_call(*args: Any, **options: Any) -> Any:
            self.count()
            return call(*args, **options)

        return count_and_call


def watch_statements(counter: StatementCounter) -> None:
    """Count the statements of both drivers, and the renames of files."""

    class CountedConnection(sqlite3.Connection):
        execute = counter.counted(sqlite3.Connection.execute)
        executemany = counter.counted(sqlite3.Connection.executemany)

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **options: connect(
        *args, **{**options, "factory": CountedConnection}
    )
    for name in ASYNCPG_METHODS:
        setattr(asyncpg.Connection, name, counter.counted(getattr(asyncpg.Connection, name)))
    os.link = counter.counted(os.link)
    os.replace = counter.counted(os.replace)


def copy_once(source: str, target: str, counter: StatementCounter) -> str | None:
    """Copy, and return the code of the error, or None."""
    ours, theirs = (load(database_url=url) for url in (source, target))
    try:
        database_commands.copy_database(ours, theirs, rehearse=False)
    except HomeroomError as error:
        return error.code
    return None


class DurableState:
    """What a kill of the copy would leave, of a file and of the server of a database."""

    def __init__(self, source: str, target: str) -> None:
        file, server = sorted((source, target), key=lambda url: url.startswith("postgresql"))
        self._file = Path(file.removeprefix("sqlite:///"))
        self._loop = asyncio.new_event_loop()
        # Another database of the server: a copy refuses one that others use.
        url = server.rpartition("/")[0] + "/postgres"
        self._connection = self._loop.run_until_complete(asyncpg.connect(url))

    def read(self) -> tuple[str, frozenset[tuple[str, bytes]]]:
        """Return the server's snapshot, and the digests of the file and of those beside it."""
        snapshot = self._loop.run_until_complete(
            self._connection.fetchval("SELECT pg_current_snapshot()::text")
        )
        files = {
            (path.name, sha256(path.read_bytes()).digest())
            for path in self._file.parent.iterdir()
            if self._file.name in path.name and not path.name.endswith("-shm")
        }
        return snapshot, frozenset(files)

    def close(self) -> None:
        """Close the connection."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


def observe_copy(source: str, target: str, counter: StatementCounter) -> str:
    """Copy in a fork, and return the answer with the statements before which the state changed."""
    state = DurableState(source, target)
    arrived, go_on = os.pipe(), os.pipe()

    def wait() -> None:
        os.write(arrived[1], b".")
        os.read(go_on[0], 1)

    counter.observe = wait
    finished = run_in_fork(source, target, 0, counter, closes=(arrived[0], go_on[1]))
    os.close(arrived[1])
    counter.observe = None
    changes, before, number = [], None, 0
    while os.read(arrived[0], 1):
        number += 1
        now = state.read()
        if now != before:
            changes.append(number)
        before = now
        os.write(go_on[1], b".")
    for end in (arrived[0], *go_on):
        os.close(end)
    state.close()
    return json.dumps({**finished(), "changes": changes})


def run_in_fork(
    source: str, target: str, kill_at: int, counter: StatementCounter, closes: Sequence[int] = ()
) -> Callable[[], dict[str, Any]]:
    """Copy in a fork; return a function that waits for its end and returns the answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        for end in closes:
            os.close(end)
        counter.sent, counter.kill_at = 0, kill_at
        error = copy_once(source, target, counter)
        os.write(writing, json.dumps({"statements": counter.sent, "error": error}).encode())
        os._exit(0)
    os.close(writing)

    def finished() -> dict[str, Any]:
        with os.fdopen(reading) as answer:
            text = answer.read()
        _, status = os.waitpid(child, 0)
        told = json.loads(text) if text else {"statements": None, "error": None}
        return {"exit": os.waitstatus_to_exitcode(status), **told}

    return finished


def main(empty_file: Path) -> None:
    """Answer the lines on standard input."""
    # Not about the schema: a comparison and the migrations of a new file take seconds.
    copy._require_current_schema = lambda *_: None
    migrate.upgrade = lambda file, *_: shutil.copyfile(empty_file, file)
    counter = StatementCounter()
    watch_statements(counter)
    for line in sys.stdin:
        source, target, kill_at = json.loads(line)
        if kill_at == -1:
            print(observe_copy(source, target, counter), flush=True)
        else:
            print(json.dumps(run_in_fork(source, target, kill_at, counter)()), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
