"""Back a database up into one file, judge such a file or the database itself, and restore it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from homeroom.clock import Clock, to_datetime
from homeroom.db import archive, inventory, postgres_dump, sqlite_file
from homeroom.db.archive import KEYS, Archive, Damaged, Manifest
from homeroom.db.inventory import Inventory
from homeroom.db.migrate import (
    head,
    is_newer,
    on_database,
    refuse_other_schema,
    revision_of,
    upgrade,
)
from homeroom.db.proof import Proof
from homeroom.db.sqlite_tx import mapped
from homeroom.errors import BadRequest, ConfigurationError, Conflict

BEFORE_UPGRADE = "before-upgrade"
KEPT_BEFORE_UPGRADE = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is in a backup or a database, and what is wrong with it."""

    held: Inventory
    faults: Sequence[str]
    made_at: str | None = None
    """When the backup was made (RFC 3339); None for a database."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and where the database is that was there before."""

    manifest: Manifest
    kept: Path | None
    erased: int | None
    """How many people were erased again, whom the database had erased since the backup.

    None where it could not be asked.
    """


class Erasing(Protocol):
    """What a restore asks of those who erase people."""

    def known(self, opened: Connection) -> Sequence[tuple[Any, ...]]:
        """Return what a database remembers of erasures."""

    def repeat(self, opened: Connection, erasures: Sequence[tuple[Any, ...]]) -> None:
        """Do erasures again."""


@mapped()
def back_up(place: Path | str, file: Path, keys: Path, proof: Proof) -> Manifest:
    """Write a backup of a database, in use or not, and of the files in the folder ``keys``.

    Raises ``Conflict`` for a file that is there, ``ConfigurationError`` without PostgreSQL's tools
    or a database, and ``Damaged`` for a SQLite file that is.
    """
    archive.refuse_existing(file)
    secret = _files_in(keys)
    if isinstance(place, Path):
        if not place.exists():
            raise ConfigurationError(f"There is no database at {place}.")
        with TemporaryDirectory(prefix=".homeroom-", dir=file.parent) as folder:
            return _back_up_file(place, Path(folder), file, secret, proof)
    with TemporaryDirectory(prefix=".homeroom-", dir=file.parent) as folder:
        data = Path(folder) / archive.DATA["postgresql"]
        held = inventory.snapshot(place, lambda opened: _dump(opened, place, data, proof))
        return archive.write(file, "postgresql", held, data, secret)


def _back_up_file(
    place: Path, folder: Path, file: Path, secret: Mapping[str, Path], proof: Proof
) -> Manifest:
    data = folder / archive.DATA["sqlite"]
    sqlite_file.copy_of(place, data)
    held = inventory.snapshot(data, lambda opened: _sound(opened, proof))
    return archive.write(file, "sqlite", held, data, secret)


def _sound(opened: Connection, proof: Proof) -> Inventory:
    """Take stock of a file whose structure is sound; what the rows say is for ``verify``."""
    found = inventory.damage(opened)
    if found:
        raise Damaged(
            found[0], hint="Make no more backups over good ones; restore the last good one."
        )
    return inventory.take(opened, proof, head())


def _dump(opened: Connection, url: str, to: Path, proof: Proof) -> Inventory:
    """Dump what this snapshot holds and count the same; what is written meanwhile is in neither."""
    refuse_other_schema(opened)
    tools = postgres_dump.find(postgres_dump.server_major(opened))
    snapshot = str(opened.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())
    postgres_dump.dump(tools, url, snapshot, to)
    return inventory.take(opened, proof, head())


def _files_in(keys: Path) -> dict[str, Path]:
    """Return the secret files by their names below the folder."""
    if not keys.is_dir():
        return {}
    files = sorted(path for path in keys.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(keys).as_posix(): path for path in files}


def back_up_before_upgrade(place: Path, keys: Path, proof: Proof) -> Path | None:
    """Back up a file beside itself if an upgrade would change it; keep the last three of these."""
    if not place.exists() or place.stat().st_size == 0:
        return None
    current = inventory.snapshot(place, revision_of)
    if current is None or current == head() or is_newer(current):
        return None
    moment = to_datetime(Clock().now()).strftime("%Y%m%dT%H%M%S%fZ")
    file = place.with_name(f"{place.name}.{BEFORE_UPGRADE}-{moment}.zip")
    back_up(place, file, keys, proof)
    kept = sorted(place.parent.glob(f"{place.name}.{BEFORE_UPGRADE}-*.zip"))
    for old in kept[:-KEPT_BEFORE_UPGRADE]:
        old.unlink()
    return file


def verify(place: Path | str, proof: Proof) -> Verdict:
    """Judge a database, in use or not: its structure, its sums, its ledger."""
    return inventory.snapshot(place, lambda opened: _judged(opened, proof))


def _judged(opened: Connection, proof: Proof) -> Verdict:
    """Look at the structure first: in a damaged file nothing can be counted on."""
    found = inventory.damage(opened)
    if found:
        return Verdict(Inventory(None), found)
    held = inventory.take(opened, proof, head())
    if held.revision != head():  # the checks speak of this release's tables
        return Verdict(held, ())
    return Verdict(held, inventory.judge(opened, proof.checks))


def verify_backup(file: Path, proof: Proof) -> Verdict:
    """Judge a backup, reading all of it; raise ``Damaged``, or ``BadRequest`` for what is none."""
    with (
        archive.opened(file) as found,
        TemporaryDirectory(prefix=".homeroom-", dir=_room_beside(file)) as folder,
    ):
        _extract_keys(found, Path(folder))
        return _verified(found, Path(folder) / "data", proof)


def _room_beside(file: Path) -> Path | None:
    """Return the folder of a backup, where there is room for another; None if it is read-only."""
    return file.parent if os.access(file.parent, os.W_OK) else None


def _verified(found: Archive, data: Path, proof: Proof) -> Verdict:
    """Write the database of a backup to ``data`` and judge it."""
    manifest = found.manifest
    found.extract(manifest.data, data)
    held = manifest.inventory
    if manifest.kind == "postgresql":
        rows = postgres_dump.rows_in(postgres_dump.find(), data)
        differs = held.differences(Inventory(held.revision, rows, held.totals))
        return Verdict(held, _as_faults(differs), manifest.made_at)
    verdict = verify(data, proof)
    if verdict.held.revision is None:
        return Verdict(held, verdict.faults, manifest.made_at)
    # sums are those of the release that made it
    totals = held.totals if held.revision != head() else verdict.held.totals
    there = Inventory(verdict.held.revision, verdict.held.tables, totals)
    differs = held.differences(there)
    return Verdict(held, [*_as_faults(differs), *verdict.faults], manifest.made_at)


def _as_faults(differences: Sequence[str]) -> list[str]:
    return [f"The manifest and the data differ in {each}." for each in differences]


@mapped()
def restore(
    place: Path | str, file: Path, keys: Path, proof: Proof, erasing: Erasing, *, force: bool
) -> Restored:
    """Put a backup in the place of a database, all of it or nothing.

    Whom the database has erased since then is erased again, for which a backup of an earlier
    release is brought to this one. The backup is judged before anything is changed.

    Raises ``Conflict`` for a database that holds rows, unless ``force``, and for one that is in
    use; ``BadRequest`` for a backup of another kind.
    """
    kind = "sqlite" if isinstance(place, Path) else "postgresql"
    if isinstance(place, Path):
        place = place.resolve()  # the file goes where it was, and not in a link's place
    with archive.opened(file) as found:
        if found.manifest.kind != kind:
            raise BadRequest(
                f"{file} holds a {found.manifest.kind} database, and this one is {kind}.",
                hint="Restore it where it came from, then use: homeroom db copy --to URL",
            )
        if isinstance(place, Path):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        room = place.parent if isinstance(place, Path) else _room_beside(file)
        with TemporaryDirectory(prefix=".homeroom-", dir=room) as folder:
            data = Path(folder) / "data"
            verdict = _verified(found, data, proof)
            if verdict.faults:
                raise Damaged(
                    f"{file} is not sound, so nothing was changed: {verdict.faults[0]}",
                    hint="Look at all of it with: homeroom db verify FILE",
                )
            secret = _extract_keys(found, Path(folder))
            _refuse_other_keys(secret, keys, force=force)
            _refuse_rows(place, force=force)
            known = _known_erasures(place, erasing)
            kept = None
            if isinstance(place, Path):
                erased = _erase_again(data, known or [], erasing)
                kept = _restore_file(data, place)
                _put_keys(secret, keys)
            else:
                inventory.snapshot(place, refuse_served)
                owed = file.with_name(f"{file.name}.erasures")
                _remember(owed, known or [])
                _restore_server(place, data, found.manifest)
                _put_keys(secret, keys)
                erased = _erase_again(place, _remembered(owed), erasing)
                owed.unlink(missing_ok=True)
        return Restored(found.manifest, kept, None if known is None else erased)


def _known_erasures(place: Path | str, erasing: Erasing) -> Sequence[tuple[Any, ...]] | None:
    """Return whom the database that is replaced has erased; None where it cannot be asked."""
    if isinstance(place, Path) and not place.exists():
        return None

    def work(opened: Connection) -> Sequence[tuple[Any, ...]] | None:
        return None if revision_of(opened) is None else erasing.known(opened)

    try:
        return inventory.snapshot(place, work)
    except (DatabaseError, sqlite3.DatabaseError):
        if isinstance(place, Path):
            return None  # a restore is what a damaged file needs
        raise


def _remember(owed: Path, known: Sequence[tuple[Any, ...]]) -> None:
    """Write erasures down before the database that knows them is replaced.

    A restore that was interrupted is begun again, and finds them there; those of both count.
    """
    rows = {row[0]: row for row in (*_remembered(owed), *known)}
    if rows:
        owed.touch(mode=0o600)
        owed.write_text(json.dumps(list(rows.values())), encoding="utf-8")
        archive.synced(owed)


def _remembered(owed: Path) -> list[tuple[Any, ...]]:
    if not owed.exists():
        return []
    return [tuple(row) for row in json.loads(owed.read_text(encoding="utf-8"))]


def _erase_again(place: Path | str, known: Sequence[tuple[Any, ...]], erasing: Erasing) -> int:
    """Do those erasures again that a restored database does not know of; return how many."""

    def work(opened: Connection) -> int:
        there = {row[0] for row in erasing.known(opened)}
        return len([row for row in known if row[0] not in there])

    if not known or not inventory.snapshot(place, work):
        return 0
    upgrade(place)

    def again(opened: Connection) -> int:
        with opened.begin():
            there = {row[0] for row in erasing.known(opened)}
            missing = [row for row in known if row[0] not in there]
            erasing.repeat(opened, missing)
            return len(missing)

    return on_database(place, again)


def _restore_file(data: Path, place: Path) -> Path | None:
    with closing(sqlite3.connect(data)) as opened:
        opened.execute("PRAGMA journal_mode=DELETE")
    archive.synced(data)
    moment = to_datetime(Clock().now()).strftime("%Y%m%dT%H%M%S%fZ")
    kept = place.with_name(f"{place.name}.before-restore-{moment}")
    return kept if sqlite_file.put_in_place(data, place, kept) else None


def _restore_server(url: str, data: Path, manifest: Manifest) -> None:
    inventory.snapshot(url, refuse_served)
    tools = postgres_dump.find(inventory.snapshot(url, postgres_dump.server_major))
    postgres_dump.replace(tools, url, data, manifest.tables)


def refuse_served(opened: Connection) -> None:
    """Raise ``Conflict`` where another process of Homeroom's is connected to the database."""
    others = opened.exec_driver_sql(inventory.SERVED).scalar_one()
    if others:
        raise inventory.served(others)


def _refuse_rows(place: Path | str, *, force: bool) -> None:
    if force:
        return
    full = sqlite_file.has_rows(place) if isinstance(place, Path) else server_has_rows(place)
    if full:
        raise Conflict(
            "The database holds rows already, which a restore would replace.",
            hint="Say --force to replace all of it, or name another one.",
        )


def server_has_rows(url: str) -> bool:
    """Say whether any table of a database on a server has a row."""
    return any(inventory.snapshot(url, lambda o: inventory.take(o, Proof(), "")).tables.values())


def _extract_keys(found: Archive, folder: Path) -> dict[str, Path]:
    """Write the secret files of a backup below a folder, and return them by name."""
    secret = {}
    for number, member in enumerate(found.manifest.keys):
        path = folder / f"key-{number}"
        found.extract(member, path)
        secret[member.name.removeprefix(KEYS)] = path
    return secret


def _refuse_other_keys(secret: Mapping[str, Path], keys: Path, *, force: bool) -> None:
    for name, path in secret.items():
        there = keys / name
        if not force and there.exists() and there.read_bytes() != path.read_bytes():
            raise Conflict(
                f"{there} is another file than the one in the backup.",
                hint="Say --force to replace it, or move it away.",
            )


def _put_keys(secret: Mapping[str, Path], keys: Path) -> None:
    for name, path in secret.items():
        there = keys / name
        there.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        there_new = archive.beside(there, "new")
        there_new.touch(mode=0o600)
        there_new.write_bytes(path.read_bytes())
        os.replace(there_new, there)
        archive.synced(there.parent)
