"""PostgreSQL's client tools: dump a database, count a dump, restore it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from sqlalchemy import Connection

from homeroom.backup.archive import BackupDamaged
from homeroom.backup.dump_schema import split_statements
from homeroom.errors import ConfigurationError, Unavailable

_TOOL_NAMES = ("pg_dump", "pg_restore", "psql")
_DEBIAN_FOLDER = Path("/usr/lib/postgresql")
_LOCK_TIMEOUT_MS = 60_000
"""Longest wait of a dump for a table that another transaction has locked, as an upgrade does."""
_CHUNK_BYTES = 1024 * 1024
_MAX_OUTPUT_CHARS = 600
"""Most characters of a program's output in an error, from its end."""
_COPY_STATEMENT = re.compile(rb'COPY (?:\w+|"[^"]+")\.("[^"]+"|\w+) \(.*\) FROM stdin;\n')
_TRANSACTION_TIMEOUT_LINE = b"SET transaction_timeout = 0;\n"
"""Written by the tools of PostgreSQL 17 for any server; older servers do not know it, and 0 is the
default."""


@dataclass(frozen=True, slots=True)
class PostgresTools:
    """The programs of one release of PostgreSQL."""

    folder: Path
    major: int

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return a command line."""
        return [str(self.folder / program), *arguments]


def find_tools(
    server: int = 0, *, path: str | None = None, debian: Path = _DEBIAN_FOLDER
) -> PostgresTools:
    """Return the tools of the server's major version, else the oldest newer ones.

    Searches the PATH and Debian's folder. Without ``server`` the newest tools are returned. Raises
    ``ConfigurationError``.
    """
    folders = [Path(each) for each in os.get_exec_path(None if path is None else {"PATH": path})]
    versions = {each: _tools_major(each) for each in [*debian.glob("*/bin"), *folders]}
    found = {each: major for each, major in versions.items() if major is not None}
    usable = [(major, str(each)) for each, major in found.items() if major >= server]
    if usable:
        major, folder = min(usable) if server else max(usable)
        return PostgresTools(Path(folder), major)
    package = f"postgresql-client-{server}" if server else "postgresql-client"
    problem = "pg_dump, pg_restore and psql are not installed"
    if found:
        newest = max(found.values())
        problem = f"pg_dump, pg_restore and psql are of PostgreSQL {newest}, too old for the server"
        problem += f", which is PostgreSQL {server}"
    raise ConfigurationError(
        f"{problem}.",
        hint=f"Install the client programs (Debian and Ubuntu: apt install {package}).",
    )


def _tools_major(folder: Path) -> int | None:
    """Return the version of the programs in a folder; None if one is missing."""
    if not all(shutil.which(program, path=str(folder)) for program in _TOOL_NAMES):
        return None
    completed = subprocess.run(
        [str(folder / "pg_dump"), "--version"], capture_output=True, text=True, check=False
    )
    version = re.search(r"\) (\d+)", completed.stdout)
    return None if version is None else int(version[1])


def server_major_version(connection: Connection) -> int:
    """Return the major version of the server behind a connection."""
    return int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10_000


def split_password(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL without its password, and an environment that has it.

    The list of processes shows the URL. A ``PGPASSWORD`` of this process is used only for a URL
    without a password.
    """
    inherited = dict(os.environ)  # noqa: TID251  # passed on unread
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    user, _, host = parts.netloc.rpartition("@")
    name, colon, encoded = user.partition(":")
    password = dict(options).get("password", unquote(encoded) if colon else None)
    if password is None:
        return url, inherited
    others = [(key, value) for key, value in options if key != "password"]
    query = urlencode(others, quote_via=quote)
    netloc = f"{name}@{host}" if name else host
    # Without a host, `urlunsplit` would omit the two slashes that libpq requires.
    plain = f"{parts.scheme}://{netloc}{parts.path}{f'?{query}' if query else ''}"
    return plain, {**inherited, "PGPASSWORD": password}


def dump_database(tools: PostgresTools, url: str, snapshot: str, to: Path) -> None:
    """Write a dump of an exported snapshot in the custom format."""
    words = tools.command("pg_dump", "--format=custom", "--no-owner", "--no-privileges")
    words += ["--table=public.*", f"--snapshot={snapshot}", "--no-password", f"--file={to}"]
    words.append(f"--lock-wait-timeout={_LOCK_TIMEOUT_MS}")  # it would wait without an end
    plain, environment = split_password(url)
    words.append(f"--dbname={plain}")
    completed = subprocess.run(words, capture_output=True, check=False, env=environment)
    if completed.returncode != 0:
        raise Unavailable(f"pg_dump could not write the backup: {_last_output(completed.stderr)}")


@dataclass(frozen=True, slots=True)
class DumpContents:
    """The contents of a dump, read without a server."""

    rows: Mapping[str, int]
    """Rows of each table, by its name."""
    statements: Sequence[str]
    """The SQL outside the rows."""


def read_dump(tools: PostgresTools, dump: Path) -> DumpContents:
    """Count the rows of each table in a whole dump; raise ``BackupDamaged``."""
    counts: dict[str, int] = {}
    schema_lines: list[str] = []
    with _open_dump_script(tools, dump) as lines:
        for line in lines:
            schema_lines.append(line.decode(errors="replace"))
            copy = _COPY_STATEMENT.fullmatch(line) if line.startswith(b"COPY ") else None
            if copy is None:
                continue
            name = copy[1].decode().strip('"')
            counts[name] = 0
            for row in lines:
                if row == b"\\.\n":
                    break
                counts[name] += 1
    counts.pop("alembic_version", None)
    return DumpContents(counts, list(split_statements(schema_lines)))


def replace_database(
    tools: PostgresTools,
    url: str,
    dump: Path,
    row_counts: Mapping[str, int],
    statements: Sequence[str] = (),
) -> None:
    """Drop the tables that the user owns and restore a dump, in one transaction.

    The transaction also runs ``statements``, which name tables without a schema.
    It is committed if every table then has the expected number of rows. Otherwise raises
    ``Unavailable``, and the database is unchanged.
    """
    words = tools.command("psql", "--no-psqlrc", "--quiet", "--no-password", "--output=/dev/null")
    words += ["--set=ON_ERROR_STOP=1", "--set=VERBOSITY=terse"]
    plain, environment = split_password(url)
    words.append(f"--dbname={plain}")
    with ExitStack() as stack:
        running = stack.enter_context(
            subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        )
        script = stack.enter_context(_open_dump_script(tools, dump))
        assert running.stdin is not None
        try:
            running.stdin.write(_REPLACE_BEGIN)
            running.stdin.write(script.read(_CHUNK_BYTES).replace(_TRANSACTION_TIMEOUT_LINE, b""))
            shutil.copyfileobj(script, running.stdin, _CHUNK_BYTES)
            script.close()
            running.stdin.write(_replace_end(row_counts, statements))
        except BrokenPipeError:
            pass  # psql has failed; its output is read below
        except BaseException:
            running.kill()  # the server rolls back
            raise
        output = running.communicate()[1]
    if running.returncode != 0:
        raise Unavailable(
            f"The backup was not restored, nothing was changed: {_last_output(output)}"
        )


_REPLACE_BEGIN = b"""BEGIN;
SET LOCAL lock_timeout = '10s';
DO $$ DECLARE found record; BEGIN
  FOR found IN SELECT tablename FROM pg_tables
    WHERE schemaname = 'public' AND tableowner = current_user
  LOOP EXECUTE format('DROP TABLE public.%I CASCADE', found.tablename); END LOOP;
END $$;
"""


def _replace_end(row_counts: Mapping[str, int], statements: Sequence[str]) -> bytes:
    """Return the end of the script: check the rows of every table, then commit."""
    # The dump has set an empty search path.
    last = "".join(f"{sql};\n" for sql in ("SET LOCAL search_path = public", *statements))
    checks = "".join(
        f'  SELECT count(*) INTO rows FROM public."{name}"; IF rows <> {count} THEN RAISE'
        f" 'table {name} has % rows and should have {count}', rows; END IF;\n"
        for name, count in row_counts.items()
    )
    return f"DO $$ DECLARE rows bigint; BEGIN\n{checks}END $$;\n{last}COMMIT;\n".encode()


class _DumpScript:
    """The SQL of a dump while ``pg_restore`` writes it."""

    def __init__(self, process: subprocess.Popen[bytes], dump: Path) -> None:
        self._process, self._dump = process, dump
        assert process.stdout is not None
        self._output: IO[bytes] = process.stdout

    def read(self, size: int = -1, /) -> bytes:
        return self._output.read(size)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self._output.readline()
        if not line:
            raise StopIteration
        return line

    def close(self) -> None:
        """Wait for the end; raise ``BackupDamaged`` unless the whole dump was read."""
        output = self._process.communicate()[1]
        if self._process.returncode != 0:
            raise BackupDamaged(f"{self._dump.name} cannot be read: {_last_output(output)}")


@contextmanager
def _open_dump_script(tools: PostgresTools, dump: Path) -> Iterator[_DumpScript]:
    words = tools.command("pg_restore", "--no-owner", "--no-privileges", "--file=-", str(dump))
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        script = _DumpScript(process, dump)
        yield script
        script.close()
    finally:
        process.kill()
        process.communicate()


def _last_output(output: bytes) -> str:
    text = output.decode(errors="replace").strip()
    return re.sub(r"\s*\n\s*", "; ", text)[-_MAX_OUTPUT_CHARS:] or "the program printed no error"
