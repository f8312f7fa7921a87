"""Back up a database into one file, verify a backup or a database, restore one.

``location`` is the file of a SQLite database or the URL of a PostgreSQL database.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from homeroom.backup import archive, postgres_dump, schema_objects, sqlite_file, table_counts
from homeroom.backup.archive import KEYS_PREFIX, BackupArchive, BackupDamaged, BackupManifest
from homeroom.backup.dump_schema import dump_faults
from homeroom.backup.erasure_replay import (
    ErasureReplay,
    known_erasures,
    load_erasures,
    replay_erasures,
    save_erasures,
)
from homeroom.backup.integrity import IntegrityRules
from homeroom.backup.table_counts import TableCounts
from homeroom.clock import Clock
from homeroom.db.migrate import (
    current_revision,
    head_revision,
    is_newer_revision,
    require_public_schema,
)
from homeroom.db.sqlite.transaction import translate_sqlite_errors
from homeroom.errors import BadRequest, ConfigurationError, Conflict
from homeroom.instant import to_datetime

UPGRADE_BACKUP_INFIX = "before-upgrade"
MAX_UPGRADE_BACKUPS = 3


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """The contents and the faults of a backup or a database."""

    counts: TableCounts
    faults: Sequence[str]
    made_at: str | None = None
    """The instant of the backup (RFC 3339); None for a database."""


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """The restored backup, and the place of the previous database."""

    manifest: BackupManifest
    previous: Path | None
    """The previous SQLite file under its new name."""
    erased: int | None
    """The number of people erased again, whom the previous database had erased after the backup.

    None if the previous database could not be read.
    """


@dataclass(frozen=True, slots=True)
class RestoreStatement:
    """A statement to run in restored data that has the table."""

    table: str
    sql: str
    """Without quotes."""


@translate_sqlite_errors()
def back_up_database(
    location: Path | str, file: Path, keys: Path, rules: IntegrityRules
) -> BackupManifest:
    """Write a backup of a database and of the files in the folder ``keys``.

    The database may be in use. Raises ``Conflict`` for an existing file, ``ConfigurationError`` if
    the database or PostgreSQL's tools are missing, and ``BackupDamaged`` for a damaged SQLite file.
    """
    archive.require_new_file(file)
    secret_files = _secret_files(keys)
    if isinstance(location, Path):
        if not location.exists():
            raise ConfigurationError(
                f"There is no database at {location}.",
                hint="Name the folder that has it with HOMEROOM_DATA_DIR.",
            )
        with TemporaryDirectory(prefix=".homeroom-", dir=file.parent) as folder:
            return _back_up_file(location, Path(folder), file, secret_files, rules)
    with TemporaryDirectory(prefix=".homeroom-", dir=file.parent) as folder:
        data = Path(folder) / archive.DATA_NAMES["postgresql"]
        counts = table_counts.run_on_snapshot(
            location, lambda connection: _dump_and_count(connection, location, data, rules)
        )
        return archive.create_archive(file, "postgresql", counts, data, secret_files)


def back_up_before_upgrade(location: Path, keys: Path, rules: IntegrityRules) -> Path | None:
    """Back up a file that an upgrade would change; retain its last three backups."""
    if not location.exists() or location.stat().st_size == 0:
        return None
    current = table_counts.run_on_snapshot(location, current_revision)
    if current is None or current == head_revision() or is_newer_revision(current):
        return None
    file = location.with_name(f"{location.name}.{UPGRADE_BACKUP_INFIX}-{_file_timestamp()}.zip")
    back_up_database(location, file, keys, rules)
    backups = sorted(location.parent.glob(f"{location.name}.{UPGRADE_BACKUP_INFIX}-*.zip"))
    for old in backups[:-MAX_UPGRADE_BACKUPS]:
        old.unlink()
    return file


def _back_up_file(
    location: Path,
    folder: Path,
    file: Path,
    secret_files: Mapping[str, Path],
    rules: IntegrityRules,
) -> BackupManifest:
    data = folder / archive.DATA_NAMES["sqlite"]
    sqlite_file.copy_sqlite_file(location, data)
    counts = table_counts.run_on_snapshot(
        data, lambda connection: _count_sound_file(connection, rules)
    )
    return archive.create_archive(file, "sqlite", counts, data, secret_files)


def _count_sound_file(connection: Connection, rules: IntegrityRules) -> TableCounts:
    """Count a file whose structure is intact; ``verify_backup`` checks the rows."""
    damage = table_counts.find_damage(connection)
    if damage:
        raise BackupDamaged(
            damage[0], hint="Do not overwrite older backups; restore the last good one."
        )
    return table_counts.count_tables(connection, rules, head_revision())


def _dump_and_count(
    connection: Connection, url: str, to: Path, rules: IntegrityRules
) -> TableCounts:
    """Dump and count the same snapshot, which excludes concurrent writes."""
    require_public_schema(connection)
    tools = postgres_dump.find_tools(postgres_dump.server_major_version(connection))
    snapshot = str(connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())
    postgres_dump.dump_database(tools, url, snapshot, to)
    return table_counts.count_tables(connection, rules, head_revision())


def _secret_files(keys: Path) -> dict[str, Path]:
    """Return the secret files by their names relative to the folder."""
    if not keys.is_dir():
        return {}
    files = sorted(path for path in keys.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(keys).as_posix(): path for path in files}


def verify_database(location: Path | str, rules: IntegrityRules) -> VerificationResult:
    """Verify the structure, the totals and the ledger of a database, in use or not."""
    return table_counts.run_on_snapshot(
        location, lambda connection: _verify_connection(connection, rules)
    )


def verify_backup(file: Path, rules: IntegrityRules) -> VerificationResult:
    """Verify a backup; raise ``BackupDamaged``, or ``BadRequest`` for another file."""
    with (
        archive.open_archive(file) as backup,
        TemporaryDirectory(prefix=".homeroom-", dir=_writable_folder(file)) as folder,
    ):
        _extract_keys(backup, Path(folder))
        return _verify_archive(backup, Path(folder) / "data", rules)


def _verify_connection(connection: Connection, rules: IntegrityRules) -> VerificationResult:
    """Check the structure first: rows of a damaged file cannot be counted reliably."""
    damage = table_counts.find_damage(connection)
    if damage:
        return VerificationResult(TableCounts(None), damage)
    counts = table_counts.count_tables(connection, rules, head_revision())
    if counts.revision != head_revision():  # the checks are for this release's tables
        return VerificationResult(counts, ())
    return VerificationResult(counts, table_counts.run_integrity_checks(connection, rules.checks))


def _writable_folder(file: Path) -> Path | None:
    """Return the folder of a backup, which has space for another; None if read-only."""
    return file.parent if os.access(file.parent, os.W_OK) else None


def _verify_archive(backup: BackupArchive, data: Path, rules: IntegrityRules) -> VerificationResult:
    """Extract the database of a backup to ``data`` and verify it."""
    manifest = backup.manifest
    backup.extract(manifest.data, data)
    expected = manifest.table_counts
    if manifest.kind == "postgresql":
        dump = postgres_dump.read_dump(postgres_dump.find_tools(), data)
        unexpected = dump_faults(
            dump.statements, schema_objects.expected_dump_schema(expected.revision)
        )
        if unexpected:
            return VerificationResult(expected, unexpected, manifest.made_at)
        differences = expected.differences(
            TableCounts(expected.revision, dump.rows, expected.totals)
        )
        return VerificationResult(expected, _manifest_faults(differences), manifest.made_at)
    unexpected = _unexpected_objects(data, expected.revision)
    if unexpected:  # before any other statement: they might run with it
        return VerificationResult(expected, unexpected, manifest.made_at)
    result = verify_database(data, rules)
    if result.counts.revision is None:
        return VerificationResult(expected, result.faults, manifest.made_at)
    # Totals can be computed for this release's schema only.
    is_current = expected.revision == head_revision()
    totals = result.counts.totals if is_current else expected.totals
    actual = TableCounts(result.counts.revision, result.counts.tables, totals)
    faults = [*_manifest_faults(expected.differences(actual)), *result.faults]
    return VerificationResult(expected, faults, manifest.made_at)


def _unexpected_objects(data: Path, revision: str | None) -> list[str]:
    """Return how a file's schema differs from its revision; none if damaged."""
    try:
        return table_counts.run_on_snapshot(
            data, lambda connection: schema_objects.unexpected_objects(connection, revision)
        )
    except DatabaseError:
        return []  # the check of its structure reports it


def _manifest_faults(differences: Sequence[str]) -> list[str]:
    return [f"The manifest and the data differ in {each}." for each in differences]


@translate_sqlite_errors()
def restore_database(
    location: Path | str,
    file: Path,
    keys: Path,
    rules: IntegrityRules,
    erasures: ErasureReplay,
    statements: Sequence[RestoreStatement] = (),
    *,
    force: bool,
) -> RestoreResult:
    """Replace a database with a backup, completely or not at all.

    ``statements`` run in the restored data before it becomes visible.
    People whom the database erased after the backup are erased again; for that a backup of an
    earlier release is upgraded to this one. The backup is verified before any change.

    Raises ``Conflict`` for a database that holds rows, unless ``force``, and for one that is in
    use; ``BadRequest`` for a backup of another kind.
    """
    kind = "sqlite" if isinstance(location, Path) else "postgresql"
    if isinstance(location, Path):
        location = location.resolve()  # replace the file, not a link to it
    with archive.open_archive(file) as backup:
        if backup.manifest.kind != kind:
            raise BadRequest(
                f"{file} holds a {backup.manifest.kind} database, but this one is {kind}.",
                hint="Restore it to a database of its kind, then use: homeroom db copy --to URL",
            )
        if isinstance(location, Path):
            location.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        parent = location.parent if isinstance(location, Path) else _writable_folder(file)
        with TemporaryDirectory(prefix=".homeroom-", dir=parent) as folder:
            data = Path(folder) / "data"
            result = _verify_archive(backup, data, rules)
            if result.faults:
                raise BackupDamaged(
                    f"{file} failed the verification, so nothing was changed: {result.faults[0]}",
                    hint="List all faults with: homeroom db verify FILE",
                )
            secret_files = _extract_keys(backup, Path(folder))
            _require_same_keys(secret_files, keys, force=force)
            _require_empty_database(location, force=force)
            known = known_erasures(location, erasures)
            previous = None
            if isinstance(location, Path):
                erased = replay_erasures(data, known or [], erasures)
                previous = _restore_file(data, location, statements)
                _write_keys(secret_files, keys)
            else:
                table_counts.run_on_snapshot(location, require_unused)
                pending = file.with_name(f"{file.name}.erasures")
                save_erasures(pending, known or [])
                _restore_server(location, data, backup.manifest, statements)
                _write_keys(secret_files, keys)
                erased = replay_erasures(location, load_erasures(pending), erasures)
                pending.unlink(missing_ok=True)
        return RestoreResult(backup.manifest, previous, None if known is None else erased)


def _restore_file(
    data: Path, location: Path, statements: Sequence[RestoreStatement]
) -> Path | None:
    with closing(sqlite3.connect(data)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        for each in statements:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if (each.table,) in names.fetchall():
                connection.execute(each.sql)
        connection.commit()
    archive.sync_to_disk(data)
    previous = location.with_name(f"{location.name}.before-restore-{_file_timestamp()}")
    return previous if sqlite_file.replace_sqlite_file(data, location, previous) else None


def _restore_server(
    url: str, data: Path, manifest: BackupManifest, statements: Sequence[RestoreStatement]
) -> None:
    table_counts.run_on_snapshot(url, require_unused)
    tools = postgres_dump.find_tools(
        table_counts.run_on_snapshot(url, postgres_dump.server_major_version)
    )
    postgres_dump.replace_database(
        tools,
        url,
        data,
        manifest.tables,
        [each.sql for each in statements if each.table in manifest.tables],
    )


def require_unused(connection: Connection) -> None:
    """Raise ``Conflict`` if another Homeroom process is connected to the database."""
    others = connection.exec_driver_sql(table_counts.COUNT_OTHER_CONNECTIONS).scalar_one()
    if others:
        raise table_counts.database_in_use(others)


def _require_empty_database(location: Path | str, *, force: bool) -> None:
    if force:
        return
    if database_has_rows(location):
        raise Conflict(
            "The database holds rows already, which a restore would replace.",
            hint="Use --force to replace all of it, or name another database.",
        )


def database_has_rows(location: Path | str) -> bool:
    """Return whether any table of a database has a row; an unreadable file has some."""
    if isinstance(location, Path):
        return sqlite_file.file_has_rows(location)
    return server_has_rows(location)


def server_has_rows(url: str) -> bool:
    """Return whether any table of a PostgreSQL database has a row."""
    counts = table_counts.run_on_snapshot(
        url, lambda connection: table_counts.count_tables(connection, IntegrityRules(), "")
    )
    return any(counts.tables.values())


def _extract_keys(backup: BackupArchive, folder: Path) -> dict[str, Path]:
    """Extract the secret files of a backup into a folder, and return them by name."""
    secret_files = {}
    for number, member in enumerate(backup.manifest.keys):
        path = folder / f"key-{number}"
        backup.extract(member, path)
        secret_files[member.name.removeprefix(KEYS_PREFIX)] = path
    return secret_files


def _require_same_keys(secret_files: Mapping[str, Path], keys: Path, *, force: bool) -> None:
    for name, path in secret_files.items():
        existing = keys / name
        if not force and existing.exists() and existing.read_bytes() != path.read_bytes():
            raise Conflict(
                f"{existing} is another file than the one in the backup.",
                hint="Use --force to replace it, or move it away.",
            )


def _write_keys(secret_files: Mapping[str, Path], keys: Path) -> None:
    for name, path in secret_files.items():
        target = keys / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = archive.temporary_path_beside(target, "new")
        new.touch(mode=0o600)
        new.write_bytes(path.read_bytes())
        os.replace(new, target)
        archive.sync_to_disk(target.parent)


def _file_timestamp() -> str:
    """Return the current instant as a part of a file name."""
    return to_datetime(Clock().now()).strftime("%Y%m%dT%H%M%S%fZ")
