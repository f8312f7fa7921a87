"""PostgreSQL's own tools: dump a database, read a dump, and put one in another one's place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from sqlalchemy import Connection

from homeroom.db.archive import Damaged
from homeroom.errors import ConfigurationError, Unavailable

_PROGRAMS = ("pg_dump", "pg_restore", "psql")
_DEBIAN = Path("/usr/lib/postgresql")
_PIECE = 1024 * 1024
_TOLD = 600
"""Characters of a program's complaint that are passed on, the last ones."""
_COPY = re.compile(rb'COPY (?:\w+|"[^"]+")\.("[^"]+"|\w+) \(.*\) FROM stdin;\n')
_NOT_FOR_OLD_SERVERS = b"SET transaction_timeout = 0;\n"
"""Written by the tools of PostgreSQL 17 whatever the server is; 0 is what a server has anyway."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs of one release of PostgreSQL."""

    folder: Path
    major: int

    def words(self, program: str, *words: str) -> list[str]:
        """Return a command line."""
        return [str(self.folder / program), *words]


def find(server: int = 0, *, path: str | None = None, debian: Path = _DEBIAN) -> Tools:
    """Return the tools of the server's major version, else the oldest that are newer.

    Looked for on the PATH, and where Debian keeps them. Raises ``ConfigurationError``.
    """
    folders = [Path(each) for each in os.get_exec_path(None if path is None else {"PATH": path})]
    versions = {each: _major(each) for each in [*debian.glob("*/bin"), *folders]}
    found = {each: major for each, major in versions.items() if major is not None}
    good = [(major, str(each)) for each, major in found.items() if major >= server]
    if good:
        major, folder = min(good) if server else max(good)
        return Tools(Path(folder), major)
    package = f"postgresql-client-{server}" if server else "postgresql-client"
    what = "pg_dump, pg_restore and psql are not installed"
    if found:
        newest = max(found.values())
        what = f"pg_dump and its companions are of PostgreSQL {newest}, too old for the server"
        what += f", which is PostgreSQL {server}"
    raise ConfigurationError(
        f"{what}.", hint=f"Install the client programs (Debian and Ubuntu: apt install {package})."
    )


def _major(folder: Path) -> int | None:
    """Return the version of the programs in a folder; None where they are not all there."""
    if not all(shutil.which(program, path=str(folder)) for program in _PROGRAMS):
        return None
    said = subprocess.run(
        [str(folder / "pg_dump"), "--version"], capture_output=True, text=True, check=False
    )
    version = re.search(r"\) (\d+)", said.stdout)
    return None if version is None else int(version[1])


def server_major(connection: Connection) -> int:
    """Return the major version of the server behind a connection."""
    return int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10_000


def private(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL that may be seen in a list of processes, and an environment with its password.

    A ``PGPASSWORD`` of this process stays only where the URL has no password.
    """
    inherited = dict(os.environ)  # noqa: TID251  # not read, but handed on
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    user, _, place = parts.netloc.rpartition("@")
    name, colon, word = user.partition(":")
    password = dict(options).get("password", unquote(word) if colon else None)
    if password is None:
        return url, inherited
    kept = [(key, value) for key, value in options if key != "password"]
    query = urlencode(kept, quote_via=quote)
    netloc = f"{name}@{place}" if name else place
    # By hand: without a host, `urlunsplit` would leave out the two slashes that libpq wants.
    plain = f"{parts.scheme}://{netloc}{parts.path}{f'?{query}' if query else ''}"
    return plain, {**inherited, "PGPASSWORD": password}


def dump(tools: Tools, url: str, snapshot: str, to: Path) -> None:
    """Write a database in the custom format, as it is in an exported snapshot."""
    words = tools.words("pg_dump", "--format=custom", "--no-owner", "--no-privileges")
    words += ["--table=public.*", f"--snapshot={snapshot}", "--no-password", f"--file={to}"]
    plain, environment = private(url)
    words.append(f"--dbname={plain}")
    done = subprocess.run(words, capture_output=True, check=False, env=environment)
    if done.returncode != 0:
        raise Unavailable(f"pg_dump could not write the backup: {_end_of(done.stderr)}")


def rows_in(tools: Tools, dumped: Path) -> dict[str, int]:
    """Count the rows of each table in a dump, reading all of it; raise ``Damaged``."""
    found: dict[str, int] = {}
    with _script(tools, dumped) as lines:
        for line in lines:
            begun = _COPY.fullmatch(line) if line.startswith(b"COPY ") else None
            if begun is None:
                continue
            name = begun[1].decode().strip('"')
            found[name] = 0
            for row in lines:
                if row == b"\\.\n":
                    break
                found[name] += 1
    found.pop("alembic_version", None)
    return found


def replace(tools: Tools, url: str, dumped: Path, held: Mapping[str, int]) -> None:
    """Drop the tables that the user owns and put a dump there, in one transaction.

    It is committed if every table then has the rows that it should have. Raises ``Unavailable``
    where it was not, with the database as it was.
    """
    words = tools.words("psql", "--no-psqlrc", "--quiet", "--no-password", "--output=/dev/null")
    words += ["--set=ON_ERROR_STOP=1", "--set=VERBOSITY=terse"]
    plain, environment = private(url)
    words.append(f"--dbname={plain}")
    with ExitStack() as stack:
        running = stack.enter_context(
            subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        )
        script = stack.enter_context(_script(tools, dumped))
        assert running.stdin is not None
        try:
            running.stdin.write(_BEFORE)
            running.stdin.write(script.read(_PIECE).replace(_NOT_FOR_OLD_SERVERS, b""))
            shutil.copyfileobj(script, running.stdin, _PIECE)
            script.close()
            running.stdin.write(_after(held))
        except BrokenPipeError:
            pass  # it has met an error, and says below which
        except BaseException:
            running.kill()  # the server undoes what was not committed
            raise
        said = running.communicate()[1]
    if running.returncode != 0:
        raise Unavailable(f"The backup was not restored, nothing was changed: {_end_of(said)}")


_BEFORE = b"""BEGIN;
SET LOCAL lock_timeout = '10s';
DO $$ DECLARE found record; BEGIN
  FOR found IN SELECT tablename FROM pg_tables
    WHERE schemaname = 'public' AND tableowner = current_user
  LOOP EXECUTE format('DROP TABLE public.%I CASCADE', found.tablename); END LOOP;
END $$;
"""


def _after(held: Mapping[str, int]) -> bytes:
    """Return what ends the transaction: every table is counted, and then it is committed."""
    counted = "".join(
        f'  SELECT count(*) INTO rows FROM public."{name}"; IF rows <> {count} THEN RAISE'
        f" 'table {name} has % rows and should have {count}', rows; END IF;\n"
        for name, count in held.items()
    )
    return f"DO $$ DECLARE rows bigint; BEGIN\n{counted}END $$;\nCOMMIT;\n".encode()


class _Script:
    """The SQL of a dump as it is being written by ``pg_restore``."""

    def __init__(self, process: subprocess.Popen[bytes], dumped: Path) -> None:
        self._process, self._dumped = process, dumped
        assert process.stdout is not None
        self._out: IO[bytes] = process.stdout

    def read(self, size: int = -1, /) -> bytes:
        return self._out.read(size)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self._out.readline()
        if not line:
            raise StopIteration
        return line

    def close(self) -> None:
        """Wait for the end; raise ``Damaged`` unless all of the dump was read."""
        said = self._process.communicate()[1]
        if self._process.returncode != 0:
            raise Damaged(f"{self._dumped.name} cannot be read: {_end_of(said)}")


@contextmanager
def _script(tools: Tools, dumped: Path) -> Iterator[_Script]:
    words = tools.words("pg_restore", "--no-owner", "--no-privileges", "--file=-", str(dumped))
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        script = _Script(process, dumped)
        yield script
        script.close()
    finally:
        process.kill()
        process.communicate()


def _end_of(said: bytes) -> str:
    text = said.decode(errors="replace").strip()
    return re.sub(r"\s*\n\s*", "; ", text)[-_TOLD:] or "it did not say why"
