"""A PostgreSQL server for tests and benchmarks: found or installed, on a free port, and ended.

Each process that starts one has it in a temporary folder, and it dies with that process whatever
happens. Each test gets a database of its own, a copy of one that was migrated.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from tools.servers.debian import Missing, found_or_installed
from tools.servers.port import free_port

Found = TypeVar("Found")
OLDEST = 15
PATIENCE_SECONDS = 60
_ROOM_BYTES = 512 * 1024 * 1024
_NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/homeroom-tests.conf")
_UNPRIVILEGED = ("postgres", "nobody")
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
_SETTINGS = (
    "listen_addresses=127.0.0.1",
    "max_connections=120",
    "shared_buffers=32MB",
    "autovacuum=on",
    "log_min_messages=warning",
    "deadlock_timeout=200ms",
)


def binaries() -> Path | None:
    """Return the folder of the newest server that is installed and new enough."""
    found: list[tuple[int, Path]] = []
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.get_exec_path())]
    for folder in places:
        program = folder / "postgres"
        if not program.exists() or not (folder / "initdb").exists():
            continue
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        version = re.search(r"\) (\d+)", said.stdout)
        if version is not None and int(version[1]) >= OLDEST:
            found.append((int(version[1]), folder))
    return max(found)[1] if found else None


def need_binaries() -> Path:
    """Return the server's programs, installing them where that is possible; raise ``Missing``."""
    folder = binaries()
    if folder is None and os.geteuid() == 0:
        # Debian's package would start a server for the whole machine.
        _NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
        _NO_CLUSTER.write_text("create_main_cluster = false\n")
    return folder or found_or_installed("postgresql", binaries)


def _as_somebody(words: Sequence[str | Path]) -> list[str]:
    """Return a command that root gives to an unprivileged user, and that dies with its parent."""
    command = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() == 0:
        command += [f"--reuid={_user()}", f"--regid={_group()}", "--clear-groups"]
    return [*command, *map(str, words)]


def _user() -> int:
    return _entry().pw_uid


def _group() -> int:
    return _entry().pw_gid


def _entry() -> pwd.struct_passwd:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in _UNPRIVILEGED if name in known)


def _now(work: Coroutine[Any, Any, Found]) -> Found:
    """Run something on a thread of its own, whether or not a loop runs in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@dataclass
class Postgres:
    """A server that runs, on a port that stays the same when it is started again."""

    folder: Path
    programs: Path
    port: int
    settings: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    made: int = 0

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql://homeroom@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        words: list[str | Path] = [self.programs / "postgres", "-D", self.folder / "data"]
        words += ["-p", str(self.port), "-k", self.folder]
        for setting in self.settings:
            words += ["-c", setting]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                _as_somebody(words), stdout=log, stderr=log, cwd=self.folder
            )
        _now(self._answers())

    async def _answers(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                assert self.process is not None
                if self.process.poll() is not None:
                    raise RuntimeError(f"PostgreSQL did not start: {self.log()[-2_000:]}")
                try:
                    connection = await asyncpg.connect(self.url(), timeout=5)
                except (OSError, TimeoutError, asyncpg.PostgresError):
                    await asyncio.sleep(0.02)
                    continue
                await connection.close()
                return

    def log(self) -> str:
        """Return what the server has written."""
        return (self.folder / "server.log").read_text(errors="replace")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends sessions in order, SIGQUIT is ``pg_ctl -m immediate``."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(PATIENCE_SECONDS)
            self.process = None

    def run(self, *statements: str, database: str = "postgres") -> None:
        """Run statements, each by itself."""

        async def all_of_them() -> None:
            connection = await asyncpg.connect(self.url(database), timeout=30)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close(timeout=10)

        _now(all_of_them())

    def rows(self, sql: str, database: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""

        async def ask() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.url(database), timeout=30)
            try:
                return [tuple(row) for row in await connection.fetch(sql)]
            finally:
                await connection.close(timeout=10)

        return _now(ask())

    def make_database(self, template: str = "template1") -> str:
        """Make a database that is a copy of another one, and return its name."""
        self.made += 1
        name = f"test_{self.made}_{secrets.token_hex(3)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, with the sessions that are connected to it."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _memory() -> str | None:
    """Return a folder in memory, where making a database takes 20 ms; on a disk it is up to 280."""
    folder = Path("/dev/shm")
    if not folder.is_dir() or shutil.disk_usage(folder).free < _ROOM_BYTES:
        return None
    return str(folder)


@contextmanager
def running(*, durable: bool = False, settings: Sequence[str] = ()) -> Iterator[Postgres]:
    """Run a server; ``durable`` waits for the disk at every commit, as in production.

    ``settings`` (``name=value``) go before those that suit tests.
    """
    programs = need_binaries()
    folder = Path(tempfile.mkdtemp(prefix="homeroom-postgres-", dir=None if durable else _memory()))
    chosen = (*_SETTINGS, *(() if durable else _FAST), *settings)  # the last one counts
    server = Postgres(folder, programs, free_port(), chosen)
    try:
        if os.geteuid() == 0:
            os.chown(folder, _user(), _group())
        words: list[str | Path] = [programs / "initdb", "-D", folder / "data", "--no-sync"]
        words += ["-U", "homeroom", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        made = subprocess.run(
            _as_somebody(words), capture_output=True, text=True, cwd=folder, check=False
        )
        if made.returncode != 0:
            raise Missing(f"initdb failed: {made.stderr.strip()[-500:]}")
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
